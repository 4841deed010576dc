"""Tables as text for terminals and as HTML for notebooks."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape


def text_table(headings: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Format columns of equal width, the first left-aligned and all others right-aligned."""
    lines = [list(headings), *(list(row) for row in rows)]
    widths = [max(len(line[column]) for line in lines) for column in range(len(headings))]
    return "\n".join(
        "  ".join(
            cell.rjust(width) if column else cell.ljust(width)
            for column, (cell, width) in enumerate(zip(line, widths, strict=True))
        ).rstrip()
        for line in lines
    )


def html_table(headings: Sequence[str], rows: Sequence[Sequence[str]], *, caption: str) -> str:
    """Format an HTML table; cells are escaped."""
    head = "".join(f'<th style="text-align:left">{escape(heading)}</th>' for heading in headings)
    body = "".join(
        "<tr>" + "".join(f'<td style="text-align:left">{escape(cell)}</td>' for cell in row) + "</tr>" for row in rows
    )
    return (
        f'<table><caption style="text-align:left">{escape(caption)}</caption>'
        f"<thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"
    )


def html_text(text: str) -> str:
    """Format preformatted HTML text; it is escaped."""
    return f"<pre>{escape(text)}</pre>"
