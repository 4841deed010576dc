"""Tables of numbers in text and .npy files; detection of header lines, index columns and time columns."""

from __future__ import annotations

import csv
import re
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from snn_datasets.base.listing import join_names
from snn_datasets.base.reader import ReadError

TIME_NAMES = ("t", "time", "timestamp")
"""Names of time columns; names with a unit also match, such as time_ms, "Time (s)" and seconds."""

TimeUnit = Literal["s", "ms", "us", "ns"]
SECONDS: dict[TimeUnit, float] = {"s": 1.0, "ms": 1e-3, "us": 1e-6, "ns": 1e-9}
_UNITS: dict[str, TimeUnit] = {
    **dict.fromkeys(("s", "sec", "secs", "second", "seconds"), "s"),
    **dict.fromkeys(("ms", "msec", "millis", "millisecond", "milliseconds"), "ms"),
    **dict.fromkeys(("us", "\u00b5s", "\u03bcs", "usec", "micros", "microsecond", "microseconds"), "us"),
    **dict.fromkeys(("ns", "nsec", "nanos", "nanosecond", "nanoseconds"), "ns"),
}
_TIME = re.compile(r"(?:(?:elapsed|relative|system|device)[ _]*)?(?:time[ _]?stamps?|times?|t|elapsed)")
_DELIMITERS = {",": ",", ";": ";", "tab": "\t", "whitespace": None}
_UNNAMED = re.compile(r"(unnamed: \d+)?", re.I)
"""The name that pandas gives to the column of an unnamed index, when writing and when reading."""


def time_unit_of(name: str) -> TimeUnit | Literal["unstated"] | None:
    """Return the unit in the name of a time column; "unstated" if it has none, None if it is not a time column."""
    plain = re.sub(r"[\s_()\[\]/,.:-]+", " ", name.lower()).strip()
    if _TIME.fullmatch(plain):
        return "unstated"
    if plain in _UNITS and plain not in ("s", "ms", "us", "ns"):
        return _UNITS[plain]
    if (elapsed := re.fullmatch(r"(\w+) elapsed", plain)) and elapsed[1] in _UNITS:
        return _UNITS[elapsed[1]]
    rest, _, unit = plain.rpartition(" ")
    rest = rest.removesuffix(" in")
    return _UNITS[unit] if unit in _UNITS and _TIME.fullmatch(rest) else None


def map_npy(path: Path, *, kinds: str, what: str) -> NDArray[Any]:
    """Return the array of a .npy file, memory-mapped and read-only; pickled objects are refused.

    Args:
        path: an existing file.
        kinds: letters of the allowed numpy kinds: i and u integers, f floats, U and S text.
        what: the expected content, for messages.

    Raises:
        ReadError: it is not such a file, or is truncated.
    """
    try:
        # Mapping also refuses a header that claims more than the file holds before memory is allocated.
        array: NDArray[Any] = np.asarray(np.lib.format.open_memmap(path, mode="r"))
    except Exception as error:  # a damaged header raises errors of many types
        raise ReadError(
            f"{path} cannot be read as a .npy file of {what}: {error or type(error).__name__}; fetch it again, or save "
            "it again with numpy.save"
        ) from error
    if array.dtype.kind not in kinds or array.dtype.itemsize == 0:
        raise ReadError(f"{path} has values of type {array.dtype}, but {what} are expected")
    return array


