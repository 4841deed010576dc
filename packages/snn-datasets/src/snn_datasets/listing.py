"""Names in a sentence, however many there are."""

from __future__ import annotations

from collections.abc import Collection
from itertools import islice

MOST = 8
"""Names that a message lists before it only counts."""
LONGEST = 80
"""Characters of one name or one line of a file that a message repeats."""


def join_names(names: Collection[str], *, most: int = MOST, quoted: bool = True) -> str:
    """The names with commas between them; of many only the first, and how many more there are."""
    first_names = [shorten(name) for name in islice(names, most)]
    text = ", ".join(map(repr, first_names) if quoted else first_names)
    return text + (f" and {len(names) - most:,} more" if len(names) > most else "")


def shorten(text: str, *, longest: int = LONGEST) -> str:
    """The text, cut off with dots where it is too long for a message."""
    return text if len(text) <= longest else text[: longest - 3] + "..."
