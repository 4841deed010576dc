"""Tables that commands print and write as Markdown. Imports neither PyTorch nor rich."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from scmrl.console.printable import printable


@dataclass(frozen=True)
class DataTable:
    """A table with a title; the first column holds text, the others numbers."""

    title: str
    columns: Sequence[str]
    rows: Sequence[Sequence[str]]

    def markdown(self) -> str:
        """Return a heading and the table, with an empty line at the end."""
        marks = ["---", *["---:"] * (len(self.columns) - 1)]
        lines = [
            _line(map(escape_markdown, self.columns)),
            _line(marks),
            *(_line(map(escape_markdown, row)) for row in self.rows),
        ]
        return "\n".join([f"## {escape_markdown(self.title)}", "", *lines, ""])


def one_line(text: str) -> str:
    """Put text on one line and escape non-printable characters, since names come from files."""
    return printable(" ".join(text.split()))


def escape_markdown(text: str) -> str:
    """Escape Markdown, since names of classes, modalities and datasets come from files."""
    return "".join(f"\\{char}" if char in "\\`*_[]<>|#&$~" else char for char in one_line(text))


def first_and_last(count: int, limit: int) -> list[int]:
    """Select at most `limit` of `count` ordered rows: two thirds from the start, the rest from the end."""
    if count <= limit:
        return list(range(count))
    first = limit - limit // 3
    return [*range(first), *range(count - (limit - first), count)]


def _line(cells: Iterable[str]) -> str:
    return "| " + " | ".join(cells) + " |"
