"""A `Setting` is a value for one place of the spec tree that knows its source.

Whatever gives values, be it the command line, a file or nested defaults, gives them as a list of settings. So one code
merges them all, and a fault can name the place as its source wrote it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import cast

from pydantic import BaseModel

from scmrl.overlay.annotations import text_of
from scmrl.overlay.shape import TAG, Place, Shape

Tree = dict[str, object]
"""Nested values, as pydantic validates them into a spec."""

COMMAND_LINE = "command line"
EMPTY = "''"
NOTHING = ("none", "null")


@dataclass(frozen=True)
class Setting:
    """A value for one place of the spec tree, and where it came from."""

    place: Place
    value: object
    source: str = COMMAND_LINE
    at: str = ""
    """Where in a file the value stands, `run.yaml:3:5`; empty for other sources."""

    def __str__(self) -> str:
        value = "" if isinstance(self.value, dict) else f" = {text_of(self.value) or EMPTY}"
        where = "" if self.at or self.source == COMMAND_LINE else f" ({self.source})"
        return f"{self.label}{value}{where}"

    @property
    def prefix(self) -> str:
        """What options begin with where the value came from."""
        return "--" if self.source == COMMAND_LINE else ""

    @property
    def name(self) -> str:
        """The place as its source writes it."""
        return self.prefix + ".".join(self.place)

    @property
    def label(self) -> str:
        """The name, after the place in the file if it is from one."""
        return f"{self.at}: {self.name}" if self.at else self.name

    def written(self, name: str, value: str) -> str:
        """Another setting as the same source would write it."""
        return f"--{name} {value}" if self.source == COMMAND_LINE else f"{name}: {value}"

    @property
    def is_nothing(self) -> bool:
        """Whether the value is none, in words or in itself."""
        return text_of(self.value).lower() in NOTHING


def settings_of(root: Shape, values: Mapping[str, object], source: str, above: Place = ()) -> Iterator[Setting]:
    """Flatten nested values; a group is opened, and a table emptied, before what stands in it."""
    for name, value in values.items():
        place, inner = (*above, name), tree_of(value)
        if inner is not None and any(not shape.is_value for shape in root.find(place)):
            yield Setting(place, Tree(), source)
            yield from settings_of(root, inner, source, place)
        else:
            yield Setting(place, value, source)


def tree_of(value: object) -> Tree | None:
    """What a group, a choice or a table says explicitly; None for any other value."""
    if isinstance(value, BaseModel):
        said = {TAG, *value.model_fields_set}
        return {name: getattr(value, name) for name in type(value).model_fields if name in said}
    return dict(cast(Mapping[str, object], value)) if isinstance(value, Mapping) else None
