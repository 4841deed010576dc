"""A `Setting` is a value for one field path, with its source.

The command line, files and nested defaults all become lists of settings. So the same code merges them, and a fault can
name the field as its source writes it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import cast

from pydantic import BaseModel

from scmrl.config.overlay.annotations import text_of
from scmrl.config.overlay.field_types import TAG, FieldPath, FieldType

Values = dict[str, object]
"""Nested values, as pydantic validates them into a spec."""

COMMAND_LINE = "command line"
EMPTY = "''"
NOTHING = ("none", "null")


@dataclass(frozen=True)
class Setting:
    """A value for one field path, and its source."""

    path: FieldPath
    value: object
    source: str = COMMAND_LINE
    location: str = ""
    """Position in a file, `run.yaml:3:5`; empty for other sources."""

    def __str__(self) -> str:
        value = "" if isinstance(self.value, dict) else f" = {text_of(self.value) or EMPTY}"
        source = "" if self.location or self.source == COMMAND_LINE else f" ({self.source})"
        return f"{self.label}{value}{source}"

    @property
    def prefix(self) -> str:
        """Prefix of option names in the source."""
        return "--" if self.source == COMMAND_LINE else ""

    @property
    def name(self) -> str:
        """The field path as the source writes it."""
        return self.prefix + ".".join(self.path)

    @property
    def label(self) -> str:
        """The name, after the position in the file if it is from one."""
        return f"{self.location}: {self.name}" if self.location else self.name

    def format_as_source(self, name: str, value: str) -> str:
        """Format another setting as the same source would write it."""
        return f"--{name} {value}" if self.source == COMMAND_LINE else f"{name}: {value}"

    @property
    def is_nothing(self) -> bool:
        """Whether the value is None or its text."""
        return text_of(self.value).lower() in NOTHING


def settings_of(root: FieldType, values: Mapping[str, object], source: str, above: FieldPath = ()) -> Iterator[Setting]:
    """Flatten nested values; a setting that opens a group or empties a table comes before its content."""
    for name, value in values.items():
        path, inner = (*above, name), values_of(value)
        if inner is not None and any(not field_type.is_value for field_type in root.find(path)):
            yield Setting(path, Values(), source)
            yield from settings_of(root, inner, source, path)
        else:
            yield Setting(path, value, source)


def values_of(value: object) -> Values | None:
    """The explicitly set fields of a group, choice or table; None for any other value."""
    if isinstance(value, BaseModel):
        explicit = {TAG, *value.model_fields_set}
        return {name: getattr(value, name) for name in type(value).model_fields if name in explicit}
    return dict(cast(Mapping[str, object], value)) if isinstance(value, Mapping) else None
