"""Read the text of a manifest: encoding, separator and rows. Does not import torch."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Callable, Iterator
from pathlib import Path

from snn_datasets.formats.file_signature import conversion_advice, format_of

SEPARATORS = (",", "\t", ";", "|")
TEXT = (None, "UTF-16 text", "an empty file")
"""File signatures that are read as text; a JSON array, for example, is not."""

_SEP = re.compile(r"sep=(.)", re.I)
_IsHeader = Callable[[set[str]], bool]
"""Whether cells, in lower case, are those of a header."""


def require_table(path: Path) -> None:
    """Reject a file that cannot be a table, naming what it is.

    Raises:
        ValueError: an Excel workbook, a web page, a Git-LFS pointer, ...
    """
    name = format_of(path)
    if name in TEXT:
        return
    assert name is not None
    advice = conversion_advice(name) or "give a CSV file or a Parquet table, or write one with `scmrl data init`"
    raise ValueError(f"{path} is {name}, not a table of samples; {advice}")


def read_rows(path: Path, is_header: _IsHeader, *, most: int | None = None) -> Iterator[tuple[int, list[str]]]:
    """Yield the non-empty lines of a table as line number (from 1) and cells; the first is the header.

    The encoding is UTF-8 or UTF-16. The separator is a comma, tab, semicolon or bar: the one that a first line `sep=`
    declares, or the one that splits the header into most names. Comment lines (#) before the header are skipped.

    Args:
        path: the table.
        is_header: recognizes a header by its names in lower case.
        most: bytes to read; None: all. Characters that the limit divides are replaced.

    Raises:
        ValueError: the file is not text, or a quoted cell does not end.
    """
    text, separator = _split_preamble(_decode(path, most), is_header)
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=separator, strict=True)
    try:
        for raw in reader:
            cells = [cell.strip() for cell in raw]
            if any(cells):  # skip blank lines and lines of separators only, which spreadsheets append
                yield reader.line_num, cells
    except csv.Error as error:
        raise ValueError(f"{path}, row {reader.line_num}: {error}; check the double quotes of this row") from error


def _decode(path: Path, most: int | None) -> str:
    require_table(path)
    with path.open("rb") as file:
        data = file.read(most)
    encoding = "utf-16" if data.startswith((b"\xff\xfe", b"\xfe\xff")) else "utf-8-sig"
    try:
        # Spreadsheets write a UTF-8 byte order mark, which is not part of the first column's name.
        text = data.decode(encoding, errors="strict" if most is None else "replace")
    except UnicodeDecodeError as error:
        row = data[: error.start].count(b"\n") + 1
        byte = data[error.start : error.start + 1]
        name = "UTF-16" if encoding == "utf-16" else "UTF-8"
        raise ValueError(
            f"{path}, row {row}: the byte {byte!r} is not {name}; save the file as CSV in UTF-8"
        ) from error
    if "\0" in text.partition("\n")[0]:
        raise ValueError(f"{path}, row 1: contains zero bytes, like UTF-16 text; save the file as CSV in UTF-8")
    return text


def _split_preamble(text: str, is_header: _IsHeader) -> tuple[str, str]:
    """Return the text with blank lines in place of the preamble before the header, and the separator."""
    lines = text.splitlines(keepends=True)
    separator: str | None = None
    blank = 0
    for line in lines:
        stripped = line.strip().strip('"')
        declaration = _SEP.fullmatch(stripped)
        if declaration is not None:
            separator = declaration[1]
        elif stripped and not (stripped.startswith("#") and not _splits_into(is_header, stripped.lstrip("# "))):
            break
        blank += 1
    header = lines[blank].lstrip("# ") if blank < len(lines) else ""
    if separator is None:
        # Column names rarely contain a separator; a tie goes to the comma.
        separator = max(
            SEPARATORS, key=lambda char: (_splits_into(is_header, header, char), header.count(char), char == ",")
        )
    return "\n" * blank + header + "".join(lines[blank + 1 :]), separator


def _splits_into(is_header: _IsHeader, line: str, separator: str = "") -> bool:
    """Check whether a separator, by default any of the known ones, splits a line into the names of a header."""
    return any(
        is_header({name.strip().strip('"').lower() for name in line.split(char)}) for char in separator or SEPARATORS
    )
