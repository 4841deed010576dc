"""Series of slow measurements: CSV, TSV, text in columns and .npy files, and the stages they need."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from snn_datasets.contents import is_events_header, why_unreadable
from snn_datasets.kinds import RecordingKind
from snn_datasets.listing import join_names
from snn_datasets.reader import Reader, ReadError, Source
from snn_datasets.recordings import Series
from snn_datasets.series_table import (
    SECONDS,
    TIME_NAMES,
    Table,
    TimeUnit,
    npy_table,
    text_table,
    time_unit_of,
)
from snn_datasets.stage import Draw, Stage


class SeriesReader(Reader):
    """Reads measurements: a row a point in time, a column a channel.

    Text may have comment lines that begin with # and one line of names; its numbers need decimal points. Columns of row
    numbers, as pandas writes them, are no channels. A .npy file holds numbers [L, C] or [L]. Time is a column, or
    evenly spaced if `rate` says how. The part of a source, (start, stop) in seconds from its first row, takes
    start <= time < stop; time then counts from start. Text is read as a whole for every part: keep long recordings as
    .npy, which is mapped into memory.
    """

    kind: Literal["series"] = "series"
    """Names this reader."""
    gives: ClassVar[RecordingKind] = "series"
    rate: float | None = Field(default=None, gt=0)
    """Rows per second where no column is time."""
    time_column: str | int | None = None
    """Name or number (from 0) of the column that is time; none takes the one whose name says so, if any: t, time,
    timestamp, time_ms, Time (s), seconds, ..."""
    time_unit: TimeUnit | None = None
    """Unit of that column; none takes the one in its name, else seconds."""
    columns: tuple[str | int, ...] = ()
    """Names or numbers (from 0) of the channels, in this order; empty takes every column but time."""
    delimiter: Literal["auto", ",", ";", "tab", "whitespace"] = "auto"
    """What separates the columns of text; auto takes the first of tab, semicolon and comma that occurs."""
    header: bool | None = None
    """Whether text has a line of names; none says yes if its first line has no number at all, or counts the columns
    as pandas does (0,1,2); fewer than three that do are asked about."""

    def read(self, source: Source) -> Series:
        """Read one series.

        Raises:
            FileNotFoundError: there is no such file.
            ReadError: it holds no such table, a value is missing, not a number or infinite, or time does not increase.
        """
        table = self._table(source)
        path = table.path
        time = self._time_column(table)
        channels = self._channels(table, time)
        if not channels:
            raise ReadError(f"{path} has time and nothing else; it needs a column with values")
        if time is None:
            if self.rate is None:
                raise ReadError(
                    f"{path} has no column named {', '.join(TIME_NAMES)} among {table.described()}; give its reader "
                    "time_column, which names one, or rate, the rows per second (for a column of a manifest: "
                    "columns.<sense>.reader.kind, which is series, and columns.<sense>.reader.rate)"
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
        start, stop = _span_of(source)
        first, end = np.searchsorted(times, [start, stop]).tolist()
        if first == end:
            raise ReadError(f"{source} has no row between these seconds; it lasts until {times[-1]:g} s")
        # What float32 cannot hold becomes infinite, and is refused.
        with np.errstate(over="ignore", invalid="ignore"):
            values = np.array(numbers[first:end], np.float32)
        names = [table.name_of(channel) for channel in channels]
        _refuse_wrong_values(path, values, first, names)
        _refuse_lost_differences(path, numbers[first:end], names)
        return Series(values, times[first:end] - start)

    def named_as_in(self, source: Source) -> SeriesReader:
        """Fix the names of the channels to those of a file; no change where the reader says which columns to take.

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
        """Whether a file says when its rows were measured.

        Raises:
            FileNotFoundError, ReadError: as `read` does.
        """
        return self._time_column(self._table(source)) is not None

    def _table(self, source: Source) -> Table:
        path = self.open_file(source)
        return npy_table(path) if path.suffix.lower() == ".npy" else text_table(path, self.delimiter, self.header)

    def _unit_of(self, table: Table, time: int) -> TimeUnit:
        named = time_unit_of(table.names[time]) if table.names else None
        return self.time_unit or ("s" if named is None or named == "unsaid" else named)

    def _channels(self, table: Table, time: int | None) -> list[int]:
        """Numbers of the columns that are channels, in the order in which they come out."""
        if self.columns:
            return [table.place_of(column) for column in self.columns]
        if is_events_header(table.names):
            raise ReadError(f"{table.path} is no series: {why_unreadable(table.path) or 'its columns are events'}")
        return table.channels(time)

    def _time_column(self, table: Table) -> int | None:
        if self.time_column is not None:
            return table.place_of(self.time_column)
        return table.time_column()


