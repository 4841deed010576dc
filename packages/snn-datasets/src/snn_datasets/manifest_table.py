"""The rows of a manifest, checked before any recording is opened. Imports no torch."""

# pyarrow has no stubs.
# pyright: reportMissingTypeStubs=false, reportUnknownMemberType=false, reportUnknownVariableType=false
from __future__ import annotations

import csv
import io
import os
import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from snn_datasets.dataset import Split
from snn_datasets.kinds import Kind

SPLIT_NAMES: dict[str, Split] = {
    "train": "train", "val": "val", "validation": "val", "valid": "val", "dev": "val", "test": "test",
}  # fmt: skip
REQUIRED = ("split", "label")
RESERVED = (*REQUIRED, "sample_id", "group")
"""Columns that are no modality."""

ENDINGS: dict[Kind, tuple[str, ...]] = {
    "image": (".png", ".jpg", ".jpeg", ".bmp", ".webp", ".tif", ".tiff", ".pgm"),
    "video": (".mp4", ".m4v", ".mov", ".avi", ".mkv", ".webm", ".flv", ".mpg", ".mpeg"),
    "waveform": (".wav", ".flac", ".ogg", ".mp3", ".aif", ".aiff"),
    "events": (".npz", ".aedat"),
    "series": (".csv", ".tsv", ".txt", ".npy"),
}
"""What a file is taken for by the ending of its name, unless its column says which reader to use."""
KIND_OF: dict[str, Kind] = {ending: kind for kind, endings in ENDINGS.items() for ending in endings}

UTF16_MARKS = (b"\xff\xfe", b"\xfe\xff")
PARQUET_MARK = b"PAR1"
MODALITY_NAME = re.compile(r"[A-Za-z][A-Za-z0-9_-]*")
"""A modality's name becomes part of the names of files, options and parts of models."""


@dataclass(frozen=True, slots=True)
class TableRow:
    """One sample, as the manifest states it."""

    number: int
    """Line in a CSV file, whose header is line 1; in a Parquet table rows count from 1."""
    id: str
    split: Split
    label: str
    group: str | None
    """None when the manifest has no group column."""
    names: dict[str, str]
    """Modality -> file name as written; empty where it is absent."""
    files: dict[str, Path | None]
    """Modality -> where that file lies; None where it is absent."""


@dataclass(frozen=True, slots=True)
class Table:
    """A manifest whose rows are complete and unambiguous, and name files that exist."""

    path: Path
    rows: tuple[TableRow, ...]
    columns: tuple[str, ...]
    """Every modality column, whether it was asked for or not."""
    kinds: dict[str, Kind | None]
    """Modality -> what its files are, in the order asked for; None where a reader is named for it."""


@dataclass(frozen=True, slots=True)
class _Cells:
    """A table as it was read."""

    header: list[str]
    head: str
    """Where the header is, for messages."""
    rows: list[tuple[int, dict[str, str]]]
    """Each row as its number and {column: cell}."""
    unreadable: dict[str, str]
    """Columns of a Parquet table whose cells are no text -> what they are."""


