"""Explain pydantic's validation errors: the field path, the value, and what is allowed instead.

`explain_errors` needs the validated data and their JSON schema, and nothing of where the data come from: a spec file
(`load_spec`), options of a command line, or a JSON document.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, cast, get_args

from pydantic import ValidationError
from pydantic_core import ErrorDetails
from pydantic_core.core_schema import ErrorType

from snn_fusion.specs.allowed_values import AllowedValues
from snn_fusion.specs.fault import FieldPath, dotted
from snn_fusion.suggestion import did_you_mean

PYDANTIC_ERRORS = frozenset(get_args(ErrorType))
"""Types of pydantic's errors; the messages of other types, such as those of registries, name the faulty field."""


@dataclass(frozen=True)
class FieldFault:
    """One fault of validated data."""

    path: FieldPath
    """The field; empty if the fault concerns the data as a whole."""
    text: str
    """The value, what is wrong, and what is allowed."""
    is_unknown: bool = False
    """Whether the field should not exist, so that its name is wrong rather than its value."""


def explain_errors(error: ValidationError, data: object, schema: Mapping[str, Any]) -> list[FieldFault]:
    """Return one fault per field that failed the validation.

    Args:
        error: raised by the validation.
        data: the validated data: mappings, lists and scalars.
        schema: the JSON schema of the model that validated them.
    """
    faults: dict[str, FieldFault] = {}
    for detail in error.errors(include_url=False):
        fault = _explain(detail, data, AllowedValues(schema, schema.get("$defs", {})))
        # Each alternative of a union reports its own error.
        faults.setdefault(dotted(fault.path), fault)
    return list(faults.values())


def error_lines(errors: Sequence[Mapping[str, Any]]) -> list[str]:
    """Return each of pydantic's errors as `field.path: message`, for data that need no better explanation.

    Args:
        errors: from `ValidationError.errors()`.
    """
    return [" ".join(": ".join(filter(None, [dotted(error["loc"]), error["msg"]])).split()) for error in errors]


def has_path(data: object, path: FieldPath) -> bool:
    """Return whether the data have a value at this path."""
    for part in path:
        if isinstance(data, Mapping) and part in data:
            data = cast(Mapping[object, object], data)[part]
        elif isinstance(data, list) and isinstance(part, int) and part < len(cast(list[object], data)):
            data = cast(list[object], data)[part]
        else:
            return False
    return True


def _explain(detail: ErrorDetails, data: Any, allowed: AllowedValues) -> FieldFault:
    kind, value, path = detail["type"], data, FieldPath()
    rest = list(detail["loc"])
    while rest and has_path(value, (rest[0],)):
        below = allowed.below(rest[0], value)
        if below is None:
            break
        value, allowed = value[rest[0]], below
        path = (*path, rest.pop(0))

    if kind == "extra_forbidden" and len(rest) == 1:
        known = allowed.fields(value)
        parts = ["there is no such field;", did_you_mean(str(rest[0]), known), "known:", ", ".join(known)]
        return FieldFault((*path, rest[0]), " ".join(filter(None, parts)), is_unknown=True)
    # A missing item is a fault of its list.
    if kind == "missing" and len(rest) == 1 and isinstance(rest[0], str):
        expected = allowed.below(rest[0], value)
        return FieldFault((*path, rest[0]), "; ".join(filter(None, ["is missing", expected and _must_be(expected)])))
    if kind == "kind" and isinstance(value, Mapping):
        return FieldFault((*path, "kind"), detail["msg"])
    if kind in ("value_error", "assertion_error"):
        text = str(detail.get("ctx", {}).get("error", detail["msg"]))
        # A message about another field begins with its path.
        field, _, rest_of_text = text.partition(": ")
        if rest_of_text and has_path(data, tuple(field.split("."))):
            return FieldFault(tuple(field.split(".")), rest_of_text)
        return FieldFault(_path_in(text, path, data), text)
    if kind in PYDANTIC_ERRORS | {"kind"} and (must_be := _must_be(allowed)) is not None:
        return FieldFault(path, f"{_format(value)}, but it {must_be}{_hint(value, allowed)}")
    return FieldFault(path, f"{_format(value)}: {detail['msg']}")


def _must_be(allowed: AllowedValues) -> str | None:
    text = allowed.text()
    return None if text is None else f"must be {text}"


def _hint(value: object, allowed: AllowedValues) -> str:
    if not isinstance(value, str):
        return ""
    if value.lower() == "none" and "null" in (allowed.text() or "").split(" or "):
        return "; write null for none"
    suggestion = did_you_mean(value, allowed.literals())
    return f"; {suggestion}" if suggestion else ""


def _path_in(text: str, path: FieldPath, data: object) -> FieldPath:
    """Return the first field that a message names, relative to `path`; `path` itself if it names none."""
    for word in re.findall(r"[A-Za-z_][\w.-]*", text):
        candidate = (*path, *word.rstrip(".").split("."))
        if has_path(data, candidate):
            return candidate
    return path


def _format(value: Any) -> str:
    if isinstance(value, dict):
        return "these are fields"
    # YAML aliases can make a list exponentially large.
    if isinstance(value, list):
        items = cast(list[Any], value)
        if len(items) > 8 or any(isinstance(item, dict | list) for item in items):
            return "this is a list"
    text = json.dumps(value, ensure_ascii=False)
    return text if len(text) <= 60 else f"{text[:57]}..."