class NamedSeriesReader(SeriesReader):
    """Reads series whose channels are known by name: they come out in one order, whatever the order in a file.

    A file with more, fewer or other names, or with names where none are known, is refused: which of its columns is
    which channel would be a guess.
    """

    names: tuple[str, ...]
    """Of the channels; empty where the files name none."""

    def _channels(self, table: Table, time: int | None) -> list[int]:
        places = super()._channels(table, time)
        found = _names(table, places)
        if found == self.names:
            return places
        # Channels of the same name can only be told apart by their order.
        if sorted(found) != sorted(self.names) or len(set(found)) < len(found):
            raise ReadError(
                f"{table.path} has {_listed(found)}, but the first training file of its column has "
                f"{_listed(self.names)}; name them alike in all files, or give the column's reader the columns to take"
            )
        place_of = dict(zip(found, places, strict=True))
        return [place_of[name] for name in self.names]


def _names(table: Table, places: Sequence[int]) -> tuple[str, ...]:
    return tuple(table.names[place] for place in places) if table.names else ()


def _listed(names: Sequence[str]) -> str:
    return f"the channels {join_names(names)}" if names else "no names of channels"


class SubtractBaseline(Stage):
    """Subtract what came before: the mean of the first seconds, which are then left out. Nothing later is used.

    Shape: `Series` [L, C] -> [L', C], the rows from `seconds` on; time counts from there
    """

    seconds: float = Field(gt=0)
    """Length of the baseline from the start of the recording."""

    def __call__(self, value: Series, draw: Draw) -> Series:
        """Subtract each channel's own mean.

        Raises:
            ValueError: no value lies in the baseline, or none after it.
        """
        end = int(np.searchsorted(value.times, self.seconds))
        if not 0 < end < len(value.times):
            raise ValueError(
                f"a baseline of {self.seconds:g} s takes {end} of the {len(value.times)} values of a recording; it "
                "needs at least one and has to leave at least one"
            )
        baseline = value.values[:end].mean(0, dtype=np.float64)
        return Series((value.values[end:] - baseline).astype(np.float32), value.times[end:] - self.seconds)


class Standardize(Stage):
    """Subtract a mean and divide by a standard deviation, both fixed and by channel. Take them from training data.

    Shape: `Series` [L, C] -> [L, C]
    """

    mean: tuple[float, ...]
    """By channel."""
    std: tuple[float, ...]
    """By channel; where it is 0 the channel is constant and only its mean is subtracted."""

    @classmethod
    def of(cls, values: NDArray[np.floating[Any]]) -> Standardize:
        """The stage that gives these values [N, C] mean 0 and standard deviation 1.

        Raises:
            ValueError: there is no value.
        """
        if not len(values):
            raise ValueError("mean and standard deviation need at least one training value; there is none")
        return cls(
            mean=tuple(values.mean(0, dtype=np.float64).tolist()), std=tuple(values.std(0, dtype=np.float64).tolist())
        )

    def __call__(self, value: Series, draw: Draw) -> Series:
        """Standardize each channel.

        Raises:
            ValueError: the recording has another number of channels.
        """
        mean, std = np.array(self.mean), np.array(self.std)
        if not len(mean) == len(std) == value.values.shape[1]:
            raise ValueError(
                f"{len(mean)} means and {len(std)} standard deviations do not fit a recording of "
                f"{value.values.shape[1]} channels; give as many each"
            )
        return Series(((value.values - mean) / np.where(std > 0, std, 1)).astype(np.float32), value.times)


