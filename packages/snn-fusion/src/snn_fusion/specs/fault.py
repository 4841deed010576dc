"""Faults in spec files: field path, position and message."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from os import PathLike, fspath
from typing import NamedTuple

FieldPath = tuple[str | int, ...]
"""The names and indices that lead to a value."""


class TextPosition(NamedTuple):
    """A position in a text, counted from 1."""

    line: int
    column: int


@dataclass(frozen=True)
class Fault:
    """One fault of a spec file."""

    position: TextPosition
    field: str
    """The field's path with dots, `encoders.audio.depth`; empty if it concerns no particular field."""
    text: str
    """What is wrong, and what is allowed."""


class SpecFileError(ValueError):
    """All faults of a spec file, one line `file:line:column: field: text` per fault."""

    def __init__(self, path: str | PathLike[str], faults: Iterable[Fault]) -> None:
        self.path = fspath(path)
        self.faults = tuple(sorted(faults, key=lambda fault: fault.position))
        super().__init__(self.path, self.faults)

    def __str__(self) -> str:
        return "\n".join(
            ": ".join(
                filter(None, [f"{self.path}:{fault.position.line}:{fault.position.column}", fault.field, fault.text])
            )
            for fault in self.faults
        )


def dotted(path: FieldPath) -> str:
    """Return a field path as messages write it."""
    return ".".join(map(str, path))
