"""What may stand at a place of a spec tree, read off the types of the specs.

A place is the path to a field, such as ("train", "epochs"). Its `Shape` is one of four:

- a value, given as one option: `--train.epochs 20`
- a group, which is one model: the options are its fields
- a choice among several models: `--data.kind` says which, and that decides what fields there are
- a table of entries that all have one shape, under names that the user makes up
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

from scmrl.overlay.annotations import Registry, bare, literals_of, members_of, registry_of, type_text

Place = tuple[str, ...]

TAG = "kind"
"""The field by which the models of a choice are told apart."""
ANY_NAME = "<name>"
"""Stands for the name of an entry wherever no entry is meant in particular."""


@dataclass(frozen=True)
class Shape:
    """What may stand at a place.

    field: the field that the type was read off, if it was one
    optional: whether none may stand here
    models: the models of a choice by kind, or that of a group by ""; empty for values and tables
    entry: the shape of every entry, if this is a table
    registry: what offers the models of a choice; None where the type lists them
    """

    annotation: object
    field: FieldInfo | None
    optional: bool
    models: Mapping[str, type[BaseModel]]
    entry: Shape | None
    registry: Registry | None = None

    @staticmethod
    def of(annotation: object, field: FieldInfo | None = None) -> Shape:
        """Read the shape off a type."""
        members = members_of(annotation)
        said = field.metadata if field is not None else ()
        registries = [found for member in members if (found := registry_of(member, said)) is not None]
        some = [bare(member) for member in members if member is not NoneType]
        models = [member for member in some if isinstance(member, type) and issubclass(member, BaseModel)]
        by_kind: dict[str, type[BaseModel]] = {}
        if registries:
            by_kind = dict(registries[0].specs())
        elif len(models) < len(some):
            by_kind = {}
        elif len(models) == 1:
            by_kind = {"": models[0]}
        else:
            by_kind = {kind: model for model in models for kind in literals_of(model.model_fields[TAG].annotation)}
        is_table = len(some) == 1 and get_origin(some[0]) in (dict, Mapping)
        entry = Shape.of(get_args(some[0])[1]) if is_table else None
        return Shape(annotation, field, NoneType in members, by_kind, entry, next(iter(registries), None))

    def __str__(self) -> str:
        return type_text(self.annotation, self.metadata)

    @property
    def is_value(self) -> bool:
        """Whether a value is given here, rather than below."""
        return not self.models and self.entry is None

    @property
    def is_flag(self) -> bool:
        """Whether the value may be a bool, so that the name alone says true."""
        return bool in map(bare, members_of(self.annotation))

    @property
    def is_group(self) -> bool:
        """Whether this is one model."""
        return "" in self.models

    @property
    def is_choice(self) -> bool:
        """Whether a kind must be chosen before there are fields."""
        return bool(self.models) and not self.is_group

    @property
    def default_kind(self) -> str | None:
        """The kind that is meant where none is named."""
        return self.registry.default if self.registry is not None else None

    @property
    def metadata(self) -> Sequence[object]:
        """What the field adds to its type, such as bounds."""
        return self.field.metadata if self.field is not None else ()

    @property
    def meaning(self) -> str:
        """What the field says of itself, in one line."""
        description = self.field.description if self.field is not None else None
        return " ".join((description or "").split())

    @property
    def default(self) -> object:
        """What stands here if nothing is given; PydanticUndefined if something must be."""
        if self.field is None or self.field.default_factory_takes_validated_data:
            return PydanticUndefined
        return cast(object, self.field.get_default(call_default_factory=True))

    def fields(self, kind: object = None) -> Mapping[str, Shape]:
        """The fields under one kind, or of all kinds together where `kind` is none of them."""
        models = [self.models[str(kind)]] if self.is_choice and str(kind) in self.models else self.models.values()
        return {name: shape for model in models for name, shape in fields_of(model).items()}

    def child(self, name: str, kind: object = None) -> Shape | None:
        """The entry or field of that name."""
        if self.entry is not None:
            return None if name in ("", ANY_NAME) else self.entry
        return self.fields(kind).get(name)

    def find(self, place: Place) -> list[Shape]:
        """What the place may be, whichever kinds are chosen on the way; empty if it does not exist."""
        if not place:
            return [self]
        children = [fields_of(model).get(place[0]) for model in self.models.values()] or [self.child(place[0])]
        return [found for child in children if child is not None for found in child.find(place[1:])]

    def kinds_with(self, place: Place) -> list[str]:
        """The kinds of a choice under which the place exists."""
        return [kind for kind, model in self.models.items() if self.is_choice and Shape.of(model).find(place)]


@cache
def fields_of(model: type[BaseModel]) -> Mapping[str, Shape]:
    """The shape of every field of a model."""
    return {name: Shape.of(field.annotation, field) for name, field in model.model_fields.items()}