class Rectify(Stage):
    """Take absolute values, so that means over time measure how strongly a muscle is active rather than cancel out.

    Shape: `Series` [L, C] -> [L, C]
    """

    def __call__(self, value: Series, draw: Draw) -> Series:
        """Take absolute values."""
        return Series(np.abs(value.values), value.times)


class Window(Stage):
    """Cut out start <= time < start + seconds; time counts from there.

    Shape: `Series` [L, C] -> [L', C]
    """

    start: float = Field(default=0.0, ge=0)
    """In seconds."""
    seconds: float = Field(gt=0)
    """Its length."""

    def __call__(self, value: Series, draw: Draw) -> Series:
        """Cut.

        Raises:
            ValueError: no value lies in it.
        """
        first, end = np.searchsorted(value.times, [self.start, self.start + self.seconds]).tolist()
        if first == end:
            raise ValueError(
                f"no value lies between {self.start:g} and {self.start + self.seconds:g} s of a recording whose last "
                f"one is at {value.times[-1]:g} s; choose an earlier or longer window"
            )
        return Series(value.values[first:end].copy(), value.times[first:end] - self.start)


class ResampleSeries(Stage):
    """Interpolate linearly on even times. Average before (as `Steps` does) where there would be far fewer values.

    Shape: `Series` [L, C] -> [L', C], the first value at the time of the first, the last not after the last
    """

    rate: float = Field(gt=0)
    """Values per second."""

    def __call__(self, value: Series, draw: Draw) -> Series:
        """Interpolate each channel."""
        first, last = float(value.times[0]), float(value.times[-1])
        # A time that rounding alone puts behind the last one counts.
        times = first + np.arange(int(np.floor((last - first) * self.rate + 1e-6)) + 1) / self.rate
        values = np.empty((len(times), value.values.shape[1]), np.float32)
        for number, channel in enumerate(value.values.T):
            values[:, number] = np.interp(times, value.times, channel)
        return Series(values, times)


def _span_of(source: Source) -> tuple[float, float]:
    """Bounds in seconds that a source asks for."""
    if not source.part:
        return 0.0, np.inf
    if len(source.part) != 2 or isinstance(source.part[0], str) or isinstance(source.part[1], str):
        raise ReadError(f"{source}: the part of a series is (start, stop) in seconds, such as (1.5, 2.0)")
    return source.part[0], source.part[1]


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
        why = "is no later than the row before" if np.isfinite(times[row]) else "is no finite number"
        raise ReadError(
            f"{path}: row {row + 1}, column {name} {why}; time has to increase from row to row: sort the rows and drop "
            "repeated ones, or leave that column out and give rate"
        )


def _refuse_lost_differences(path: Path, numbers: NDArray[Any], names: Sequence[str]) -> None:
    """Refuse a channel of large numbers whose differences vanish in float32, such as 1e9, 1e9 + 1, 1e9 + 2."""
    low, high = numbers.min(0).astype(np.float64), numbers.max(0).astype(np.float64)
    largest = np.maximum(np.abs(low), np.abs(high))
    spacing = np.spacing(largest.astype(np.float32)).astype(np.float64)
    lost = (largest >= 2**24) & (high > low) & (high - low < 256 * spacing)
    if lost.any():
        column = int(lost.argmax())
        raise ReadError(
            f"{path}: column {names[column]} runs from {low[column]:.12g} to {high[column]:.12g}, but float32 tells "
            f"apart only steps of {spacing[column]:g} there; subtract an offset before saving, or leave the column out"
        )


def _refuse_wrong_values(path: Path, values: NDArray[np.float32], first: int, names: Sequence[str]) -> None:
    wrong = ~np.isfinite(values)
    if wrong.any():
        row, column = (int(place[0]) for place in wrong.nonzero())
        raise ReadError(
            f"{path}: row {first + row + 1}, column {names[column]} holds {values[row, column]}; a series needs finite "
            "numbers: fill such gaps, or leave out the rows or the column, before training"
        )
