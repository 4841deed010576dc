"""Series of slow measurements: CSV, TSV, text in columns and .npy files, and the stages they need."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any, ClassVar, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from snn_datasets.kinds import Kind
from snn_datasets.reader import Reader, ReadError, Source
from snn_datasets.recordings import Series
from snn_datasets.stage import Draw, Stage

TIME_NAMES = ("t", "time", "timestamp")
"""Names of columns taken for time, in any case."""

_TICKS = {"s": 1.0, "ms": 1e-3, "us": 1e-6}
_DELIMITERS = {",": ",", ";": ";", "tab": "\t", "whitespace": None}


class SeriesReader(Reader):
    """Reads measurements: a row a point in time, a column a channel.

    Text may have comment lines that begin with # and one line of names; its numbers need decimal points. A .npy file
    holds numbers [L, C] or [L]. Time is a column, or evenly spaced if `rate` says how. The part of a source,
    (start, stop) in seconds from its first row, takes start <= time < stop; time then counts from start. Text is read
    as a whole for every part: keep long recordings as .npy, which is mapped into memory.
    """

    kind: Literal["series"] = "series"
    """Names this reader."""
    gives: ClassVar[Kind] = "series"
    rate: float | None = Field(default=None, gt=0)
    """Rows per second where no column is time."""
    time_column: str | int | None = None
    """Name or number (from 0) of the column that is time; none takes the one named t, time or timestamp, if any."""
    time_unit: Literal["s", "ms", "us"] = "s"
    """Unit of that column."""
    columns: tuple[str | int, ...] = ()
    """Names or numbers (from 0) of the channels, in this order; empty takes every column but time."""
    delimiter: Literal["auto", ",", ";", "tab", "whitespace"] = "auto"
    """What separates the columns of text; auto takes the first of tab, semicolon and comma that occurs."""
    header: bool | None = None
    """Whether text has a line of names; none says yes if its first line has no number at all."""

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
                times = np.array(numbers[:, 0], np.float64) * _TICKS[self.time_unit]
            numbers = numbers[:, 1:]
            _refuse_wrong_times(path, times, table.name_of(time))
            times -= times[0]
        start, stop = _span_of(source)
        first, end = np.searchsorted(times, [start, stop]).tolist()
        if first == end:
            raise ReadError(f"{source} has no row between these seconds; it lasts until {times[-1]:g} s")
        # What float32 cannot hold becomes infinite, and is refused.
        with np.errstate(over="ignore", invalid="ignore"):
            values = np.array(numbers[first:end], np.float32)
        _refuse_wrong_values(path, values, first, [table.name_of(channel) for channel in channels])
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

    def _table(self, source: Source) -> _Table:
        path = self.open_file(source)
        return _npy_table(path) if path.suffix.lower() == ".npy" else _text_table(path, self.delimiter, self.header)

    def _channels(self, table: _Table, time: int | None) -> list[int]:
        """Numbers of the columns that are channels, in the order in which they come out."""
        if self.columns:
            return [table.place_of(column) for column in self.columns]
        return [number for number in range(table.width) if number != time]

    def _time_column(self, table: _Table) -> int | None:
        if self.time_column is not None:
            return table.place_of(self.time_column)
        named = [number for number, name in enumerate(table.names) if name.lower() in TIME_NAMES]
        return named[0] if named else None


class NamedSeriesReader(SeriesReader):
    """Reads series whose channels are known by name: they come out in one order, whatever the order in a file.

    A file with more, fewer or other names, or with names where none are known, is refused: which of its columns is
    which channel would be a guess.
    """

    names: tuple[str, ...]
    """Of the channels; empty where the files name none."""

    def _channels(self, table: _Table, time: int | None) -> list[int]:
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
        return [places[found.index(name)] for name in self.names]


def _names(table: _Table, places: Sequence[int]) -> tuple[str, ...]:
    return tuple(table.names[place] for place in places) if table.names else ()


def _listed(names: Sequence[str]) -> str:
    return f"the channels {', '.join(map(repr, names))}" if names else "no names of channels"


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


class Standardise(Stage):
    """Subtract a mean and divide by a standard deviation, both fixed and by channel. Take them from training data.

    Shape: `Series` [L, C] -> [L, C]
    """

    mean: tuple[float, ...]
    """By channel."""
    std: tuple[float, ...]
    """By channel; where it is 0 the channel is constant and only its mean is subtracted."""

    @classmethod
    def of(cls, values: NDArray[np.floating[Any]]) -> Standardise:
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
        """Standardise each channel.

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


def map_npy(path: Path, *, kinds: str, what: str) -> NDArray[Any]:
    """The array of a .npy file, mapped into memory and read-only; nothing in it is run as code.

    Args:
        path: the file, which is there.
        kinds: letters of the numpy kinds it may have: i and u integers, f floats, U and S text.
        what: what it should hold, for messages.

    Raises:
        ReadError: it is no such file, or is cut off.
    """
    try:
        # Mapped also because a header that claims more than the file holds is then refused before memory is taken.
        array: NDArray[Any] = np.asarray(np.lib.format.open_memmap(path, mode="r"))
    except Exception as error:  # a damaged header raises errors of many types
        raise ReadError(
            f"{path} cannot be read as a .npy file of {what}: {error or type(error).__name__}; fetch it again, or save "
            "it anew with numpy.save"
        ) from error
    if array.dtype.kind not in kinds or array.dtype.itemsize == 0:
        raise ReadError(f"{path} holds values of type {array.dtype}; it needs {what}")
    return array


