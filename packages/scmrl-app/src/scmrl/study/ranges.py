"""What to vary, as users say it: `--vary FIELD=VALUES` for grids, `--search FIELD=RANGE` for searches.

Both are repeated on the command line, once a field; a file gives them as a list of the same texts, or as a table of
fields. Everything is checked before anything is trained, each value as if it were an option of the experiment.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

from scmrl.experiment import Experiment
from scmrl.overlay import OptionError
from scmrl.overlay.annotations import bare, members_of, text_of
from scmrl.overlay.options import place_of
from scmrl.overlay.shape import Shape
from scmrl.study.points import Point

BEGINNING = re.compile(r"[A-Za-z_][\w.-]*=")
"""Where an item names a field; other items go on with the field before."""
OF_STUDIES = {"seed": "--seeds says which seeds there are", "out": "it is the folder", "resume": "points always do"}


def gather(tokens: Sequence[str], option: str, example: str) -> list[str]:
    """Tokens in which all occurrences of an option, each with one or more texts, are one.

    Raises:
        ValueError: the option stands without a text.
    """
    rest, others, texts = list(tokens), list[str](), list[str]()
    while rest:
        token = rest.pop(0)
        if token != option and not token.startswith(f"{option}="):
            others.append(token)
            continue
        found = [token.removeprefix(f"{option}=")] if token != option else []
        while token == option and rest and not rest[0].startswith("--"):
            found.append(rest.pop(0))
        if not any(found):
            raise ValueError(f"{option}: needs a field and what to try, as in {option} {example}")
        texts += found
    return [*others, f"{option}={','.join(texts)}"] if texts else others


def by_field(given: object) -> tuple[str, ...]:
    """`FIELD=TEXT`, one a field, of texts that may have been split at commas, or of a table of fields.

    Raises:
        ValueError: a text that belongs to no field, or a field given twice.
    """
    if isinstance(given, Mapping):
        table = cast(Mapping[str, object], given)
        given = [f"{name}={_joined(value)}" for name, value in table.items()]
    found: dict[str, str] = {}
    last = ""
    for item in [given] if isinstance(given, str) else cast(Sequence[object], given or ()):
        item = text_of(item)
        if BEGINNING.match(item):
            name, _, text = item.partition("=")
            last = ".".join(place_of(Shape.of(Experiment), name))
            if last in found:
                raise ValueError(f"{last} is given twice; keep one")
            found[last] = text
        elif last:
            found[last] += f",{item}"
        else:
            raise ValueError(f"{item!r} belongs to no field; write FIELD=VALUES, as in model.fusion.alpha=0,0.5,1")
    return tuple(f"{name}={text}" for name, text in found.items())


def _joined(value: object) -> str:
    if not isinstance(value, (list, tuple)):
        return text_of(value)
    texts = [text_of(item) for item in cast(Sequence[object], value)]
    return "|".join(texts) if any("," in text for text in texts) else ",".join(texts)


def values_of(base: Experiment, vary: Sequence[str]) -> dict[str, tuple[str, ...]]:
    """The values to try, by field.

    Values are separated by commas, or by `|` where a value holds commas.

    Raises:
        OptionError: every field that there is not, and every value that it may not have or that is given twice.
    """
    found: dict[str, tuple[str, ...]] = {}
    faults: list[str] = []
    for item in vary:
        name, _, text = item.partition("=")
        found[name] = tuple(value.strip() for value in text.split("|" if "|" in text else ",") if value.strip())
        faults += _faults(base, "--vary", name, found[name])
    if faults:
        raise OptionError(faults)
    return found


@dataclass(frozen=True)
class Choices:
    """Some values, in no order."""

    texts: tuple[str, ...]

    def text(self, value: Any) -> str:
        """A value as an option."""
        return str(value)

    def value(self, text: str) -> Any:
        """The value of an option's text; None if it is not among these."""
        return text if text in self.texts else None


@dataclass(frozen=True)
class Span:
    """All numbers from one to another, both included."""

    low: float
    high: float
    whole: bool
    """Whether only whole numbers are meant."""
    log: bool
    """Whether to try as many between 1 and 10 as between 10 and 100."""

    def text(self, value: Any) -> str:
        """A value as an option, with six digits."""
        if self.whole:
            return str(int(value))
        short = f"{value:.6g}"
        return short if self.low <= float(short) <= self.high else repr(float(value))

    def value(self, text: str) -> Any:
        """The value of an option's text; None if it is not among these."""
        try:
            number = int(text) if self.whole else float(text)
        except ValueError:
            return None
        return number if self.low <= number <= self.high else None


