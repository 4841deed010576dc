"""The rows of a manifest, checked before any picture or recording is opened."""

from __future__ import annotations

import csv
import io
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from snn_datasets.audio import AUDIO_SUFFIXES
from snn_datasets.images import IMAGE_SUFFIXES

Split = Literal["train", "val", "test"]
Kind = Literal["image", "audio"]

SPLITS: dict[str, Split] = {
    "train": "train", "val": "val", "validation": "val", "valid": "val", "dev": "val", "test": "test",
}  # fmt: skip
REQUIRED = ("split", "label")
RESERVED = (*REQUIRED, "sample_id", "group")
"""Columns that are no modality."""

UTF16_MARKS = (b"\xff\xfe", b"\xfe\xff")


@dataclass(frozen=True, slots=True)
class Row:
    """One sample, as the manifest states it."""

    number: int
    """Line in the file; the header is line 1."""
    id: str
    split: Split
    label: str
    group: str | None
    """None when the manifest has no group column."""
    names: dict[str, str]
    """Modality -> file name as written."""
    files: dict[str, Path]
    """Modality -> where that file lies."""


@dataclass(frozen=True, slots=True)
class Table:
    """A manifest whose rows are complete, unambiguous, and name files that exist."""

    path: Path
    rows: tuple[Row, ...]
    kinds: dict[str, Kind]
    """Modality -> what its files are, in the order asked for."""

    def place(self, row: Row, modality: str) -> str:
        """Say where a file is named, for error messages."""
        return _place(self.path, row.number, modality, row.names[modality])


def read_table(path: Path, *, root: Path, modalities: Sequence[str]) -> Table:
    """Read a manifest; relative file names start from `root`; no modalities means every modality column."""
    header, lines = _read_cells(path)
    columns = [column for column in header if column not in RESERVED]
    chosen = list(modalities) or columns
    for modality in chosen:
        if modality not in columns:
            raise ValueError(
                f"{path}, row 1: no modality column {modality!r}; the modality columns are "
                f"{', '.join(map(repr, columns)) or 'missing'}; rename a column or ask for another modality"
            )
    if not chosen:
        raise ValueError(
            f"{path}, row 1: no modality column beside {', '.join(header)}; add one column of file names a modality"
        )
    kinds: dict[str, Kind] = {modality: _kind_of_column(path, modality, lines) for modality in chosen}
    rows = tuple(_row(path, root, number, cells, chosen, columns) for number, cells in lines)
    _refuse_repeated_ids(path, rows, has_ids="sample_id" in header)
    return Table(path, rows, kinds)


def _read_cells(path: Path) -> tuple[list[str], list[tuple[int, dict[str, str]]]]:
    """Return the header, and each row as its line number and {column: cell}."""
    reader = csv.reader(io.StringIO(_decode(path), newline=""), strict=True)
    header: list[str] = []
    lines: list[tuple[int, dict[str, str]]] = []
    try:
        for raw in reader:
            cells = [cell.strip() for cell in raw]
            if not any(cells):  # a blank line, or one of commas only as spreadsheets leave them at the end
                continue
            if not header:
                header = cells
                _check_header(path, header)
                continue
            if len(cells) != len(header):
                raise ValueError(
                    f"{path}, row {reader.line_num}: {len(cells)} cells where the header has {len(header)} columns, "
                    f"the last of them {cells[-1]!r}; put names that contain commas into double quotes"
                )
            lines.append((reader.line_num, dict(zip(header, cells, strict=True))))
    except csv.Error as error:
        raise ValueError(f"{path}, row {reader.line_num}: {error}; check the double quotes of this row") from error
    if not lines:
        raise ValueError(f"{path} has no rows; write a header line {','.join(RESERVED)},... and one row a sample")
    return header, lines


def _decode(path: Path) -> str:
    if not path.is_file():
        raise FileNotFoundError(
            f"no manifest at {path}; write a CSV file with columns split, label and one column of file names a modality"
        )
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


def _check_header(path: Path, header: list[str]) -> None:
    missing = [column for column in REQUIRED if column not in header]
    if missing:
        hint = "separate columns by commas" if len(header) == 1 and ";" in header[0] else "add it to the first line"
        raise ValueError(f"{path}, row 1: no column {missing[0]!r} among {', '.join(map(repr, header))}; {hint}")
    for column in header:
        if not column:
            raise ValueError(
                f"{path}, row 1: column {header.index(column) + 1} has no name ({column!r}); name or remove it"
            )
        if header.count(column) > 1:
            raise ValueError(
                f"{path}, row 1: column {column!r} occurs {header.count(column)} times; rename or remove one"
            )


def _kind_of_column(path: Path, modality: str, lines: Sequence[tuple[int, dict[str, str]]]) -> Kind:
    """Tell from the file name endings whether a column is of images or of recordings."""
    first: tuple[int, Kind] | None = None
    for number, cells in lines:
        name = _filled(path, number, cells, modality, "a file name")
        suffix = Path(name).suffix.lower()
        if suffix not in IMAGE_SUFFIXES | AUDIO_SUFFIXES:
            raise ValueError(
                f"{_place(path, number, modality, name)}: unknown ending {suffix!r}; convert the file to one of "
                f"{' '.join(sorted(IMAGE_SUFFIXES))} (image) or {' '.join(sorted(AUDIO_SUFFIXES))} (audio), "
                "or leave the column out by naming the modalities to read"
            )
        kind: Kind = "image" if suffix in IMAGE_SUFFIXES else "audio"
        if first is None:
            first = (number, kind)
        elif kind != first[1]:
            raise ValueError(
                f"{_place(path, number, modality, name)}: {kind} file in a column that starts with {first[1]} files "
                f"(row {first[0]}); give images and recordings a column each"
            )
    assert first is not None
    return first[1]


def _row(
    path: Path, root: Path, number: int, cells: dict[str, str], modalities: Sequence[str], columns: Sequence[str]
) -> Row:
    written = _filled(path, number, cells, "split", "a split")
    split = SPLITS.get(written.lower())
    if split is None:
        raise ValueError(f"{_place(path, number, 'split', written)}: unknown split; use one of {', '.join(SPLITS)}")
    # Without ids a sample is known by its files, all of them, so that leaving a modality out renames nothing.
    id_ = _filled(path, number, cells, "sample_id", "an id") if "sample_id" in cells else None
    return Row(
        number=number,
        id=id_ or "+".join(cells[column] for column in columns),
        split=split,
        label=_filled(path, number, cells, "label", "a class name"),
        group=_filled(path, number, cells, "group", "a group name") if "group" in cells else None,
        names={modality: cells[modality] for modality in modalities},
        files={modality: _locate(path, root, number, modality, cells[modality]) for modality in modalities},
    )


def _filled(path: Path, number: int, cells: dict[str, str], column: str, what: str) -> str:
    if not cells[column]:
        raise ValueError(f"{_place(path, number, column, '')}: the cell is empty; write {what} or remove the row")
    return cells[column]


def _locate(path: Path, root: Path, number: int, modality: str, name: str) -> Path:
    if not Path(name).is_absolute() and os.path.normpath(name).split(os.sep)[0] == os.pardir:
        raise ValueError(
            f"{_place(path, number, modality, name)}: the name leads out of {root}; "
            "choose a root above all files, or write an absolute name"
        )
    file = root / name
    if not file.is_file():
        raise FileNotFoundError(
            f"{_place(path, number, modality, name)}: no file at {file}; correct the name (upper and lower case count) "
            "or the root"
        )
    return file


def _refuse_repeated_ids(path: Path, rows: Sequence[Row], *, has_ids: bool) -> None:
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