@dataclass(frozen=True)
class _Table:
    """Columns of numbers in a file."""

    path: Path
    width: int
    names: tuple[str, ...]
    """Of the columns; empty where the file names none."""
    array: NDArray[Any] | None = None
    """[L, width], where it is a .npy file."""
    delimiter: str | None = None
    skip: int = 0
    """Lines of text before the first row."""

    def place_of(self, column: str | int) -> int:
        """Number of a column; raises ReadError where there is none."""
        if isinstance(column, str) and column in self.names:
            return self.names.index(column)
        if isinstance(column, int) and 0 <= column < self.width:
            return column
        raise ReadError(f"{self.path} has no column {column!r}; it has {self.described()}")

    def name_of(self, column: int) -> str:
        """How to call a column in a message."""
        return repr(self.names[column]) if self.names else str(column)

    def described(self) -> str:
        """Its columns, for messages."""
        return ", ".join(map(repr, self.names)) if self.names else f"columns 0 to {self.width - 1} without names"

    def load(self, columns: Sequence[int]) -> NDArray[Any]:
        """Those columns [L, len(columns)]; raises ReadError where a cell is no number."""
        if self.array is not None:
            every = list(columns) == list(range(self.width))
            return self.array if every else self.array[:, list(columns)]
        try:
            with self.path.open(encoding="utf-8-sig") as file:
                numbers: NDArray[np.float64] = np.loadtxt(
                    file, delimiter=self.delimiter, skiprows=self.skip, usecols=columns, quotechar='"', ndmin=2
                )
            if not len(numbers):
                raise ValueError("it has no row of numbers")
            return numbers
        except Exception as error:
            reason = self._wrong_cell(columns) or str(error)
            raise ReadError(f"{self.path}: {reason}; correct it, or choose the columns that hold numbers") from error

    def _wrong_cell(self, columns: Sequence[int]) -> str | None:
        """The first row that does not fit; slow, so only asked once something is wrong."""
        row = 0
        try:
            with self.path.open(encoding="utf-8-sig") as file:
                for line in islice(file, self.skip, None):
                    if not _content(line):
                        continue
                    row += 1
                    cells = _cells(line, self.delimiter)
                    if len(cells) != self.width:
                        return f"row {row} has {len(cells)} columns, but the first one has {self.width}"
                    for column in columns:
                        if not _is_number(cells[column]):
                            return f"row {row}, column {self.name_of(column)} holds {cells[column][:40]!r}, no number"
        except (UnicodeDecodeError, csv.Error):
            pass  # what numpy said has to do
        return None


def _npy_table(path: Path) -> _Table:
    array = map_npy(path, kinds="iuf", what="numbers [rows, columns]")
    if array.ndim not in (1, 2) or 0 in array.shape:
        raise ReadError(f"{path} holds numbers of shape {array.shape}; a series needs [rows, columns] or [rows]")
    array = array if array.ndim == 2 else array[:, None]
    return _Table(path, array.shape[1], (), array)


def _text_table(path: Path, delimiter: str, header: bool | None) -> _Table:
    names: tuple[str, ...] | None = () if header is False else None
    skip = 0
    try:
        with path.open(encoding="utf-8-sig") as file:
            for line in file:
                if _content(line):
                    between = _sniffed(line) if delimiter == "auto" else _DELIMITERS[delimiter]
                    cells = _cells(line, between)
                    if names is None and (header or not any(map(_is_number, cells))):
                        names = tuple(cells)
                    else:
                        break
                skip += 1
            else:
                raise ReadError(f"{path} has no row of numbers; a series needs at least one")
    except (UnicodeDecodeError, csv.Error) as error:
        raise ReadError(f"{path} is no text in columns: {error}; save it as CSV in UTF-8, or as .npy") from error
    if names and len(names) != len(cells):
        raise ReadError(
            f"{path} names {len(names)} columns, but its first row has {len(cells)}; correct its first line"
        )
    return _Table(path, len(cells), names or (), None, between, skip)


def _content(line: str) -> str:
    """What of a line is no comment."""
    return line.split("#", 1)[0].strip()


def _sniffed(line: str) -> str | None:
    return next((mark for mark in "\t;," if mark in line), None)


def _cells(line: str, delimiter: str | None) -> list[str]:
    if delimiter is None:
        return [cell.strip('"') for cell in _content(line).split()]
    return [cell.strip() for cell in next(csv.reader([line.split("#", 1)[0].strip("\r\n")], delimiter=delimiter))]


def _is_number(cell: str) -> bool:
    try:
        float(cell)
    except ValueError:
        return False
    return True


def _span_of(source: Source) -> tuple[float, float]:
    """Bounds in seconds that a source asks for."""
    if not source.part:
        return 0.0, np.inf
    if len(source.part) != 2 or isinstance(source.part[0], str) or isinstance(source.part[1], str):
        raise ReadError(f"{source}: the part of a series is (start, stop) in seconds, such as (1.5, 2.0)")
    return source.part[0], source.part[1]


def _refuse_wrong_times(path: Path, times: NDArray[np.float64], name: str) -> None:
    wrong = ~np.isfinite(times)
    with np.errstate(invalid="ignore"):
        wrong[1:] |= ~(np.diff(times) > 0)
    if wrong.any():
        row = int(wrong.argmax())
        why = "is no later than the row before" if np.isfinite(times[row]) else "is no finite number"
        raise ReadError(
            f"{path}: row {row + 1}, column {name} {why}; time has to increase from row to row: sort the rows and drop "
            "repeated ones, or leave that column out and give rate"
        )


def _refuse_wrong_values(path: Path, values: NDArray[np.float32], first: int, names: Sequence[str]) -> None:
    wrong = ~np.isfinite(values)
    if wrong.any():
        row, column = (int(place[0]) for place in wrong.nonzero())
        raise ReadError(
            f"{path}: row {first + row + 1}, column {names[column]} holds {values[row, column]}; a series needs finite "
            "numbers: fill such gaps, or leave out the rows or the column, before training"
        )