def read_table(
    path: Path,
    *,
    root: Path,
    modalities: Sequence[str] = (),
    read_by_name: Collection[str] = (),
    missing: bool = False,
) -> Table:
    """Read a manifest.

    Args:
        path: a CSV file or a Parquet table.
        root: absolute folder that relative file names start from.
        modalities: columns to read, in this order; none means every column of file names.
        read_by_name: columns that a reader is named for, so that endings of file names say nothing.
        missing: whether a file that is not there is an absent modality rather than an error.

    Raises:
        ValueError: a mistake in the table, by row, column and value.
        FileNotFoundError: the table, or a file that it names, is not there.
        ImportError: pyarrow is needed for a Parquet table.
    """
    cells = _read_cells(path)
    columns = [column for column in cells.header if column not in RESERVED]
    chosen = list(modalities) or columns
    for modality in chosen:
        if modality not in columns:
            raise ValueError(
                f"{path}, {cells.head}: no modality column {modality!r}; the modality columns are "
                f"{', '.join(map(repr, columns)) or 'missing'}; rename a column or ask for another modality"
            )
        if modality in cells.unreadable:
            raise ValueError(
                f"{path}, {cells.head}: column {modality!r} holds {cells.unreadable[modality]}, not file names; "
                "write what it holds into files, or leave the column out by naming the modalities to read"
            )
        if not MODALITY_NAME.fullmatch(modality):
            raise ValueError(
                f"{path}, {cells.head}: column {modality!r} cannot name a modality, whose name is a letter (a to z), "
                "then letters, digits, _ or -; rename the column, or leave it out by naming the modalities to read"
            )
    if not chosen:
        raise ValueError(
            f"{path}, {cells.head}: no modality column beside {', '.join(cells.header)}; "
            "add one column of file names a modality"
        )
    kinds: dict[str, Kind | None] = {
        m: None if m in read_by_name else _kind_of_column(path, m, cells.rows) for m in chosen
    }
    for modality in chosen:
        if not any(row[modality] for _, row in cells.rows):
            raise ValueError(
                f"{path}, column {modality!r}: every cell is empty; write file names, or leave the column out by "
                "naming the modalities to read"
            )
    locate = _Locator(path, root, missing=missing)
    named = [column for column in columns if column not in cells.unreadable]
    rows = tuple(_row(path, locate, number, row, chosen, named) for number, row in cells.rows)
    _refuse_repeated_ids(path, rows, has_ids="sample_id" in cells.header)
    return Table(path, rows, tuple(columns), kinds)


def _read_cells(path: Path) -> _Cells:
    if not path.is_file():
        raise FileNotFoundError(
            f"no manifest at {path}; write a CSV file with columns split, label and one column of file names a "
            "modality, or let `scmrl data init` write one"
        )
    with path.open("rb") as file:
        is_parquet = file.read(len(PARQUET_MARK)) == PARQUET_MARK
    cells = _read_parquet(path) if is_parquet or path.suffix.lower() == ".parquet" else _read_csv(path)
    if not cells.rows:
        raise ValueError(f"{path} has no rows; write a header line {','.join(RESERVED)},... and one row a sample")
    return cells


def _read_csv(path: Path) -> _Cells:
    reader = csv.reader(io.StringIO(_decode(path), newline=""), strict=True)
    header: list[str] = []
    rows: list[tuple[int, dict[str, str]]] = []
    try:
        for raw in reader:
            cells = [cell.strip() for cell in raw]
            if not any(cells):  # a blank line, or one of commas only as spreadsheets leave them at the end
                continue
            if not header:
                header = cells
                _check_header(path, "row 1", header)
                continue
            if len(cells) != len(header):
                raise ValueError(
                    f"{path}, row {reader.line_num}: {len(cells)} cells where the header has {len(header)} columns, "
                    f"the last of them {cells[-1]!r}; put names that contain commas into double quotes"
                )
            rows.append((reader.line_num, dict(zip(header, cells, strict=True))))
    except csv.Error as error:
        raise ValueError(f"{path}, row {reader.line_num}: {error}; check the double quotes of this row") from error
    return _Cells(header, "row 1", rows, {})


def _decode(path: Path) -> str:
    data = path.read_bytes()
    if data.startswith(UTF16_MARKS):
        raise ValueError(f"{path}, row 1: the file is UTF-16, not UTF-8; save it as CSV in UTF-8")
    try:
        # A UTF-8 byte order mark, as spreadsheets write it, is no part of the first column's name.
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        row = data[: error.start].count(b"\n") + 1
        byte = data[error.start : error.start + 1]
        raise ValueError(f"{path}, row {row}: the byte {byte!r} is not UTF-8; save the file as CSV in UTF-8") from error


