"""What is wrong with a spec file, and what would be right, each fault with the place where it stands."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from os import PathLike, fspath
from typing import TYPE_CHECKING, Any, NamedTuple, cast, get_args

from pydantic import ValidationError
from pydantic_core import ErrorDetails
from pydantic_core.core_schema import ErrorType

from snn_fusion.specs.allowed import Allowed

if TYPE_CHECKING:
    from snn_fusion.specs.located import Document

Path = tuple[str | int, ...]
"""The names and indices that lead to a value."""
_FROM_PYDANTIC = frozenset(get_args(ErrorType))


class Place(NamedTuple):
    """A place in a text, both counted from 1."""

    line: int
    column: int


@dataclass(frozen=True)
class Fault:
    """One thing that is wrong."""

    place: Place
    field: str
    """The field with dots, `encoders.audio.input_shape`; empty where it is none in particular."""
    text: str
    """What is wrong, and what would be right."""


class SpecFileError(ValueError):
    """Everything that is wrong with a spec file, a line `file:line:column: field: what is wrong` for each fault."""

    def __init__(self, path: str | PathLike[str], faults: Iterable[Fault]) -> None:
        self.path = fspath(path)
        self.faults = tuple(sorted(faults, key=lambda fault: fault.place))
        super().__init__(self.path, self.faults)

    def __str__(self) -> str:
        return "\n".join(
            ": ".join(filter(None, [f"{self.path}:{fault.place.line}:{fault.place.column}", fault.field, fault.text]))
            for fault in self.faults
        )


def dotted(path: Path) -> str:
    """A path as it is written in messages."""
    return ".".join(map(str, path))


def explain(error: ValidationError, document: Document, schema: Mapping[str, Any]) -> list[Fault]:
    """One fault for each place that the validation found fault with."""
    faults: dict[str, Fault] = {}
    for detail in error.errors(include_url=False):
        fault = _explain(detail, document, Allowed(schema, schema.get("$defs", {})))
        # The alternatives of one value are refused one by one.
        faults.setdefault(fault.field, fault)
    return list(faults.values())


def _explain(detail: ErrorDetails, document: Document, allowed: Allowed) -> Fault:
    kind, value, path = detail["type"], document.value, Path()
    rest = list(detail["loc"])
    while rest and document.has((*path, rest[0])):
        below = allowed.below(rest[0], value)
        if below is None:
            break
        value, allowed = value[rest[0]], below
        path = (*path, rest.pop(0))

    if kind == "extra_forbidden" and len(rest) == 1:
        known = allowed.fields(value)
        text = f"there is no such field;{_did_you_mean(str(rest[0]), known)} known: {', '.join(known)}"
        return Fault(document.name_place((*path, rest[0])), dotted((*path, rest[0])), text)
    # An item may be missing too: then it is its list that is not what it must be.
    if kind == "missing" and len(rest) == 1 and isinstance(rest[0], str):
        needed = allowed.below(rest[0], value)
        text = "; ".join(filter(None, ["is missing", needed and _must_be(needed)]))
        return Fault(document.place(path), dotted((*path, rest[0])), text)
    if kind == "kind":
        path = (*path, "kind")
        return Fault(document.place(path if document.has(path) else path[:-1]), dotted(path), detail["msg"])
    if kind in ("value_error", "assertion_error"):
        text = str(detail.get("ctx", {}).get("error", detail["msg"]))
        path = _named(path, text, document)
    elif kind in _FROM_PYDANTIC | {"spec"} and (must := _must_be(allowed)) is not None:
        text = f"{_shown(value)}, but it {must}{_hint(value, allowed)}"
    else:
        text = f"{_shown(value)}: {detail['msg']}"
    return Fault(document.place(path), dotted(path), text)


def _must_be(allowed: Allowed) -> str | None:
    text = allowed.text()
    return None if text is None else f"must be {text}"


def _hint(value: object, allowed: Allowed) -> str:
    if not isinstance(value, str):
        return ""
    if value.lower() == "none" and "null" in (allowed.text() or "").split(" or "):
        return "; write null for none"
    near = _did_you_mean(value, allowed.literals())
    return f";{near}" if near else ""


def _did_you_mean(name: str, known: Sequence[str]) -> str:
    near = get_close_matches(name, known, n=1)
    return f" did you mean {near[0]}?" if near else ""


def _named(path: Path, text: str, document: Document) -> Path:
    """The first field that a message names, seen from the value that it is about; that value if there is none."""
    for word in re.findall(r"[A-Za-z_][\w.-]*", text):
        named = (*path, *word.rstrip(".").split("."))
        if document.has(named):
            return named
    return path


def _shown(value: Any) -> str:
    if isinstance(value, dict):
        return "these are fields"
    # No more than an alias can blow up.
    if isinstance(value, list):
        items = cast(list[Any], value)
        if len(items) > 8 or any(isinstance(item, dict | list) for item in items):
            return "this is a list"
    text = json.dumps(value, ensure_ascii=False)
    return text if len(text) <= 60 else f"{text[:57]}..."
