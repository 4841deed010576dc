"""Read type annotations, and format types and values as text.

A type is formatted as in the help (`int ≥ 1`, `audio | visual`, `path | none`, `text,...`), a value as it would be
typed (`true`, `none`, `a,b`).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from enum import Enum
from pathlib import Path
from types import NoneType, UnionType
from typing import Annotated, Literal, Protocol, Union, cast, get_args, get_origin, runtime_checkable

from pydantic import BaseModel
from pydantic.fields import FieldInfo

SEQUENCES = (tuple, list, set, frozenset)
PLAIN_NAMES: dict[object, str] = {str: "text", Path: "path"}
LIMIT_SYMBOLS = {"ge": "≥", "gt": ">", "le": "≤", "lt": "<"}


def bare(annotation: object) -> object:
    """A type without `Annotated`."""
    return get_args(annotation)[0] if get_origin(annotation) is Annotated else annotation


def members_of(annotation: object) -> list[object]:
    """The members of a union, flattened; the type itself if it is not a union."""
    if get_origin(bare(annotation)) in (Union, UnionType):
        return [inner for member in get_args(bare(annotation)) for inner in members_of(member)]
    return [annotation]


@runtime_checkable
class Registry(Protocol):
    """Spec classes by `kind`, as both libraries' registries provide them."""

    default: str | None
    """Default kind."""

    def specs(self) -> Mapping[str, type[BaseModel]]:
        """All spec classes by kind."""
        ...


def registry_of(annotation: object, metadata: Sequence[object] = ()) -> Registry | None:
    """The registry in the annotations of a type or in the metadata of its field."""
    annotations = get_args(annotation)[1:] if get_origin(annotation) is Annotated else ()
    for item in (*annotations, *metadata):
        if isinstance(item, Registry):
            return item
    return None


def literals_of(annotation: object) -> list[str]:
    """All literals in a type, at any depth."""
    if get_origin(annotation) is Literal:
        return [text_of(value) for value in get_args(annotation)]
    if isinstance(annotation, type) and issubclass(annotation, Enum):
        return [text_of(value) for value in annotation]
    return [text for inner in get_args(annotation) for text in literals_of(inner)]


def limits_of(metadata: Sequence[object]) -> list[str]:
    """The bounds of a number."""
    flat = [item for entry in metadata for item in (entry.metadata if isinstance(entry, FieldInfo) else [entry])]
    bounds = [(text, getattr(item, key)) for item in flat for key, text in LIMIT_SYMBOLS.items() if hasattr(item, key)]
    return [f"{text} {str(bound).removesuffix('.0')}" for text, bound in bounds]


def type_text(annotation: object, metadata: Sequence[object] = ()) -> str:
    """Format a type as in the help; `metadata` are further annotations, such as bounds."""
    origin, args = get_origin(annotation), get_args(annotation)
    if origin is Annotated:
        return type_text(args[0], [*args[1:], *metadata])
    if origin in (Union, UnionType):
        return " | ".join(type_text(member, metadata) for member in args)
    if origin in SEQUENCES:
        items = [type_text(item) for item in args if item is not Ellipsis]
        is_variadic = origin is not tuple or Ellipsis in args
        return ",".join([f"({item})" if "|" in item else item for item in items] + ["..."] * is_variadic)
    if annotation is NoneType:
        return "none"
    if literals := literals_of(annotation):
        return " | ".join(literals)
    name = PLAIN_NAMES.get(annotation, getattr(annotation, "__name__", str(annotation)))
    return " ".join([name, ", ".join(limits_of(metadata))]).strip()


def text_of(value: object) -> str:
    """Format a value as it would be typed."""
    if value is None or isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, SEQUENCES):
        return ",".join(text_of(item) for item in cast(Iterable[object], value))
    return text_of(value.value) if isinstance(value, Enum) else str(value)