def _read_parquet(path: Path) -> _Cells:
    try:
        import pyarrow
        from pyarrow import parquet, types
    except ImportError as error:
        raise ImportError(
            f'{path} is a Parquet table, which pyarrow reads: pip install "snn-datasets[parquet]", '
            "or save the table as CSV"
        ) from error
    try:
        opened: Any = parquet.ParquetFile(path)
        with opened as file:
            schema: Any = file.schema_arrow
            header: list[str] = list(schema.names)
            _check_header(path, "header", header)
            kinds: dict[str, Any] = dict(zip(header, schema.types, strict=True))
            # Whole numbers are classes and ids as they stand; everything else has more than one way to be written.
            plain = {
                name: types.is_integer(kind) or types.is_null(kind) or _is_text(types, kind)
                for name, kind in kinds.items()
            }
            for column in RESERVED:
                if not plain.get(column, True):
                    raise ValueError(
                        f"{path}, header: column {column!r} holds {kinds[column]}, but it has to hold text or whole "
                        "numbers; store it as text"
                    )
            table = file.read(columns=[name for name, is_plain in plain.items() if is_plain])
            columns: dict[str, list[Any]] = {name: table.column(name).to_pylist() for name in table.column_names}
    except (pyarrow.ArrowException, OSError, UnicodeDecodeError) as error:
        raise ValueError(f"{path} cannot be read as a Parquet table: {error}; write it again, or as CSV") from error
    texts = {name: ["" if cell is None else str(cell).strip() for cell in cells] for name, cells in columns.items()}
    rows = [
        (number, dict(zip(texts, cells, strict=True)))
        for number, cells in enumerate(zip(*texts.values(), strict=True), start=1)
    ]
    return _Cells(header, "header", rows, {name: str(kinds[name]) for name in header if not plain[name]})


def _is_text(types: Any, kind: Any) -> bool:
    if types.is_dictionary(kind):
        kind = kind.value_type
    return bool(types.is_string(kind) or types.is_large_string(kind) or types.is_string_view(kind))


def _check_header(path: Path, head: str, header: list[str]) -> None:
    missing = [column for column in REQUIRED if column not in header]
    if missing:
        hint = "separate columns by commas" if len(header) == 1 and ";" in header[0] else "add it to the header"
        raise ValueError(f"{path}, {head}: no column {missing[0]!r} among {', '.join(map(repr, header))}; {hint}")
    for column in header:
        if not column:
            raise ValueError(
                f"{path}, {head}: column {header.index(column) + 1} has no name ({column!r}); name or remove it"
            )
        if header.count(column) > 1:
            raise ValueError(
                f"{path}, {head}: column {column!r} occurs {header.count(column)} times; rename or remove one"
            )


def _kind_of_column(path: Path, modality: str, rows: Sequence[tuple[int, dict[str, str]]]) -> Kind | None:
    """Tell from the endings of file names what a column holds; None if every cell is empty."""
    first: tuple[int, Kind] | None = None
    for number, cells in rows:
        name = cells[modality]
        if not name:
            continue
        suffix = Path(name).suffix.lower()
        kind = KIND_OF.get(suffix)
        if kind is None:
            known = "; ".join(f"{' '.join(endings)} ({kind})" for kind, endings in ENDINGS.items())
            raise ValueError(
                f"{_place(path, number, modality, name)}: unknown ending {suffix!r}; known are {known}; convert the "
                f"file, name a reader (columns.{modality}.reader), or leave the column out by naming the modalities "
                "to read"
            )
        if first is None:
            first = (number, kind)
        elif kind != first[1]:
            raise ValueError(
                f"{_place(path, number, modality, name)}: {kind} file in a column that starts with {first[1]} files "
                f"(row {first[0]}); give each kind a column of its own"
            )
    return first[1] if first is not None else None


