"""What a JSON schema allows at a place, in words."""

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
_PLAIN = {
    "integer": "a whole number",
    "number": "a number",
    "boolean": "true or false",
    "string": "text",
    "null": "null",
}
_ASIDE = {"title", "description", "default", "required", "discriminator", "additionalProperties"}
"""Keywords of which the words need not speak."""


class Allowed:
    """What may stand at one place of the data that a schema describes.

    Args:
        schema: the place's part of the schema.
        definitions: what `$ref` refers to.
    """

    def __init__(self, schema: Mapping[str, Any], definitions: Mapping[str, Any]) -> None:
        name = schema.get("$ref", "").removeprefix("#/$defs/")
        self._schema: Mapping[str, Any] = {**definitions[name], **schema} if name else schema
        self._definitions = definitions

    def below(self, part: str | int, value: object) -> Allowed | None:
        """What may stand in a field or an item of `value`, which stands here; None where nothing may."""
        for option in self._options(value):
            schema = option._schema
            if isinstance(part, int):
                items = schema.get("prefixItems", [])
                found = items[part] if part < len(items) else schema.get("items")
            else:
                found = schema.get("properties", {}).get(part) or schema.get("additionalProperties")
            if isinstance(found, Mapping):
                return Allowed(found, self._definitions)  # pyright: ignore[reportUnknownArgumentType]
        return None

    def fields(self, value: object) -> list[str]:
        """The names of the fields that `value` may have."""
        return [name for option in self._options(value) for name in option._schema.get("properties", {})]

    def literals(self) -> list[str]:
        """The words of which one may stand here."""
        found = [word for option in self._options(None) for word in option._schema.get("enum", [])]
        found += [option._schema["const"] for option in self._options(None) if "const" in option._schema]
        return [str(word) for word in found]

    def text(self) -> str | None:
        """In words what may stand here; None for what there are no words for."""
        schema: dict[str, Any] = {
            key: value for key, value in self._schema.items() if key not in _ASIDE and key != "$ref"
        }
        if "anyOf" in schema:
            return _joined([Allowed(option, self._definitions).text() for option in schema["anyOf"]])
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
            return self._list(schema)
        bounds = " and ".join(f"{word} {schema.pop(key):g}" for key, word in _BOUNDS.items() if key in schema)
        if kind not in _PLAIN or schema:
            return None
        return f"{_PLAIN[kind]} {bounds}" if bounds else _PLAIN[kind]

    def _list(self, schema: dict[str, Any]) -> str | None:
        items = [Allowed(item, self._definitions).text() for item in schema.get("prefixItems", [])]
        if items:
            same = len(set(items)) == 1
            return f"a list of {len(items)}, " + (f"each {items[0]}" if same else ", ".join(map(str, items)))
        item = Allowed(schema.pop("items", {}), self._definitions).text()
        return f"a list, each item {item}" if item is not None and not schema else None

    def _kinds(self) -> list[str]:
        options = [Allowed(option, self._definitions) for option in self._schema["oneOf"]]
        return [str(option._schema["properties"]["kind"]["const"]) for option in options]

    def _options(self, value: object) -> list[Allowed]:
        """The alternatives here: of those told apart by kind the one that `value` names, or the one that needs none."""
        if "oneOf" in self._schema:
            kind = cast(Mapping[str, object], value).get("kind") if isinstance(value, Mapping) else None
            options = [Allowed(option, self._definitions) for option in self._schema["oneOf"]]
            if kind is None:
                return [option for option in options if "kind" not in option._schema.get("required", [])]
            return [option for option in options if option._schema["properties"]["kind"]["const"] == kind]
        if "anyOf" in self._schema:
            options = [Allowed(option, self._definitions) for option in self._schema["anyOf"]]
            return [inner for option in options for inner in option._options(value)]
        return [self]


def _joined(texts: list[str | None]) -> str | None:
    return None if None in texts else " or ".join(text for text in texts if text is not None)
