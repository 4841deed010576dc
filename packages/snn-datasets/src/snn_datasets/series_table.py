"""Tables of numbers in files, as series are kept: text in columns and .npy files. What is a header, an index, time."""

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

from snn_datasets.listing import join_names
from snn_datasets.reader import ReadError

TIME_NAMES = ("t", "time", "timestamp")
"""Names of columns taken for time; so are others with a unit, such as time_ms, "Time (s)" and seconds."""

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
"""What pandas calls the column of an index that has no name, when it writes it and when it has read it."""


def time_unit_of(name: str) -> TimeUnit | Literal["unsaid"] | None:
    """The unit that the name of a column of times states; "unsaid" if it states none, None if it is no name of time."""
    plain = re.sub(r"[\s_()\[\]/,.:-]+", " ", name.lower()).strip()
    if _TIME.fullmatch(plain):
        return "unsaid"
    if plain in _UNITS and plain not in ("s", "ms", "us", "ns"):
        return _UNITS[plain]
    if (elapsed := re.fullmatch(r"(\w+) elapsed", plain)) and elapsed[1] in _UNITS:
        return _UNITS[elapsed[1]]
    rest, _, unit = plain.rpartition(" ")
    rest = rest.removesuffix(" in")
    return _UNITS[unit] if unit in _UNITS and _TIME.fullmatch(rest) else None


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
class Table:
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
    first: tuple[str, ...] = ()
    """Cells of the first row of text."""

    def time_column(self) -> int | None:
        """The column that is time by its name.

        Raises:
            ReadError: several may be.
        """
        named = [number for number, name in enumerate(self.names) if time_unit_of(name) is not None]
        # T is temperature where another column is time.
        named = [number for number in named if len(self.names[number]) > 1] or named
        if len(named) > 1:
            raise ReadError(
                f"{self.path} has several columns that may be time: {join_names([self.names[n] for n in named])}; give "
                "its reader time_column, which names one, and columns, which names the channels"
            )
        return named[0] if named else None

    def channels(self, time: int | None) -> list[int]:
        """Columns that are measurements: neither time, nor the numbers of the rows, nor empty throughout.

        Raises:
            ReadError: a column without a name may be anything.
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
                    f"{self.path}: column {number} has no name and holds no row numbers; name it in the file, or give "
                    "its reader columns, which says what the channels are, and time_column if it is time"
                )
            indices.append(number)
        return indices

    def _is_index(self, number: int) -> bool:
        """Whether a column holds the numbers of the rows, as pandas writes them."""
        name = self.names[number]
        if not (_UNNAMED.fullmatch(name) or name.lower() == "index"):
            return False
        if number < len(self.first) and not re.fullmatch(r"\d+", self.first[number]):
            return False
        values = self.load([number])[:, 0]
        return bool((np.diff(values) == 1).all())

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
        return join_names(self.names) if self.names else f"columns 0 to {self.width - 1} without names"

    def load(self, columns: Sequence[int]) -> NDArray[Any]:
        """Those columns [L, len(columns)]; raises ReadError where a cell is no number."""
        if self.array is not None:
            every = list(columns) == list(range(self.width))
            return self.array if every else self.array[:, list(columns)]
        try:
            if ragged := self._ragged_row():
                raise ReadError(f"{self.path}: {ragged}")
            with self.path.open(encoding="utf-8-sig") as file:
                numbers: NDArray[np.float64] = np.loadtxt(
                    file, delimiter=self.delimiter, skiprows=self.skip, usecols=columns, quotechar='"', ndmin=2
                )
            if not len(numbers):
                raise ValueError("it has no row of numbers")
            return numbers
        except ReadError:
            raise
        except Exception as error:
            reason = self._wrong_cell(columns) or str(error)
            raise ReadError(f"{self.path}: {reason}; correct it, or choose the columns that hold numbers") from error

    def _ragged_row(self) -> str | None:
        """The first row of more or fewer cells than the first one, if any."""
        row = 0
        with self.path.open(encoding="utf-8-sig") as file:
            for number, line in enumerate(islice(file, self.skip, None), start=self.skip + 1):
                if not _content(line):
                    continue
                row += 1
                # Counting is enough, and fast, where no separator can be quoted.
                plain = self.delimiter is not None and '"' not in line and "#" not in line
                cells = line.count(self.delimiter or "") + 1 if plain else len(_cells(line, self.delimiter))
                if cells != self.width:
                    why = "; numbers need decimal points, not commas" if self.delimiter == "," else ""
                    return (
                        f"row {row} (line {number}) has {cells} columns, but the first one has {self.width}{why}; "
                        "correct the file"
                    )
        return None

    def _wrong_cell(self, columns: Sequence[int]) -> str | None:
        """The first cell that is no number; slow, so only asked once something is wrong."""
        row = 0
        try:
            with self.path.open(encoding="utf-8-sig") as file:
                for number, line in enumerate(islice(file, self.skip, None), start=self.skip + 1):
                    if not _content(line):
                        continue
                    row += 1
                    cells = _cells(line, self.delimiter)
                    for column in columns:
                        if not _is_number(cells[column]):
                            cell = cells[column][:40]
                            comma = ", but a decimal comma" if re.fullmatch(r"-?\d+,\d+", cell) else ""
                            name = self.name_of(column)
                            return f"row {row}, column {name} holds {cell!r}, no number{comma} (line {number})"
        except (UnicodeDecodeError, csv.Error, IndexError):
            pass  # what numpy said has to do
        return None


def npy_table(path: Path) -> Table:
    """The columns of a .npy file, mapped into memory.

    Raises:
        ReadError: it holds no numbers of one or two axes.
    """
    array = map_npy(path, kinds="iuf", what="numbers [rows, columns]")
    if array.ndim not in (1, 2) or 0 in array.shape:
        raise ReadError(f"{path} holds numbers of shape {array.shape}; a series needs [rows, columns] or [rows]")
    array = array if array.ndim == 2 else array[:, None]
    return Table(path, array.shape[1], (), array)


def text_table(path: Path, delimiter: str, header: bool | None) -> Table:
    """The columns of a text file.

    Raises:
        ReadError: it is no text in columns, has no row of numbers, or its first line may be names or numbers.
    """
    try:
        lines = _first_lines(path, 3)
        if not lines:
            raise ReadError(f"{path} has no row of numbers; a series needs at least one")
        between = _sniffed(lines[0][1]) if delimiter == "auto" else _DELIMITERS[delimiter]
        first, second = (_cells(lines[n][1], between) if n < len(lines) else None for n in range(2))
        assert first is not None
        has_names = _is_header(path, first, second) if header is None else header
        if not has_names:
            # A separator that only the first line lacks would be missed.
            return Table(path, len(first), (), None, between, lines[0][0], tuple(first))
        if second is None:
            raise ReadError(f"{path} has no row of numbers; a series needs at least one")
        if delimiter == "auto":
            between = _sniffed(lines[1][1])
            second = _cells(lines[1][1], between)
            first = _cells(lines[0][1], between) if _sniffed(lines[0][1]) != between else first
    except (UnicodeDecodeError, csv.Error) as error:
        raise ReadError(f"{path} is no text in columns: {error}; save it as CSV in UTF-8, or as .npy") from error
    names = tuple(first)
    if len(second) == len(names) + 1:
        names = ("", *names)  # as R writes row names, and pandas an index without a label
    if len(names) != len(second):
        raise ReadError(
            f"{path} names {len(names)} columns, but its first row has {len(second)}; correct its first line"
        )
    return Table(path, len(second), names, None, between, lines[1][0], tuple(second))


def _first_lines(path: Path, count: int) -> list[tuple[int, str]]:
    """The first lines that hold anything, each with the number of lines before it."""
    with path.open(encoding="utf-8-sig") as file:
        return list(islice(((number, line) for number, line in enumerate(file) if _content(line)), count))


def _is_header(path: Path, first: Sequence[str], second: Sequence[str] | None) -> bool:
    """Whether the first line names the columns: it has no number at all, or counts them as pandas does.

    Raises:
        ReadError: it may be either.
    """
    if not any(map(_is_number, first)):
        return True
    counted = list(first[1:]) if first[0] == "" else list(first)
    if second is None or counted != [str(number) for number in range(len(counted))]:
        return False
    # Few columns, or a first one that goes on counting, may as well be numbers from the start.
    if first[0] == "" or (len(counted) > 2 and second[0] != "1"):
        return True
    raise ReadError(
        f"{path}: its first line, {','.join(first)}, may be the names that pandas gives to columns, or the first "
        "measurement; give its reader header, true or false"
    )


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
