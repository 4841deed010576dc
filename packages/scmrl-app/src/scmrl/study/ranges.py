"""Parse the settings to vary: `--vary FIELD=VALUES` for grids, `--search FIELD=RANGE` for searches.

Both options are repeated on the command line, once per field; a file gives a list of the same texts or a table of
fields. Everything is validated before training, each value as if it were an option of the experiment.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

from scmrl.config.experiment import Experiment
from scmrl.config.overlay import OptionError
from scmrl.config.overlay.annotations import bare, members_of, text_of
from scmrl.config.overlay.field_types import FieldType
from scmrl.config.overlay.options import field_path_of
from scmrl.study.points import Point

FIELD_PREFIX = re.compile(r"[A-Za-z_][\w.-]*=")
"""Start of an item that names a field; other items continue the previous field."""
FIXED_FIELDS = {
    "seed": "use --seeds",
    "out": "it is the study's folder",
    "resume": "points always resume",
}
"""Fields that a study cannot vary, and why."""


def merge_repeated(tokens: Sequence[str], option: str, example: str) -> list[str]:
    """Merge all occurrences of an option, each with one or more values, into one token.

    Raises:
        ValueError: the option has no value.
    """
    remaining, others, texts = list(tokens), list[str](), list[str]()
    while remaining:
        token = remaining.pop(0)
        if token != option and not token.startswith(f"{option}="):
            others.append(token)
            continue
        values = [token.removeprefix(f"{option}=")] if token != option else []
        while token == option and remaining and not remaining[0].startswith("--"):
            values.append(remaining.pop(0))
        if not any(values):
            raise ValueError(f"{option}: needs a field and its values, as in {option} {example}")
        texts += values
    return [*others, f"{option}={','.join(texts)}"] if texts else others


def group_by_field(value: object) -> tuple[str, ...]:
    """Return `FIELD=TEXT` once per field, from texts that may have been split at commas or from a table of fields.

    Raises:
        ValueError: a text that belongs to no field, or a repeated field.
    """
    if isinstance(value, Mapping):
        table = cast(Mapping[str, object], value)
        value = [f"{name}={_join(values)}" for name, values in table.items()]
    texts: dict[str, str] = {}
    field = ""
    for item in [value] if isinstance(value, str) else cast(Sequence[object], value or ()):
        item = text_of(item)
        if FIELD_PREFIX.match(item):
            name, _, text = item.partition("=")
            field = ".".join(field_path_of(FieldType.of(Experiment), name))
            if field in texts:
                raise ValueError(f"{field} is repeated; keep one")
            texts[field] = text
        elif field:
            texts[field] += f",{item}"
        else:
            raise ValueError(f"{item!r} belongs to no field; write FIELD=VALUES, as in model.fusion.alpha=0,0.5,1")
    return tuple(f"{name}={text}" for name, text in texts.items())


def _join(value: object) -> str:
    if not isinstance(value, (list, tuple)):
        return text_of(value)
    texts = [text_of(item) for item in cast(Sequence[object], value)]
    return "|".join(texts) if any("," in text for text in texts) else ",".join(texts)


def parse_values(base: Experiment, vary: Sequence[str]) -> dict[str, tuple[str, ...]]:
    """Return the values to try, by field.

    Values are separated by commas, or by `|` if a value contains commas.

    Raises:
        OptionError: all unknown fields, invalid values and repeated values.
    """
    values: dict[str, tuple[str, ...]] = {}
    faults: list[str] = []
    for item in vary:
        name, _, text = item.partition("=")
        values[name] = tuple(value.strip() for value in text.split("|" if "|" in text else ",") if value.strip())
        faults += _check_values(base, "--vary", name, values[name])
    if faults:
        raise OptionError(faults)
    return values


@dataclass(frozen=True)
class Choices:
    """A range of unordered values."""

    texts: tuple[str, ...]

    def text(self, value: Any) -> str:
        """Return a value as option text."""
        return str(value)

    def value(self, text: str) -> Any:
        """Return the value of an option text; None if it is outside the range."""
        return text if text in self.texts else None


@dataclass(frozen=True)
class Span:
    """A range of numbers, both ends included."""

    low: float
    high: float
    integer: bool
    log: bool
    """Whether the scale is logarithmic."""

    def text(self, value: Any) -> str:
        """Return a value as option text, with six digits."""
        if self.integer:
            return str(int(value))
        short = f"{value:.6g}"
        return short if self.low <= float(short) <= self.high else repr(float(value))

    def value(self, text: str) -> Any:
        """Return the value of an option text; None if it is outside the range."""
        try:
            number = int(text) if self.integer else float(text)
        except ValueError:
            return None
        return number if self.low <= number <= self.high else None


def parse_ranges(base: Experiment, search: Sequence[str]) -> dict[str, Choices | Span]:
    """Return the ranges to search, by field: `LOW..HIGH`, `LOW..HIGH,log` or `A|B|C`.

    Raises:
        OptionError: all unknown fields and invalid ranges.
    """
    ranges: dict[str, Choices | Span] = {}
    faults: list[str] = []
    for item in search:
        name, _, text = item.partition("=")
        ends, _, scale = text.partition(",")
        low, dots, high = (part.strip() for part in ends.partition(".."))
        if not dots:
            texts = tuple(part.strip() for part in text.split("|" if "|" in text else ",") if part.strip())
            ranges[name] = Choices(texts)
            faults += _check_values(base, "--search", name, texts)
            continue
        label = f"--search {name} = {text}"
        invalid = _check_values(base, "--search", name, (low, high))
        numbers = [_parse_number(low), _parse_number(high)]
        if invalid:
            faults += invalid
        elif numbers[0] is None or numbers[1] is None:
            faults.append(f"{label}: the ends of a range must be numbers; separate other values by |")
        elif scale.strip() not in ("", "log"):
            faults.append(f"{label}: only log may follow a range")
        elif numbers[0] >= numbers[1]:
            faults.append(f"{label}: the lower end must come first")
        elif scale and numbers[0] <= 0:
            faults.append(f"{label}: a log range must start above 0")
        else:
            ranges[name] = Span(numbers[0], numbers[1], _is_integer(name), bool(scale))
    if faults:
        raise OptionError(faults)
    return ranges


def find_faults(base: Experiment, settings: Mapping[str, str]) -> list[str]:
    """Return the faults of options that override the experiment's."""
    try:
        Point("these settings", settings, base.seed).experiment(base, Path("point"))
    except OptionError as error:
        return list(error.faults)
    return []


