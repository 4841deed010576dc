"""Registries of datasets, readers, stages and codings by name, including those of other installed packages.

A package registers a class with an entry point, which is imported when its name is first used:

    [project.entry-points."snn_datasets.readers"]
    nose = "my_package.nose:NoseReader"

The class needs a field `kind: Literal["nose"] = "nose"`. The classes of this package are registered the same way.
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
    """Map each `kind` to its frozen pydantic model.

    A registry annotates a field, `data: Annotated[DataSpec, DATASETS]`: a mapping is then validated as the model of its
    `kind`, and the JSON schema lists all kinds.

    Args:
        seam: noun for the registered models in messages, such as "reader".
        group: entry-point group through which packages add models.
        default: kind of a mapping that names none; None makes `kind` required.
    """

    def __init__(self, seam: str, group: str, *, default: str | None = None) -> None:
        self.seam, self.group, self.default = seam, group, default
        self._models: dict[str, type[S]] = {}

    def register(self, model: R) -> R:
        """Add a class under the default of its field `kind`, in this process only; a class decorator.

        Raises:
            ValueError: the class has no such field, or the kind is already registered.
        """
        kind = _kind_of(model)
        if kind is None:
            raise ValueError(
                f'{model.__name__} needs a field such as `kind: Literal["mine"] = "mine"` to be registered'
            )
        other = self._models.get(kind)
        if other is not None and (other.__module__, other.__qualname__) != (model.__module__, model.__qualname__):
            raise ValueError(f"{self.seam} kind {kind!r} is already taken by {other.__name__}; choose another kind")
        self._models[kind] = cast("type[S]", model)
        return model

    def __getitem__(self, kind: str) -> type[S]:
        """Return the class of a kind.

        Raises:
            ValueError: the kind is unknown, or its package cannot be imported.
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
        """Check whether a kind is known. `Mapping` relies on a KeyError, which `__getitem__` never raises."""
        return kind in self._models or kind in self._offered

    def __iter__(self) -> Iterator[str]:
        return iter(sorted({*self._models, *self._offered}))

    def __len__(self) -> int:
        return len({*self._models, *self._offered})

    # `Mapping` compares by content and is not hashable, but `Annotated[Reader, READERS] | None` needs a hash.
    def __eq__(self, other: object) -> bool:
        return self is other

    def __hash__(self) -> int:
        return id(self)

    def specs(self) -> Mapping[str, type[S]]:
        """Import and return every class by its kind.

        Warns:
            RuntimeWarning: a package cannot be imported; its class is skipped.
        """
        specs: dict[str, type[S]] = {}
        for kind in self:
            try:
                specs[kind] = self[kind]
            except ValueError as error:
                warnings.warn(str(error), RuntimeWarning, stacklevel=2)
        return specs

    def parse(self, value: object) -> S:
        """Validate a mapping with `kind` as the model of that kind; return a model unchanged.

        Raises:
            PydanticCustomError: the value is neither, or its kind is unknown.
            ValidationError: the mapping does not fit the model.
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
                "a {seam} needs fields with a kind; known kinds: {known}",
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
                f"{entry.value} is registered as {self.seam} {kind!r}, so it must be a class with "
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
