"""Describe in words what a JSON schema allows at a field."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, cast

_BOUNDS = {
    "minimum": "≥",
    "exclusiveMinimum": ">",
    "maximum": "≤",
    "exclusiveMaximum": "<",
    "multipleOf": "a multiple of",
}
_TYPES = {
    "integer": "a whole number",
    "number": "a number",
    "boolean": "true or false",
    "string": "text",
    "null": "null",
}
_IGNORED = {"title", "description", "default", "required", "discriminator", "additionalProperties", "$ref"}
"""Keywords that do not restrict the value."""


class AllowedValues:
    """The values that a JSON schema allows at one field.

    Args:
        schema: the field's schema.
        definitions: the targets of `$ref`.
    """

    def __init__(self, schema: Mapping[str, Any], definitions: Mapping[str, Any]) -> None:
        name = schema.get("$ref", "").removeprefix("#/$defs/")
        self._schema: Mapping[str, Any] = {**definitions[name], **schema} if name else schema
        self._definitions = definitions

    def below(self, part: str | int, value: object) -> AllowedValues | None:
        """Return what is allowed in a field or item of `value`, the value of this field; None if nothing is."""
        for option in self._options(value):
            schema = option._schema
            if isinstance(part, int):
                items = schema.get("prefixItems", [])
                child = items[part] if part < len(items) else schema.get("items")
            else:
                child = schema.get("properties", {}).get(part) or schema.get("additionalProperties")
            if isinstance(child, Mapping):
                return AllowedValues(child, self._definitions)  # pyright: ignore[reportUnknownArgumentType]
        return None

    def fields(self, value: object) -> list[str]:
        """Return the names of the fields that `value` may have."""
        return [name for option in self._options(value) for name in option._schema.get("properties", {})]

    def literals(self) -> list[str]:
        """Return the allowed literals."""
        options = [option._schema for option in self._options(None)]
        literals = [literal for schema in options for literal in schema.get("enum", [])]
        return [str(literal) for literal in (*literals, *(schema["const"] for schema in options if "const" in schema))]

    def text(self) -> str | None:
        """Return the allowed values in words; None for a schema that has no short description."""
        schema: dict[str, Any] = {key: value for key, value in self._schema.items() if key not in _IGNORED}
        if "anyOf" in schema:
            texts = [AllowedValues(option, self._definitions).text() for option in schema["anyOf"]]
            return None if None in texts else " or ".join(text for text in texts if text is not None)
        if "oneOf" in schema:
            return f"fields with a kind ({', '.join(self._kinds())})"
        if "enum" in schema:
            return f"one of {', '.join(map(str, schema['enum']))}"
        if "const" in schema:
            return str(schema["const"])
        kind = cast(str | None, schema.pop("type", None))
        if kind == "object":
            return f"fields ({', '.join(schema['properties'])})" if "properties" in schema else "fields of any name"
        if kind == "array":
            return self._list_text(schema)
        bounds = " and ".join(
            f"{word} {str(schema.pop(key)).removesuffix('.0')}" for key, word in _BOUNDS.items() if key in schema
        )
        if kind not in _TYPES or schema:
            return None
        return f"{_TYPES[kind]} {bounds}" if bounds else _TYPES[kind]

    def _list_text(self, schema: dict[str, Any]) -> str | None:
        items = [AllowedValues(item, self._definitions).text() for item in schema.get("prefixItems", [])]
        if items:
            same = len(set(items)) == 1
            return f"a list of {len(items)}, " + (f"each {items[0]}" if same else ", ".join(map(str, items)))
        item = AllowedValues(schema.pop("items", {}), self._definitions).text()
        return f"a list, each item {item}" if item is not None and not schema else None

    def _kinds(self) -> list[str]:
        options = [AllowedValues(option, self._definitions) for option in self._schema["oneOf"]]
        return [str(option._schema["properties"]["kind"]["const"]) for option in options]

    def _options(self, value: object) -> list[AllowedValues]:
        """Return the alternatives; of those with a kind, the one that `value` names, or the default."""
        if "oneOf" in self._schema:
            kind = cast(Mapping[str, object], value).get("kind") if isinstance(value, Mapping) else None
            options = [AllowedValues(option, self._definitions) for option in self._schema["oneOf"]]
            if kind is None:
                return [option for option in options if "kind" not in option._schema.get("required", [])]
            return [option for option in options if option._schema["properties"]["kind"]["const"] == kind]
        if "anyOf" in self._schema:
            options = [AllowedValues(option, self._definitions) for option in self._schema["anyOf"]]
            return [inner for option in options for inner in option._options(value)]
        return [self]