def _row(
    path: Path,
    locate: _Locator,
    number: int,
    cells: Mapping[str, str],
    modalities: Sequence[str],
    columns: Sequence[str],
) -> TableRow:
    written = _filled(path, number, cells, "split", "a split")
    split = SPLIT_NAMES.get(written.lower())
    if split is None:
        raise ValueError(
            f"{_place(path, number, 'split', written)}: unknown split; use one of {', '.join(SPLIT_NAMES)}"
        )
    label = _filled(path, number, cells, "label", "a class name")
    if not any(cells[column] for column in columns):
        raise ValueError(
            f"{path}, row {number}: every cell of {', '.join(map(repr, columns))} is empty; a sample needs at least "
            "one file, so write its name or remove the row"
        )
    # Without ids a sample is known by its files, all of them, so that leaving a modality out renames nothing.
    id_ = _filled(path, number, cells, "sample_id", "an id") if "sample_id" in cells else None
    return TableRow(
        number=number,
        id=id_ or "+".join(cells[column] for column in columns),
        split=split,
        label=label,
        group=_filled(path, number, cells, "group", "a group name") if "group" in cells else None,
        names={modality: cells[modality] for modality in modalities},
        files={modality: locate(number, modality, cells[modality]) for modality in modalities},
    )


def _filled(path: Path, number: int, cells: Mapping[str, str], column: str, what: str) -> str:
    if not cells[column]:
        raise ValueError(f"{_place(path, number, column, '')}: the cell is empty; write {what} or remove the row")
    return cells[column]


class _Locator:
    """Finds the files that cells name, and refuses relative names that lead out of the root, through links too."""

    def __init__(self, path: Path, root: Path, *, missing: bool) -> None:
        self.path, self.root, self.missing = path, root, missing
        self._real_root = os.path.realpath(root)
        self._is_inside: dict[str, bool] = {}

    def __call__(self, number: int, modality: str, name: str) -> Path | None:
        if not name:
            return None
        if "\0" in name:
            raise ValueError(f"{_place(self.path, number, modality, name)}: no file name holds a zero byte; correct it")
        file = os.path.join(self.root, name)
        if not os.path.isabs(name) and not self._stays_inside(file):
            raise ValueError(
                f"{_place(self.path, number, modality, name)}: the name leads out of {self.root}; "
                "choose a root above all files, or write an absolute name"
            )
        if not self.missing and not os.path.isfile(file):
            raise FileNotFoundError(
                f"{_place(self.path, number, modality, name)}: no file at {file}; correct the name (upper and lower "
                "case count) or the root, empty the cell, or set on_error to missing to count it as absent"
            )
        return Path(file)

    def _stays_inside(self, file: str) -> bool:
        """Ask about each folder once: resolving links is slow, and many files share a folder."""
        if os.path.islink(file) or os.path.basename(file) in ("", os.curdir, os.pardir):
            return self._is_below_root(os.path.realpath(file))
        folder = os.path.dirname(file)
        if folder not in self._is_inside:
            self._is_inside[folder] = self._is_below_root(os.path.realpath(folder))
        return self._is_inside[folder]

    def _is_below_root(self, real: str) -> bool:
        return Path(real).is_relative_to(self._real_root)


def _refuse_repeated_ids(path: Path, rows: Sequence[TableRow], *, has_ids: bool) -> None:
    seen: dict[str, int] = {}
    for row in rows:
        if row.id in seen and has_ids:
            place = _place(path, row.number, "sample_id", row.id)
            raise ValueError(f"{place}: the id was used in row {seen[row.id]} already; give every row its own")
        if row.id in seen:
            raise ValueError(
                f"{path}, row {row.number}: the same files as row {seen[row.id]} ({row.id!r}); "
                "remove one of the rows, or add a sample_id column if both are meant"
            )
        seen[row.id] = row.number


def _place(path: Path, number: int, column: str, value: str) -> str:
    return f"{path}, row {number}, column {column!r}, value {value!r}"
