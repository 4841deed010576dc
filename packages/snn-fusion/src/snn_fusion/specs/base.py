"""What all specs are, and how third parties add their own: frozen data, told apart by `kind`, kept in registries."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from difflib import get_close_matches
from typing import Any, Generic, TypeVar, cast

from pydantic import BaseModel, ConfigDict, GetCoreSchemaHandler, GetJsonSchemaHandler
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import CoreSchema, PydanticCustomError, core_schema

from snn_fusion.specs.plugins import load_plugins
from snn_fusion.tables import html_text


class Spec(BaseModel):
    """Frozen data that refuses unknown fields; a field's docstring is its help text."""

    model_config = ConfigDict(
        frozen=True, extra="forbid", use_attribute_docstrings=True, validate_default=True, allow_inf_nan=False
    )

    def __str__(self) -> str:
        """YAML with every field, as `dump_spec` writes it."""
        # PyYAML takes as long to import as everything else here together.
        from snn_fusion.specs.document import to_yaml

        return to_yaml(self.model_dump(mode="json")).rstrip("\n")

    def _repr_html_(self) -> str:
        return html_text(str(self))


S = TypeVar("S", bound=Spec)
R = TypeVar("R", bound=type[Spec])


class Registry(Generic[S]):
    """The specs that may stand at one seam of a model, by their `kind`.

    A registry annotates a field, `fusion: Annotated[MethodSpec, METHODS]`: a mapping is then read as the spec that its
    `kind` names, an unknown kind is answered with the known ones, and a JSON schema lists all that are registered.

    Args:
        seam: what is registered here, in a word or two, for messages.
        base: the class that all specs of this seam are subclasses of.
        default: the kind of a mapping that names none; None means that it must.
    """

    def __init__(self, seam: str, base: type[S], *, default: str | None = None) -> None:
        self.seam = seam
        self.base = base
        self.default = default
        self._specs: dict[str, type[S]] = {}

    def register(self, spec: R) -> R:
        """Add a spec class, as a decorator; its field `kind` has its name as default.

        Raises:
            ValueError: no such field, a kind that is taken, or a class that does not belong to this seam.
        """
        field = spec.model_fields.get("kind")
        kind = None if field is None else field.default
        if not isinstance(kind, str):
            raise ValueError(f"{spec.__name__} needs a field kind: Literal['name'] = 'name' to be found by")
        if not issubclass(spec, self.base):
            raise ValueError(
                f"{spec.__name__} is registered as {self.seam}, so it must be a subclass of {self.base.__name__}"
            )
        taken = self._specs.get(kind)
        if taken is not None and (taken.__module__, taken.__qualname__) != (spec.__module__, spec.__qualname__):
            raise ValueError(f"a {self.seam} of kind {kind!r} exists already: {taken.__module__}.{taken.__name__}")
        self._specs[kind] = spec
        return spec

    def specs(self) -> Mapping[str, type[S]]:
        """Every registered class by its kind, those of plug-ins included, in order of registration.

        Warns:
            RuntimeWarning: an installed plug-in cannot be loaded.
        """
        for failure in load_plugins():
            warnings.warn(failure, RuntimeWarning, stacklevel=2)
        return dict(self._specs)

    def parse(self, value: object) -> S:
        """A spec from a mapping with `kind`, or the spec itself.

        Raises:
            PydanticCustomError: neither of the two, or an unknown kind.
            ValidationError: the mapping does not suit the spec of its kind.
        """
        if isinstance(value, self.base):
            return value
        fields = cast(Mapping[str, Any], value) if isinstance(value, Mapping) else None
        kind = None if fields is None else fields.get("kind", self.default)
        # A kind that is not known yet may be a plug-in's.
        failures = () if self._has(kind) else load_plugins()
        known = ", ".join(self._specs)
        if fields is None:
            raise PydanticCustomError(
                "spec", "a {seam} is given as fields with a kind ({known})", {"seam": self.seam, "known": known}
            )
        if not isinstance(kind, str):
            wrong = "missing" if kind is None else "not a word"
            raise PydanticCustomError("kind", "kind is {wrong}; known: {known}", {"wrong": wrong, "known": known})
        if not self._has(kind):
            near = get_close_matches(kind, self._specs, n=1)
            hint = f"did you mean {near[0]}? " if near else ""
            raise PydanticCustomError(
                "kind",
                "no {seam} is of kind {kind}; {hint}known: {known}{failures}",
                {
                    "seam": self.seam,
                    "kind": repr(kind),
                    "hint": hint,
                    "known": known,
                    "failures": "".join(f"; {failure}" for failure in failures),
                },
            )
        return self._specs[kind].model_validate(fields)

    def _has(self, kind: object) -> bool:
        return isinstance(kind, str) and kind in self._specs

    def __get_pydantic_core_schema__(self, _source: object, _handler: GetCoreSchemaHandler) -> CoreSchema:
        def dump(spec: Spec, info: core_schema.SerializationInfo) -> dict[str, Any]:
            return spec.model_dump(mode=info.mode, exclude_unset=info.exclude_unset)

        return core_schema.no_info_plain_validator_function(
            self.parse, serialization=core_schema.plain_serializer_function_ser_schema(dump, info_arg=True)
        )

    def __get_pydantic_json_schema__(self, _schema: CoreSchema, handler: GetJsonSchemaHandler) -> JsonSchemaValue:
        def variant(kind: str, spec: type[S]) -> JsonSchemaValue:
            schema = handler(spec.__pydantic_core_schema__)
            # A mapping without a kind is of the default one, and of no other.
            return schema if kind == self.default else schema | {"required": [*schema.get("required", []), "kind"]}

        return {
            "oneOf": [variant(kind, spec) for kind, spec in self.specs().items()],
            "discriminator": {"propertyName": "kind"},
        }