@dataclass(frozen=True)
class SeriesTable:
    """Columns of numbers in a file."""

    path: Path
    width: int
    names: tuple[str, ...]
    """Column names; empty if the file has none."""
    array: NDArray[Any] | None = None
    """[L, width] of a .npy file."""
    delimiter: str | None = None
    skip: int = 0
    """Lines of text before the first row."""
    first: tuple[str, ...] = ()
    """Cells of the first row of text."""

    def time_column(self) -> int | None:
        """Return the index of the column that is named like time, if any.

        Raises:
            ReadError: several columns are.
        """
        candidates = [number for number, name in enumerate(self.names) if time_unit_of(name) is not None]
        # T means temperature if another column is time.
        candidates = [number for number in candidates if len(self.names[number]) > 1] or candidates
        if len(candidates) > 1:
            raise ReadError(
                f"{self.path} has several columns that may be time: {join_names([self.names[n] for n in candidates])}; "
                "set the reader's time_column, and its columns, the channels"
            )
        return candidates[0] if candidates else None

    def channels(self, time: int | None) -> list[int]:
        """Return the indices of the columns that are measurements: neither time, nor a row index, nor empty.

        Raises:
            ReadError: an unnamed column may be anything.
        """
        indices: list[int] = []
        for number in range(self.width):
            name = self.names[number] if self.names else str(number)
            if number == time or (self.names and self._is_index(number)):
                continue
            if self.names and _UNNAMED.fullmatch(name):
                if number == self.width - 1 and number < len(self.first) and not self.first[number]:
                    continue  # every line ends in a separator
                raise ReadError(
                    f"{self.path}: column {number} has no name and is not a row index; name it in the file, or set the "
                    "reader's columns, the channels, and its time_column if it is time"
                )
            indices.append(number)
        return indices

    def _is_index(self, number: int) -> bool:
        """Return whether a column is a row index, as pandas writes it."""
        name = self.names[number]
        if not (_UNNAMED.fullmatch(name) or name.lower() == "index"):
            return False
        if number < len(self.first) and not re.fullmatch(r"\d+", self.first[number]):
            return False
        values = self.load([number])[:, 0]
        return bool((np.diff(values) == 1).all())

    def index_of(self, column: str | int) -> int:
        """Return the index of a column; raises ReadError if there is none."""
        if isinstance(column, str) and column in self.names:
            return self.names.index(column)
        if isinstance(column, int) and 0 <= column < self.width:
            return column
        raise ReadError(f"{self.path} has no column {column!r}; it has {self.describe_columns()}")

    def name_of(self, column: int) -> str:
        """Return the name of a column for messages: quoted, or its index."""
        return repr(self.names[column]) if self.names else str(column)

    def describe_columns(self) -> str:
        """Describe the columns for messages."""
        return join_names(self.names) if self.names else f"columns 0 to {self.width - 1} without names"

    def load(self, columns: Sequence[int]) -> NDArray[Any]:
        """Return those columns [L, len(columns)]; raises ReadError if a cell is not a number."""
        if self.array is not None:
            is_whole = list(columns) == list(range(self.width))
            return self.array if is_whole else self.array[:, list(columns)]
        try:
            if ragged := self._ragged_row():
                raise ReadError(f"{self.path}: {ragged}")
            with self.path.open(encoding="utf-8-sig") as file:
                numbers: NDArray[np.float64] = np.loadtxt(
                    file, delimiter=self.delimiter, skiprows=self.skip, usecols=columns, quotechar='"', ndmin=2
                )
            if not len(numbers):
                raise ValueError("it has no numeric row")
            return numbers
        except ReadError:
            raise
        except Exception as error:
            reason = self._wrong_cell(columns) or str(error)
            raise ReadError(f"{self.path}: {reason}; correct it, or select only numeric columns") from error

    def _ragged_row(self) -> str | None:
        """Describe the first row whose number of cells differs from that of the first row, if any."""
        row = 0
        with self.path.open(encoding="utf-8-sig") as file:
            for number, line in enumerate(islice(file, self.skip, None), start=self.skip + 1):
                if not _content(line):
                    continue
                row += 1
                # Counting separators is fast, and enough if none can be quoted.
                plain = self.delimiter is not None and '"' not in line and "#" not in line
                cells = line.count(self.delimiter or "") + 1 if plain else len(_cells(line, self.delimiter))
                if cells != self.width:
                    hint = "; numbers need decimal points, not commas" if self.delimiter == "," else ""
                    return (
                        f"row {row} (line {number}) has {cells} columns, but the first one has {self.width}{hint}; "
                        "correct the file"
                    )
        return None

    def _wrong_cell(self, columns: Sequence[int]) -> str | None:
        """Describe the first cell that is not a number; slow, so only called after parsing failed."""
        row = 0
        try:
            with self.path.open(encoding="utf-8-sig") as file:
                for number, line in enumerate(islice(file, self.skip, None), start=self.skip + 1):
                    if not _content(line):
                        continue
                    row += 1
                    cells = _cells(line, self.delimiter)
                    for column in columns:
                        if not is_number(cells[column]):
                            cell = cells[column][:40]
                            hint = ": a decimal comma" if re.fullmatch(r"-?\d+,\d+", cell) else ""
                            name = self.name_of(column)
                            return f"row {row}, column {name} is {cell!r}, not a number{hint} (line {number})"
        except (UnicodeDecodeError, csv.Error, IndexError):
            pass  # fall back to numpy's message
        return None


