"""Tables that commands show and write as Markdown. Imports neither PyTorch nor rich."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from scmrl.printable import printable


@dataclass(frozen=True)
class DataTable:
    """One table: what it shows, its columns (the first one of words, the others of numbers), its rows."""

    title: str
    columns: Sequence[str]
    rows: Sequence[Sequence[str]]

    def markdown(self) -> str:
        """A heading and the table, with an empty line at the end."""
        marks = ["---", *["---:"] * (len(self.columns) - 1)]
        lines = [
            _line(map(escape_markdown, self.columns)),
            _line(marks),
            *(_line(map(escape_markdown, row)) for row in self.rows),
        ]
        return "\n".join([f"## {escape_markdown(self.title)}", "", *lines, ""])


def one_line(text: str) -> str:
    """Text on one line: names come from files, and what no terminal prints is written as its code in Python."""
    return printable(" ".join(text.split()))


def escape_markdown(text: str) -> str:
    """Names of classes, senses and datasets come from files: they must not become markup."""
    return "".join(f"\\{sign}" if sign in "\\`*_[]<>|#&$~" else sign for sign in one_line(text))


def first_and_last(count: int, most: int) -> list[int]:
    """Of so many rows in order, those that a table of at most that many shows: the first and the last ones."""
    if count <= most:
        return list(range(count))
    first = most - most // 3
    return [*range(first), *range(count - (most - first), count)]


def _line(cells: Iterable[str]) -> str:
    return "| " + " | ".join(cells) + " |"
