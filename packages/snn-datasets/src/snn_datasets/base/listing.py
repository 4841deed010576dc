"""Format names for messages."""

from __future__ import annotations

from collections.abc import Collection
from itertools import islice

MAX_NAMES = 8
"""Names that a message lists; more are only counted."""
MAX_CHARACTERS = 80
"""Length at which a name or a line of a file is cut off."""


def join_names(names: Collection[str], *, most: int = MAX_NAMES, quoted: bool = True) -> str:
    """Join names with commas; list the first `most` and count the rest."""
    first_names = [shorten(name) for name in islice(names, most)]
    text = ", ".join(map(repr, first_names) if quoted else first_names)
    return text + (f" and {len(names) - most:,} more" if len(names) > most else "")


def shorten(text: str, *, longest: int = MAX_CHARACTERS) -> str:
    """Cut off a text that is too long for a message."""
    return text if len(text) <= longest else text[: longest - 3] + "..."
