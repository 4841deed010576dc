"""The reader of series (slow measurements in CSV, TSV, text and .npy files), and stages on them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from snn_datasets.base.kinds import RecordingKind
from snn_datasets.base.listing import join_names
from snn_datasets.base.reader import Reader, ReadError, Source
from snn_datasets.base.recordings import Series
from snn_datasets.base.stage import Draw, Stage
from snn_datasets.formats.contents import is_events_header, why_unreadable
from snn_datasets.formats.series_table import (
    SECONDS,
    TIME_NAMES,
    SeriesTable,
    TimeUnit,
    open_npy_table,
    open_text_table,
    time_unit_of,
)


class SeriesReader(Reader):
    """Reads measurements: one row per point in time, one column per channel.

    Text may have comment lines that begin with # and a header line; numbers need decimal points. Row index columns, as
    pandas writes them, are not channels. A .npy file holds numbers [L, C] or [L]. Time is a column, or evenly spaced at
    `rate`. The part of a source, (start, stop) in seconds from its first row, selects start <= time < stop; time then
    counts from start. Text is parsed completely for every part: store long recordings as .npy, which is memory-mapped.
    """

    kind: Literal["series"] = "series"
    """Names this reader."""
    gives: ClassVar[RecordingKind] = "series"
    rate: float | None = Field(default=None, gt=0)
    """Rows per second, for files without a time column."""
    time_column: str | int | None = None
    """Name or index (from 0) of the time column; None takes the one named like time, if any: t, time, timestamp,
    time_ms, Time (s), seconds, ..."""
    time_unit: TimeUnit | None = None
    """Unit of the time column; None takes the one in its name, else seconds."""
    columns: tuple[str | int, ...] = ()
    """Names or indices (from 0) of the channels, in this order; empty takes every column but time."""
    delimiter: Literal["auto", ",", ";", "tab", "whitespace"] = "auto"
    """Column separator of text; auto takes the first of tab, semicolon and comma that occurs."""
    header: bool | None = None
    """Whether text has a header line. None detects it: the first line has no number, or counts the columns as pandas
    does (0,1,2); with fewer than three columns that is ambiguous and an error."""

    def read(self, source: Source) -> Series:
        """Read one series."""
        table = self._table(source)
        path = table.path
        time = self._time_column(table)
        channels = self._channels(table, time)
        if not channels:
            raise ReadError(f"{path} has only a time column; it needs at least one channel")
        if time is None:
            if self.rate is None:
                raise ReadError(
                    f"{path} has no column named {', '.join(TIME_NAMES)} among {table.describe_columns()}; set the "
                    "reader's time_column, or its rate in rows per second (for a column of a manifest: "
                    "columns.<modality>.reader.kind series and columns.<modality>.reader.rate)"
                )
            numbers = table.load(channels)
            times = np.arange(len(numbers)) / self.rate
        else:
            numbers = table.load([time, *channels])
            with np.errstate(over="ignore", invalid="ignore"):
                times = np.array(numbers[:, 0], np.float64) * SECONDS[self._unit_of(table, time)]
            _refuse_wrong_times(path, times, table.name_of(time), numbers.dtype)
            numbers = numbers[:, 1:]
            times -= times[0]
        start, stop = source.seconds() or (0.0, np.inf)
        first, end = np.searchsorted(times, [start, stop]).tolist()
        if first == end:
            raise ReadError(f"{source} has no row in this span; the file ends at {times[-1]:g} s")
        # Values outside the range of float32 become inf, and are refused.
        with np.errstate(over="ignore", invalid="ignore"):
            values = np.array(numbers[first:end], np.float32)
        names = [table.name_of(channel) for channel in channels]
        _refuse_wrong_values(path, values, first, names)
        _refuse_lost_differences(path, numbers[first:end], names)
        return Series(values, times[first:end] - start)

    def with_names_of(self, source: Source) -> SeriesReader:
        """Return a reader that requires the channel names of a file; this one if it selects its columns itself.

        Raises:
            FileNotFoundError, ReadError: as `read` does.
        """
        if self.columns:
            return self
        table = self._table(source)
        return NamedSeriesReader(
            **self.model_dump(), names=_names(table, self._channels(table, self._time_column(table)))
        )

    def has_time(self, source: Source) -> bool:
        """Return whether a file has a time column.

        Raises:
            FileNotFoundError, ReadError: as `read` does.
        """
        return self._time_column(self._table(source)) is not None

    def _table(self, source: Source) -> SeriesTable:
        path = self.open_file(source)
        if path.suffix.lower() == ".npy":
            return open_npy_table(path)
        return open_text_table(path, self.delimiter, self.header)

    def _unit_of(self, table: SeriesTable, time: int) -> TimeUnit:
        named = time_unit_of(table.names[time]) if table.names else None
        return self.time_unit or ("s" if named is None or named == "unstated" else named)

    def _channels(self, table: SeriesTable, time: int | None) -> list[int]:
        """Return the indices of the channels' columns, in output order."""
        if self.columns:
            return [table.index_of(column) for column in self.columns]
        if is_events_header(table.names):
            raise ReadError(f"{table.path} is not a series: {why_unreadable(table.path) or 'its columns are events'}")
        return table.channels(time)

    def _time_column(self, table: SeriesTable) -> int | None:
        if self.time_column is not None:
            return table.index_of(self.time_column)
        return table.time_column()