def dump_experiment(base: Experiment, settings: Mapping[str, str]) -> Any:
    """Return the experiment with such options as JSON, to compare experiments."""
    return Point("these settings", settings, base.seed).experiment(base, Path("point")).model_dump(mode="json")


def base_value(base: Experiment, field: str) -> str:
    """Return the experiment's value of a field as option text."""
    value: Any = base.model_dump(mode="json")
    for part in field.split("."):
        value = cast(dict[str, Any], value).get(part) if isinstance(value, dict) else None
    return text_of(value)


def _check_values(base: Experiment, option: str, name: str, values: Sequence[str]) -> list[str]:
    if name in FIXED_FIELDS:
        return [f"{option} {name}: cannot be varied; {FIXED_FIELDS[name]}"]
    if not values:
        return [f"{option} {name}: no values; write them after =, separated by commas"]
    faults: list[str] = []
    dumps: list[tuple[str, Any]] = []
    for value in values:
        invalid = find_faults(base, {name: value})
        # A conflict between fields is reported for another field, so prefix the value that caused it.
        faults += [
            fault.replace(f"--{name}", f"{option} {name}", 1)
            if f"--{name}" in fault
            else f"{option} {name} = {value}: {fault}"
            for fault in invalid
        ]
        if invalid:
            continue
        dump = dump_experiment(base, {name: value})
        duplicate = next((text for text, other in dumps if other == dump), None)
        if duplicate is not None:
            faults.append(f"{option} {name} = {value}: the same value as {duplicate}; keep one")
        dumps.append((value, dump))
    return list(dict.fromkeys(faults))


def _parse_number(text: str) -> float | None:
    try:
        return float(text)
    except ValueError:
        return None


def _is_integer(name: str) -> bool:
    """Return whether a field accepts integers only."""
    types = [
        bare(member)
        for shape in FieldType.of(Experiment).find(tuple(name.split(".")))
        for member in members_of(shape.annotation)
    ]
    return int in types and float not in types


def short_names(fields: Sequence[str]) -> dict[str, str]:
    """Shorten field paths to their last parts, as many as make them distinct."""
    names: dict[str, str] = {}
    for name in fields:
        words = name.split(".")
        tails = [".".join(words[-count:]) for count in range(1, len(words) + 1)]
        names[name] = (
            next(
                tail for tail in tails if not any(f".{other}".endswith(f".{tail}") for other in fields if other != name)
            )
            if len(fields) > 1
            else words[-1]
        )
    return names
