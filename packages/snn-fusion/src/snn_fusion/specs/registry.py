"""Registries of encoders, fusion methods, neurons and alignment losses, including those of other installed packages.

A package registers a spec with an entry point, which is imported when its name is first used:

    [project.entry-points."snn_fusion.methods"]
    context = "my_package.specs:ContextSpec"

The class needs a field `kind: Literal["context"] = "context"`. Importing specs therefore stays fast, and a package may
import anything of this library.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Mapping
from functools import cached_property
from importlib.metadata import EntryPoint, entry_points
from threading import RLock
from typing import Any, Generic, TypeVar, cast

from pydantic import BaseModel, GetCoreSchemaHandler, GetJsonSchemaHandler
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import CoreSchema, PydanticCustomError, core_schema

from snn_fusion.suggestion import did_you_mean

S = TypeVar("S", bound=BaseModel)
R = TypeVar("R", bound=type[BaseModel])


class Registry(Mapping[str, type[S]], Generic[S]):
    """Map each `kind` to its frozen pydantic model.

    A registry annotates a field, `fusion: Annotated[MethodSpec, METHODS]`: a mapping is then validated as the model of
    its `kind`, and the JSON schema lists all kinds.

    Args:
        seam: noun for the registered models in messages, such as "fusion method".
        group: entry-point group through which packages add models.
        base: base class of all models.
        default: kind of a mapping that names none; None makes `kind` required.
    """

    def __init__(self, seam: str, group: str, base: type[S], *, default: str | None = None) -> None:
        self.seam, self.group, self.base, self.default = seam, group, base, default
        self._models: dict[str, type[S]] = {}
        self._loaded: dict[str, type[S]] = {}
        self._loading: set[str] = set()
        self._lock = RLock()

    def register(self, model: R) -> R:
        """Add a class under the default of its field `kind`; a class decorator.

        Raises:
            ValueError: the class has no such field or is not a subclass of `base`, or the kind is already registered.
        """
        kind = _kind_of(model)
        if kind is None:
            raise ValueError(
                f'{model.__name__} needs a field such as `kind: Literal["mine"] = "mine"` to be registered'
            )
        if not issubclass(model, self.base):
            raise ValueError(
                f"{model.__name__} must be a subclass of {self.base.__name__} to be registered as {self.seam}"
            )
        other = self._models.get(kind)
        if other is not None and _path_of(other) != _path_of(model):
            raise ValueError(f"{self.seam} kind {kind!r} is already taken by {other.__name__}; choose another kind")
        self._models[kind] = model
        return model

    def __getitem__(self, kind: str) -> type[S]:
        """Return the class of a kind.

        Raises:
            ValueError: the kind is unknown, or its package cannot be imported.
        """
        with self._lock:
            model = self._models.get(kind) or self._loaded.get(kind)
            if model is None:
                entry = self._offered.get(kind)
                if entry is None:
                    parts = [f"unknown {self.seam} kind {kind!r};", did_you_mean(kind, self), "known kinds:"]
                    raise ValueError(f"{' '.join(filter(None, parts))} {', '.join(self)}")
                model = self._loaded[kind] = self._load(kind, entry)
            return model

    def __contains__(self, kind: object) -> bool:
        """Check whether a kind is known. `Mapping` relies on a KeyError, which `__getitem__` never raises."""
        return kind in self._models or kind in self._offered

    def __iter__(self) -> Iterator[str]:
        return iter([*self._models, *sorted(self._offered.keys() - self._models.keys())])

    def __len__(self) -> int:
        return len({*self._models, *self._offered})

    # `Mapping` compares by content and is not hashable, but `Annotated[MethodSpec, METHODS] | None` needs a hash.
    def __eq__(self, other: object) -> bool:
        return self is other

    def __hash__(self) -> int:
        return id(self)

    def specs(self) -> Mapping[str, type[S]]:
        """Import and return every class by its kind: this package's in order of registration, then the others.

        Warns:
            RuntimeWarning: a package cannot be imported, or its kind is already taken; its class is skipped.
        """
        specs: dict[str, type[S]] = {}
        with self._lock:
            for kind in self:
                entry, model = self._offered.get(kind), self._models.get(kind)
                if model is not None and entry is not None and entry.value != _path_of(model):
                    message = f"{self.seam} kind {kind!r} of {_package_of(entry)} is already taken by {model.__name__}"
                    warnings.warn(f"{message}; choose another kind", RuntimeWarning, stacklevel=2)
                # A package may use the registry while it is imported.
                if kind not in self._loading:
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
        if isinstance(value, self.base):
            return value
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
        self._loading.add(kind)
        try:
            model = entry.load()
        except Exception as error:
            raise ValueError(
                f"{self.seam} {kind!r} of {_package_of(entry)} cannot be imported from {entry.value}: "
                f"{type(error).__name__}: {error}; repair or uninstall that package"
            ) from error
        finally:
            self._loading.remove(kind)
        if not (isinstance(model, type) and issubclass(model, self.base) and _kind_of(model) == kind):
            raise ValueError(
                f"{entry.value} is registered as {self.seam} {kind!r}, so it must be a {self.base.__name__} with "
                f'`kind: Literal["{kind}"] = "{kind}"`'
            )
        return model

    def __get_pydantic_core_schema__(self, _source: object, _handler: GetCoreSchemaHandler) -> CoreSchema:
        def dump(model: BaseModel, info: core_schema.SerializationInfo) -> dict[str, Any]:
            return model.model_dump(mode=info.mode, exclude_unset=info.exclude_unset)

        return core_schema.no_info_plain_validator_function(
            self.parse, serialization=core_schema.plain_serializer_function_ser_schema(dump, info_arg=True)
        )

    def __get_pydantic_json_schema__(self, _schema: CoreSchema, handler: GetJsonSchemaHandler) -> JsonSchemaValue:
        def variant(kind: str, model: type[S]) -> JsonSchemaValue:
            schema = handler(model.__pydantic_core_schema__)
            # A mapping without a kind is of the default kind only.
            return schema if kind == self.default else schema | {"required": [*schema.get("required", []), "kind"]}

        return {
            "oneOf": [variant(kind, model) for kind, model in self.specs().items()],
            "discriminator": {"propertyName": "kind"},
        }


def _kind_of(model: type[BaseModel]) -> str | None:
    field = model.model_fields.get("kind")
    return field.default if field is not None and isinstance(field.default, str) else None


def _path_of(model: type[BaseModel]) -> str:
    return f"{model.__module__}:{model.__qualname__}"


def _package_of(entry: EntryPoint) -> str:
    return "an unnamed package" if entry.dist is None else entry.dist.name
