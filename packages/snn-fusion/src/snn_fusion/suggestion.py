"""Suggest the known name that a misspelled one resembles."""

from __future__ import annotations

from collections.abc import Iterable
from difflib import get_close_matches


def did_you_mean(name: str, known: Iterable[str], *, cutoff: float = 0.6) -> str:
    """Return `did you mean <name>?` for the most similar known name; "" if none is similar.

    Args:
        name: the name that is not known.
        known: all names.
        cutoff: lowest similarity, 0 to 1.
    """
    near = get_close_matches(name, known, n=1, cutoff=cutoff)
    return f"did you mean {near[0]}?" if near else ""