def open_npy_table(path: Path) -> SeriesTable:
    """Open a .npy file as a memory-mapped table.

    Raises:
        ReadError: it does not hold numbers with one or two axes.
    """
    array = map_npy(path, kinds="iuf", what="numbers [rows, columns]")
    if array.ndim not in (1, 2) or 0 in array.shape:
        raise ReadError(f"{path} has shape {array.shape}; a series needs [rows, columns] or [rows]")
    array = array if array.ndim == 2 else array[:, None]
    return SeriesTable(path, array.shape[1], (), array)


def open_text_table(path: Path, delimiter: str, header: bool | None) -> SeriesTable:
    """Open a text file as a table.

    Raises:
        ReadError: it is not text in columns, has no numeric row, or its first line may be names or numbers.
    """
    try:
        lines = _first_lines(path, 3)
        if not lines:
            raise ReadError(f"{path} has no numeric row; a series needs at least one")
        separator = _detect_separator(lines[0][1]) if delimiter == "auto" else _DELIMITERS[delimiter]
        first, second = (_cells(lines[n][1], separator) if n < len(lines) else None for n in range(2))
        assert first is not None
        has_names = _is_header(path, first, second) if header is None else header
        if not has_names:
            return SeriesTable(path, len(first), (), None, separator, lines[0][0], tuple(first))
        if second is None:
            raise ReadError(f"{path} has no numeric row; a series needs at least one")
        if delimiter == "auto":
            # A header of one name has no separator, so that of the first row decides.
            separator = _detect_separator(lines[1][1])
            second = _cells(lines[1][1], separator)
            first = _cells(lines[0][1], separator) if _detect_separator(lines[0][1]) != separator else first
    except (UnicodeDecodeError, csv.Error) as error:
        raise ReadError(f"{path} is not text in columns: {error}; save it as CSV in UTF-8, or as .npy") from error
    names = tuple(first)
    if len(second) == len(names) + 1:
        names = ("", *names)  # R's row names, or a pandas index without a label
    if len(names) != len(second):
        raise ReadError(
            f"{path} names {len(names)} columns, but its first row has {len(second)}; correct its first line"
        )
    return SeriesTable(path, len(second), names, None, separator, lines[1][0], tuple(second))


def _first_lines(path: Path, count: int) -> list[tuple[int, str]]:
    """Return the first lines that are neither empty nor comments, each with the number of lines before it."""
    with path.open(encoding="utf-8-sig") as file:
        return list(islice(((number, line) for number, line in enumerate(file) if _content(line)), count))


def _is_header(path: Path, first: Sequence[str], second: Sequence[str] | None) -> bool:
    """Return whether the first line is a header: it has no number, or counts the columns as pandas does.

    Raises:
        ReadError: the line is ambiguous.
    """
    if not any(map(is_number, first)):
        return True
    counted = list(first[1:]) if first[0] == "" else list(first)
    if second is None or counted != [str(number) for number in range(len(counted))]:
        return False
    # With few columns, or a first column that continues counting, the line may as well be data.
    if first[0] == "" or (len(counted) > 2 and second[0] != "1"):
        return True
    raise ReadError(
        f"{path}: its first line, {','.join(first)}, may be column names written by pandas, or the first measurement; "
        "set the reader's header to true or false"
    )


def _content(line: str) -> str:
    """Return a line without its comment."""
    return line.split("#", 1)[0].strip()


def _detect_separator(line: str) -> str | None:
    return next((separator for separator in "\t;," if separator in line), None)


def _cells(line: str, delimiter: str | None) -> list[str]:
    if delimiter is None:
        return [cell.strip('"') for cell in _content(line).split()]
    return [cell.strip() for cell in next(csv.reader([line.split("#", 1)[0].strip("\r\n")], delimiter=delimiter))]


def is_number(cell: str) -> bool:
    """Check whether Python reads a text as a number."""
    try:
        float(cell)
    except ValueError:
        return False
    return True