def ranges_of(base: Experiment, search: Sequence[str]) -> dict[str, Choices | Span]:
    """What to search, by field: `LOW..HIGH`, `LOW..HIGH,log` or `A|B|C`.

    Raises:
        OptionError: every field that there is not, and every range that it may not have.
    """
    found: dict[str, Choices | Span] = {}
    faults: list[str] = []
    for item in search:
        name, _, text = item.partition("=")
        ends, _, scale = text.partition(",")
        low, dots, high = (part.strip() for part in ends.partition(".."))
        if not dots:
            texts = tuple(part.strip() for part in text.split("|" if "|" in text else ",") if part.strip())
            found[name] = Choices(texts)
            faults += _faults(base, "--search", name, texts)
            continue
        label = f"--search {name} = {text}"
        wrong = _faults(base, "--search", name, (low, high))
        numbers = [_number(low), _number(high)]
        if wrong:
            faults += wrong
        elif numbers[0] is None or numbers[1] is None:
            faults.append(f"{label}: a range goes from one number to another; separate other values by |")
        elif scale.strip() not in ("", "log"):
            faults.append(f"{label}: after the range there may be log alone")
        elif numbers[0] >= numbers[1]:
            faults.append(f"{label}: a range goes from the lower number to the higher")
        elif scale and numbers[0] <= 0:
            faults.append(f"{label}: with log, a range begins above 0")
        else:
            found[name] = Span(numbers[0], numbers[1], _is_whole(name), bool(scale))
    if faults:
        raise OptionError(faults)
    return found


def faults_of(base: Experiment, settings: Mapping[str, str]) -> list[str]:
    """What is wrong with options in place of the experiment's."""
    try:
        Point("these settings", settings, base.seed).experiment(base, Path("point"))
    except OptionError as error:
        return list(error.faults)
    return []


def what_it_says(base: Experiment, settings: Mapping[str, str]) -> Any:
    """An experiment with such options, to tell whether two are the same."""
    return Point("these settings", settings, base.seed).experiment(base, Path("point")).model_dump(mode="json")


def said_of(base: Experiment, field: str) -> str:
    """What the experiment itself says of a field, as an option."""
    says: Any = base.model_dump(mode="json")
    for part in field.split("."):
        says = cast(dict[str, Any], says).get(part) if isinstance(says, dict) else None
    return text_of(says)


def _faults(base: Experiment, option: str, name: str, values: Sequence[str]) -> list[str]:
    if name in OF_STUDIES:
        return [f"{option} {name}: cannot be varied; {OF_STUDIES[name]}"]
    if not values:
        return [f"{option} {name}: no values; write them after =, separated by commas"]
    faults: list[str] = []
    seen: list[tuple[str, Any]] = []
    for value in values:
        wrong = faults_of(base, {name: value})
        # What does not fit together names other fields, so it is said which value it does not fit.
        faults += [
            fault.replace(f"--{name}", f"{option} {name}", 1)
            if f"--{name}" in fault
            else f"{option} {name} = {value}: {fault}"
            for fault in wrong
        ]
        if wrong:
            continue
        says = what_it_says(base, {name: value})
        twin = next((text for text, other in seen if other == says), None)
        if twin is not None:
            faults.append(f"{option} {name} = {value}: the same value as {twin}; keep one")
        seen.append((value, says))
    return list(dict.fromkeys(faults))


def _number(text: str) -> float | None:
    try:
        return float(text)
    except ValueError:
        return None


def _is_whole(name: str) -> bool:
    """Whether a field takes whole numbers only."""
    types = [
        bare(member)
        for shape in Shape.of(Experiment).find(tuple(name.split(".")))
        for member in members_of(shape.annotation)
    ]
    return int in types and float not in types


def short_names(fields: Sequence[str]) -> dict[str, str]:
    """The last words of fields' names, as many as tell them apart."""
    found: dict[str, str] = {}
    for name in fields:
        words = name.split(".")
        tails = [".".join(words[-count:]) for count in range(1, len(words) + 1)]
        found[name] = (
            next(
                tail for tail in tails if not any(f".{other}".endswith(f".{tail}") for other in fields if other != name)
            )
            if len(fields) > 1
            else words[-1]
        )
    return found
