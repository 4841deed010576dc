"""The settings of a run as a reader wants them: what is not the default, and in what several runs differ."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, cast

from pydantic import BaseModel

UNLIKE = ("out", "resume")
"""Settings that say where a run lies rather than what it is."""


@dataclass(frozen=True)
class Setting:
    """A field of an experiment, by its dotted name."""

    name: str
    value: str
    default: str
    """What it would have been; "-" where there is none."""


def unusual(spec: BaseModel) -> list[Setting]:
    """Fields that are not at their defaults, in order of definition.

    Where another kind of part was chosen than the default one, the kind is told, and of its own fields those that are
    not at the defaults of that kind.
    """
    return [setting for setting in _unusual(spec, type(spec), "") if setting.name not in UNLIKE]


def differences(specs: Sequence[BaseModel]) -> list[tuple[str, tuple[str, ...]]]:
    """Fields in which specs differ, with the value of each spec; "-" where one has no such field."""
    flat = [dict(_leaves(spec.model_dump(mode="json"))) for spec in specs]
    names = dict.fromkeys(name for each in flat for name in each if name not in UNLIKE)
    rows = [(name, tuple(each.get(name, "-") for each in flat)) for name in names]
    return [(name, values) for name, values in rows if len(set(values)) > 1]


def _unusual(spec: BaseModel, kind: type[BaseModel], place: str, beneath: BaseModel | None = None) -> Iterator[Setting]:
    """What differs from `beneath`, or from the defaults of the class."""
    for name, field in kind.model_fields.items():
        value = getattr(spec, name)
        if beneath is not None:
            default, known = getattr(beneath, name), True
        else:
            default, known = field.get_default(call_default_factory=True, validated_data={}), not field.is_required()
        if not known or value != default:
            yield from _changed(value, default, f"{place}{name}", known=known)


def _changed(value: Any, default: Any, name: str, *, known: bool) -> Iterator[Setting]:
    if isinstance(value, BaseModel):
        if type(value) is type(default):
            yield from _unusual(value, type(value), f"{name}.", cast(BaseModel, default))
            return
        kinds = [getattr(each, "kind", type(each).__name__) if each is not None else None for each in (value, default)]
        yield Setting(f"{name}.kind", text(kinds[0]), text(kinds[1]) if known else "-")
        yield from (s for s in _unusual(value, type(value), f"{name}.") if s.name != f"{name}.kind")
    elif isinstance(value, Mapping) and value:
        now = cast(Mapping[str, Any], value)
        before = cast(Mapping[str, Any], default if isinstance(default, Mapping) else {})
        for key, each in now.items():
            if key not in before or each != before[key]:
                yield from _changed(each, before.get(key), f"{name}.{key}", known=key in before)
        yield from (Setting(f"{name}.{key}", "-", text(each)) for key, each in before.items() if key not in now)
    else:
        yield Setting(name, text(value), text(default) if known else "-")


def _leaves(value: Any, place: str = "") -> Iterator[tuple[str, str]]:
    if isinstance(value, dict) and value:
        for name, each in cast(dict[str, object], value).items():
            yield from _leaves(each, f"{place}.{name}" if place else name)
    else:
        yield place, text(value)


def text(value: Any) -> str:
    """A value as files of settings and options write it."""
    if value is None:
        return "none"
    if isinstance(value, (list, tuple)):
        return ", ".join(map(text, cast(Sequence[object], value))) or "[]"
    if isinstance(value, (bool, dict)):
        return json.dumps(value, ensure_ascii=False)
    return str(value)