class NamedSeriesReader(SeriesReader):
    """Reads series with known channel names, and returns the channels in that order whatever the order in a file.

    A file with other names is refused, since matching its columns to channels would be a guess.
    """

    names: tuple[str, ...]
    """Channel names; empty if the files have none."""

    def _channels(self, table: SeriesTable, time: int | None) -> list[int]:
        indices = super()._channels(table, time)
        names = _names(table, indices)
        if names == self.names:
            return indices
        # Channels of the same name can only be distinguished by their order.
        if sorted(names) != sorted(self.names) or len(set(names)) < len(names):
            raise ReadError(
                f"{table.path} has {_describe_names(names)}, but the first training file of its column has "
                f"{_describe_names(self.names)}; use the same names in all files, or set the columns of the reader"
            )
        index_of = dict(zip(names, indices, strict=True))
        return [index_of[name] for name in self.names]


def _names(table: SeriesTable, indices: Sequence[int]) -> tuple[str, ...]:
    return tuple(table.names[index] for index in indices) if table.names else ()


def _describe_names(names: Sequence[str]) -> str:
    return f"the channels {join_names(names)}" if names else "no channel names"


class SubtractBaseline(Stage):
    """Subtract a baseline, the mean of the first seconds, and remove them. No later value is used.

    Shape: `Series` [L, C] -> [L', C], the rows from `seconds` on; time counts from there
    """

    seconds: float = Field(gt=0)
    """Length of the baseline from the start of the recording."""

    def __call__(self, value: Series, draw: Draw) -> Series:
        """Subtract the baseline of each channel.

        Raises:
            ValueError: no value lies in the baseline, or none after it.
        """
        end = int(np.searchsorted(value.times, self.seconds))
        if not 0 < end < len(value.times):
            raise ValueError(
                f"a baseline of {self.seconds:g} s takes {end} of the {len(value.times)} values of a recording; it "
                "must take at least one and leave at least one"
            )
        baseline = value.values[:end].mean(0, dtype=np.float64)
        return Series((value.values[end:] - baseline).astype(np.float32), value.times[end:] - self.seconds)


class Standardize(Stage):
    """Subtract a fixed mean and divide by a fixed standard deviation, per channel. Compute them on training data.

    Shape: `Series` [L, C] -> [L, C]
    """

    mean: tuple[float, ...]
    """Per channel."""
    std: tuple[float, ...]
    """Per channel; for a constant channel, std 0, only the mean is subtracted."""

    @classmethod
    def of(cls, values: NDArray[np.floating[Any]]) -> Standardize:
        """Return the stage that gives these values [N, C] mean 0 and standard deviation 1.

        Raises:
            ValueError: there are no values.
        """
        if not len(values):
            raise ValueError("mean and standard deviation need at least one training value, but there are none")
        return cls(
            mean=tuple(values.mean(0, dtype=np.float64).tolist()), std=tuple(values.std(0, dtype=np.float64).tolist())
        )

    def __call__(self, value: Series, draw: Draw) -> Series:
        """Standardize each channel.

        Raises:
            ValueError: the number of channels differs.
        """
        mean, std = np.array(self.mean), np.array(self.std)
        if not len(mean) == len(std) == value.values.shape[1]:
            raise ValueError(
                f"{len(mean)} means and {len(std)} standard deviations do not match a recording of "
                f"{value.values.shape[1]} channels; give one of each per channel"
            )
        return Series(((value.values - mean) / np.where(std > 0, std, 1)).astype(np.float32), value.times)


class Rectify(Stage):
    """Take absolute values, so that means over time measure muscle activity instead of canceling out.

    Shape: `Series` [L, C] -> [L, C]
    """

    def __call__(self, value: Series, draw: Draw) -> Series:
        """Take absolute values."""
        return Series(np.abs(value.values), value.times)


def _refuse_wrong_times(path: Path, times: NDArray[np.float64], name: str, stored: np.dtype[Any]) -> None:
    wrong = ~np.isfinite(times)
    with np.errstate(invalid="ignore"):
        wrong[1:] |= ~(np.diff(times) > 0)
    if wrong.any():
        row = int(wrong.argmax())
        if np.isfinite(times[row]) and times[row] == times[row - 1] and stored.kind == "f" and stored.itemsize < 8:
            raise ReadError(
                f"{path}: row {row + 1}, column {name} is no later than the row before, since {stored} cannot hold the "
                "difference; save times as float64, or subtract the first one before saving"
            )
        reason = "is no later than the row before" if np.isfinite(times[row]) else "is NaN or inf"
        raise ReadError(
            f"{path}: row {row + 1}, column {name} {reason}; time must increase from row to row: sort the rows and "
            "drop repeated ones, or leave that column out and set rate"
        )


def _refuse_lost_differences(path: Path, numbers: NDArray[Any], names: Sequence[str]) -> None:
    """Refuse a channel of large values whose differences vanish in float32, such as 1e9, 1e9 + 1, 1e9 + 2."""
    low, high = numbers.min(0).astype(np.float64), numbers.max(0).astype(np.float64)
    largest = np.maximum(np.abs(low), np.abs(high))
    spacing = np.spacing(largest.astype(np.float32)).astype(np.float64)
    lost = (largest >= 2**24) & (high > low) & (high - low < 256 * spacing)
    if lost.any():
        column = int(lost.argmax())
        raise ReadError(
            f"{path}: column {names[column]} ranges from {low[column]:.12g} to {high[column]:.12g}, where float32 has "
            f"a resolution of only {spacing[column]:g}; subtract an offset before saving, or leave the column out"
        )


def _refuse_wrong_values(path: Path, values: NDArray[np.float32], first: int, names: Sequence[str]) -> None:
    wrong = ~np.isfinite(values)
    if wrong.any():
        row, column = (int(index[0]) for index in wrong.nonzero())
        raise ReadError(
            f"{path}: row {first + row + 1}, column {names[column]} is {values[row, column]}; values must be finite: "
            "fill such gaps, or leave out the rows or the column, before training"
        )
