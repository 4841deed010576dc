"""List the settings of a run that are not the defaults, and those in which runs differ."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, cast

from pydantic import BaseModel

IGNORED = ("out", "resume")
"""Settings that say where a run is written, not what it computes."""


@dataclass(frozen=True)
class ChangedSetting:
    """A field of an experiment."""

    name: str
    """Dotted field path."""
    value: str
    default: str
    """"-" if the field has no default."""


def non_default_settings(spec: BaseModel) -> list[ChangedSetting]:
    """Return the fields that are not at their defaults, in order of definition.

    If a component has another kind than the default component, its kind is listed, and those of its fields that are
    not at the defaults of that kind.
    """
    return [setting for setting in _differing_fields(spec, type(spec), "") if setting.name not in IGNORED]


def differing_settings(specs: Sequence[BaseModel]) -> list[tuple[str, tuple[str, ...]]]:
    """Return the fields in which specs differ, with the value of each spec; "-" if a spec has no such field."""
    flat = [dict(_leaves(spec.model_dump(mode="json"))) for spec in specs]
    names = dict.fromkeys(name for each in flat for name in each if name not in IGNORED)
    rows = [(name, tuple(each.get(name, "-") for each in flat)) for name in names]
    return [(name, values) for name, values in rows if len(set(values)) > 1]


def _differing_fields(
    spec: BaseModel, kind: type[BaseModel], prefix: str, reference: BaseModel | None = None
) -> Iterator[ChangedSetting]:
    """Yield the fields that differ from `reference`, or from the defaults of the class."""
    for name, field in kind.model_fields.items():
        value = getattr(spec, name)
        if reference is not None:
            default, known = getattr(reference, name), True
        else:
            default, known = field.get_default(call_default_factory=True, validated_data={}), not field.is_required()
        if not known or value != default:
            yield from _changes(value, default, f"{prefix}{name}", known=known)


def _changes(value: Any, default: Any, name: str, *, known: bool) -> Iterator[ChangedSetting]:
    if isinstance(value, BaseModel):
        if type(value) is type(default):
            yield from _differing_fields(value, type(value), f"{name}.", cast(BaseModel, default))
            return
        kinds = [getattr(each, "kind", type(each).__name__) if each is not None else None for each in (value, default)]
        yield ChangedSetting(f"{name}.kind", format_value(kinds[0]), format_value(kinds[1]) if known else "-")
        yield from (s for s in _differing_fields(value, type(value), f"{name}.") if s.name != f"{name}.kind")
    elif isinstance(value, Mapping) and value:
        after = cast(Mapping[str, Any], value)
        before = cast(Mapping[str, Any], default if isinstance(default, Mapping) else {})
        for key, each in after.items():
            if key not in before or each != before[key]:
                yield from _changes(each, before.get(key), f"{name}.{key}", known=key in before)
        yield from (
            ChangedSetting(f"{name}.{key}", "-", format_value(each)) for key, each in before.items() if key not in after
        )
    else:
        yield ChangedSetting(name, format_value(value), format_value(default) if known else "-")


def _leaves(value: Any, path: str = "") -> Iterator[tuple[str, str]]:
    if isinstance(value, dict) and value:
        for name, each in cast(dict[str, object], value).items():
            yield from _leaves(each, f"{path}.{name}" if path else name)
    else:
        yield path, format_value(value)


def format_value(value: Any) -> str:
    """Format a value as in settings files and options."""
    if value is None:
        return "none"
    if isinstance(value, (list, tuple)):
        return ", ".join(map(format_value, cast(Sequence[object], value))) or "[]"
    if isinstance(value, (bool, dict)):
        return json.dumps(value, ensure_ascii=False)
    return str(value)
