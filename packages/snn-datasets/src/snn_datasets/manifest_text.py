"""A manifest as text: which encoding and separator it has, and its rows. Imports no torch."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Iterator
from pathlib import Path

from snn_datasets.file_signature import cure, describe

SEPARATORS = (",", "\t", ";", "|")
TEXT = (None, "UTF-16 text", "an empty file")
"""What a file may be that is read as text; a JSON array and the like may not."""

_SEP = re.compile(r"sep=(.)", re.I)


def require_table(path: Path) -> None:
    """Say what a file is that cannot be a table.

    Raises:
        ValueError: an Excel workbook, a web page, a Git-LFS pointer, ...
    """
    name = describe(path)
    if name in TEXT:
        return
    assert name is not None
    advice = cure(name) or "name a CSV file or a Parquet table, or let `scmrl data init` write one"
    raise ValueError(f"{path} is {name}, not a table of samples; {advice}")


def read_rows(path: Path) -> Iterator[tuple[int, list[str]]]:
    """The lines of a table that hold anything, each with its number from 1 and its cells; the first is the header.

    UTF-8 and UTF-16 are read. Columns may be separated by commas, tabs, semicolons or bars: by what a first line
    `sep=` says, or by what splits the header into most names. Comment lines (#) before the header are passed over.

    Raises:
        ValueError: it is no text, or a quoted cell does not end.
    """
    text, separator = _prepared(_decode(path))
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=separator, strict=True)
    try:
        for raw in reader:
            cells = [cell.strip() for cell in raw]
            if any(cells):  # neither a blank line nor one of separators only, as spreadsheets leave them at the end
                yield reader.line_num, cells
    except csv.Error as error:
        raise ValueError(f"{path}, row {reader.line_num}: {error}; check the double quotes of this row") from error


def _decode(path: Path) -> str:
    require_table(path)
    data = path.read_bytes()
    encoding = "utf-16" if data.startswith((b"\xff\xfe", b"\xfe\xff")) else "utf-8-sig"
    try:
        # A UTF-8 byte order mark, as spreadsheets write it, is no part of the first column's name.
        text = data.decode(encoding)
    except UnicodeDecodeError as error:
        row = data[: error.start].count(b"\n") + 1
        byte = data[error.start : error.start + 1]
        name = "UTF-16" if encoding == "utf-16" else "UTF-8"
        raise ValueError(
            f"{path}, row {row}: the byte {byte!r} is not {name}; save the file as CSV in UTF-8"
        ) from error
    if "\0" in text.partition("\n")[0]:
        raise ValueError(f"{path}, row 1: it holds zero bytes, as UTF-16 has them; save the file as CSV in UTF-8")
    return text


def _prepared(text: str) -> tuple[str, str]:
    """The text from its header on, with blank lines for what stood before it, and its separator."""
    lines = text.splitlines(keepends=True)
    separator: str | None = None
    blank = 0
    for line in lines:
        stripped = line.strip().strip('"')
        declaration = _SEP.fullmatch(stripped)
        if declaration is not None:
            separator = declaration[1]
        elif stripped and not (stripped.startswith("#") and not _is_header(stripped.lstrip("# "))):
            break
        blank += 1
    header = lines[blank].lstrip("# ") if blank < len(lines) else ""
    if separator is None:
        # The names of columns seldom hold a separator; where two would do, the comma is meant.
        separator = max(SEPARATORS, key=lambda mark: (_is_header(header, mark), header.count(mark), mark == ","))
    return "\n" * blank + header + "".join(lines[blank + 1 :]), separator


def _is_header(line: str, separator: str = "") -> bool:
    """Whether a line has the names of the columns that every manifest has."""
    for mark in separator or SEPARATORS:
        names = {name.strip().strip('"').lower() for name in line.split(mark)}
        if {"split", "label"} <= names:
            return True
    return False
