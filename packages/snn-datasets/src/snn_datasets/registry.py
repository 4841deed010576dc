"""What can be asked for by name: datasets, readers, encoders; those of other installed packages included.

A package offers its own through an entry point, which is imported when its name is asked for and not before:

    [project.entry-points."snn_datasets.readers"]
    nose = "my_package.nose:NoseReader"

The class has a field `kind: Literal["nose"] = "nose"`. This package's own are found in the same way.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Mapping
from difflib import get_close_matches
from functools import cached_property
from importlib.metadata import EntryPoint, entry_points
from typing import Any, Generic, TypeVar, cast

from pydantic import BaseModel, GetCoreSchemaHandler, GetJsonSchemaHandler
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import CoreSchema, PydanticCustomError, core_schema

S = TypeVar("S", bound=BaseModel)
R = TypeVar("R", bound=type[BaseModel])


class Registry(Mapping[str, type[S]], Generic[S]):
    """Frozen models by their `kind`.

    A registry annotates a field, `data: Annotated[DataSpec, DATASETS]`: a mapping is then read as the model that its
    `kind` names, and a JSON schema lists all kinds.

    Args:
        seam: what is registered here, in a word, for messages.
        group: the entry-point group in which packages offer more.
        default: the kind of a mapping that names none; None means that it must.
    """

    def __init__(self, seam: str, group: str, *, default: str | None = None) -> None:
        self.seam, self.group, self.default = seam, group, default
        self._models: dict[str, type[S]] = {}

    def register(self, model: R) -> R:
        """Add a class under the default of its field `kind`, for this process; use as a class decorator.

        Raises:
            ValueError: no such field, or a kind that is taken.
        """
        kind = _kind_of(model)
        if kind is None:
            raise ValueError(
                f'{model.__name__} needs a field such as `kind: Literal["mine"] = "mine"` to be registered'
            )
        taken = self._models.get(kind)
        if taken is not None and (taken.__module__, taken.__qualname__) != (model.__module__, model.__qualname__):
            raise ValueError(f"{self.seam} kind {kind!r} is already taken by {taken.__name__}; choose another kind")
        self._models[kind] = cast("type[S]", model)
        return model

    def __getitem__(self, kind: str) -> type[S]:
        """Return the class of that kind.

        Raises:
            ValueError: no such kind, or the package that offers it cannot be imported.
        """
        if kind not in self._models:
            entry = self._offered.get(kind)
            if entry is None:
                near = get_close_matches(kind, list(self), n=1)
                hint = f"did you mean {near[0]}? " if near else ""
                raise ValueError(f"unknown {self.seam} kind {kind!r}; {hint}known kinds: {', '.join(self)}")
            self._models[kind] = self._load(kind, entry)
        return self._models[kind]

    def __contains__(self, kind: object) -> bool:
        """Say whether the kind is known. `Mapping` would wait for a KeyError that never comes."""
        return kind in self._models or kind in self._offered

    def __iter__(self) -> Iterator[str]:
        return iter(sorted({*self._models, *self._offered}))

    def __len__(self) -> int:
        return len({*self._models, *self._offered})

    # A mapping is compared by content and cannot be hashed, which `Annotated[Reader, READERS] | None` needs.
    def __eq__(self, other: object) -> bool:
        return self is other

    def __hash__(self) -> int:
        return id(self)

    def specs(self) -> Mapping[str, type[S]]:
        """Every class by its kind; imports them all.

        Warns:
            RuntimeWarning: a package that offers one cannot be imported; it is left out.
        """
        found: dict[str, type[S]] = {}
        for kind in self:
            try:
                found[kind] = self[kind]
            except ValueError as error:
                warnings.warn(str(error), RuntimeWarning, stacklevel=2)
        return found

    def parse(self, value: object) -> S:
        """A model from a mapping with `kind`, or the model itself.

        Raises:
            PydanticCustomError: neither of the two, or an unknown kind.
            ValidationError: the mapping does not suit the model of its kind.
        """
        if isinstance(value, BaseModel):
            value_type = type(value)
            kind = _kind_of(value_type)
            if kind is not None and kind in self and self[kind] is value_type:
                return cast(S, value)
        fields = cast(Mapping[str, Any], value) if isinstance(value, Mapping) else None
        kind = None if fields is None else fields.get("kind", self.default)
        if fields is None or not isinstance(kind, str):
            raise PydanticCustomError(
                "kind",
                "a {seam} is given as fields with a kind; known: {known}",
                {"seam": self.seam, "known": ", ".join(self)},
            )
        try:
            model = self[kind]
        except ValueError as error:
            raise PydanticCustomError("kind", "{reason}", {"reason": str(error)}) from None
        return model.model_validate(fields)

    @cached_property
    def _offered(self) -> dict[str, EntryPoint]:
        return {entry.name: entry for entry in entry_points(group=self.group)}

    def _load(self, kind: str, entry: EntryPoint) -> type[S]:
        try:
            model = entry.load()
        except Exception as error:
            package = "an unnamed package" if entry.dist is None else entry.dist.name
            raise ValueError(
                f"{self.seam} {kind!r} of {package} cannot be imported from {entry.value}: "
                f"{type(error).__name__}: {error}; repair or uninstall that package"
            ) from error
        if not (isinstance(model, type) and issubclass(model, BaseModel) and _kind_of(model) == kind):
            raise ValueError(
                f"{entry.value} is offered as {self.seam} {kind!r}, so it has to be a class with "
                f'`kind: Literal["{kind}"] = "{kind}"`'
            )
        return cast("type[S]", model)

    def __get_pydantic_core_schema__(self, _source: object, _handler: GetCoreSchemaHandler) -> CoreSchema:
        def dump(model: BaseModel, info: core_schema.SerializationInfo) -> dict[str, Any]:
            return model.model_dump(mode=info.mode, exclude_unset=info.exclude_unset)

        return core_schema.no_info_plain_validator_function(
            self.parse, serialization=core_schema.plain_serializer_function_ser_schema(dump, info_arg=True)
        )

    def __get_pydantic_json_schema__(self, _schema: CoreSchema, handler: GetJsonSchemaHandler) -> JsonSchemaValue:
        def variant(kind: str, model: type[S]) -> JsonSchemaValue:
            schema = handler(model.__pydantic_core_schema__)
            return schema if kind == self.default else schema | {"required": [*schema.get("required", []), "kind"]}

        return {
            "oneOf": [variant(kind, model) for kind, model in self.specs().items()],
            "discriminator": {"propertyName": "kind"},
        }


def _kind_of(model: type[BaseModel]) -> str | None:
    field = model.model_fields.get("kind")
    return field.default if field is not None and isinstance(field.default, str) else None
