"""What is allowed at a field path of a spec, derived from the types of its fields.

A field path is a tuple such as ("train", "epochs"). Its `FieldType` is one of four:

- a value, given as one option: `--train.epochs 20`
- a group, which is one model: the options are its fields
- a choice of several models: `--data.kind` selects one, which determines the fields
- a table of entries that all have one type, under names chosen by the user
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from types import NoneType
from typing import cast, get_args, get_origin

from pydantic import BaseModel
from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined

from scmrl.config.overlay.annotations import Registry, bare, literals_of, members_of, registry_of, type_text

FieldPath = tuple[str, ...]

TAG = "kind"
"""The field that selects the model of a choice."""
ANY_NAME = "<name>"
"""Placeholder for the name of an entry."""


@dataclass(frozen=True)
class FieldType:
    """What is allowed at a field path.

    field: the field that has the type, if any
    optional: whether none is allowed
    models: the models of a choice by kind, or that of a group under ""; empty for values and tables
    entry: the type of every entry, if this is a table
    registry: the registry of a choice's models; None if the type lists them
    """

    annotation: object
    field: FieldInfo | None
    optional: bool
    models: Mapping[str, type[BaseModel]]
    entry: FieldType | None
    registry: Registry | None = None

    @staticmethod
    def of(annotation: object, field: FieldInfo | None = None) -> FieldType:
        """Read a type annotation."""
        members = members_of(annotation)
        metadata = field.metadata if field is not None else ()
        registry = next((r for member in members if (r := registry_of(member, metadata)) is not None), None)
        types = [bare(member) for member in members if member is not NoneType]
        models = [member for member in types if isinstance(member, type) and issubclass(member, BaseModel)]
        by_kind: dict[str, type[BaseModel]]
        if registry is not None:
            by_kind = dict(registry.specs())
        elif len(models) < len(types):
            by_kind = {}
        elif len(models) == 1:
            by_kind = {"": models[0]}
        else:
            by_kind = {kind: model for model in models for kind in literals_of(model.model_fields[TAG].annotation)}
        is_table = len(types) == 1 and get_origin(types[0]) in (dict, Mapping)
        entry = FieldType.of(get_args(types[0])[1]) if is_table else None
        return FieldType(annotation, field, NoneType in members, by_kind, entry, registry)

    def __str__(self) -> str:
        return type_text(self.annotation, self.metadata)

    @property
    def is_value(self) -> bool:
        """Whether this is a value rather than a group, choice or table."""
        return not self.models and self.entry is None

    @property
    def is_flag(self) -> bool:
        """Whether the value may be a bool, so that the name alone means true."""
        return bool in map(bare, members_of(self.annotation))

    @property
    def is_group(self) -> bool:
        """Whether this is one model."""
        return "" in self.models

    @property
    def is_choice(self) -> bool:
        """Whether a kind selects the fields."""
        return bool(self.models) and not self.is_group

    @property
    def default_kind(self) -> str | None:
        """The default kind of a choice with a registry."""
        return self.registry.default if self.registry is not None else None

    @property
    def metadata(self) -> Sequence[object]:
        """Metadata of the field, such as bounds."""
        return self.field.metadata if self.field is not None else ()

    @property
    def meaning(self) -> str:
        """The description of the field, in one line."""
        description = self.field.description if self.field is not None else None
        return " ".join((description or "").split())

    @property
    def default(self) -> object:
        """The default; PydanticUndefined if a value is required."""
        if self.field is None or self.field.default_factory_takes_validated_data:
            return PydanticUndefined
        return cast(object, self.field.get_default(call_default_factory=True))

    def fields(self, kind: object = None) -> Mapping[str, FieldType]:
        """The fields of one kind, or of all kinds together if `kind` is not one of them."""
        models = [self.models[str(kind)]] if self.is_choice and str(kind) in self.models else self.models.values()
        return {name: field_type for model in models for name, field_type in fields_of(model).items()}

    def child(self, name: str, kind: object = None) -> FieldType | None:
        """The entry or field of that name."""
        if self.entry is not None:
            return None if name in ("", ANY_NAME) else self.entry
        return self.fields(kind).get(name)

    def find(self, path: FieldPath) -> list[FieldType]:
        """All types at a field path, under any kinds; empty if it does not exist."""
        if not path:
            return [self]
        children = [fields_of(model).get(path[0]) for model in self.models.values()] or [self.child(path[0])]
        return [field_type for child in children if child is not None for field_type in child.find(path[1:])]

    def kinds_with(self, path: FieldPath) -> list[str]:
        """The kinds of a choice that have a field path."""
        return [kind for kind, model in self.models.items() if self.is_choice and FieldType.of(model).find(path)]


@cache
def fields_of(model: type[BaseModel]) -> Mapping[str, FieldType]:
    """The type of every field of a model."""
    return {name: FieldType.of(field.annotation, field) for name, field in model.model_fields.items()}
