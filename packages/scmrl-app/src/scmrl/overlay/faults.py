"""What is wrong with the options, and what would be right, in the words of the options.

First come the faults of a setting that cannot stand where it was put, then those that the validation finds in the
tree as a whole. Every fault is one line; an `OptionError` carries them all.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from difflib import SequenceMatcher
from types import NoneType
from typing import NamedTuple, cast, get_args

from pydantic import ValidationError
from pydantic_core import ErrorDetails

from scmrl.overlay.annotations import SIGNS, WORDS, bare, limits_of, literals_of, members_of, text_of, type_text
from scmrl.overlay.help import walk
from scmrl.overlay.settings import Setting, Tree, tree_of
from scmrl.overlay.shape import ANY_NAME, TAG, Place, Shape

FEW = 3
"""Kinds up to which all are named at once."""
NUMBERS: dict[object, str] = {int: "a whole number", float: "a number"}


class OptionError(ValueError):
    """Everything that is wrong with the options given, one line a fault."""

    def __init__(self, faults: Sequence[str]):
        super().__init__(faults)
        self.faults = tuple(faults)

    def __str__(self) -> str:
        return "\n".join(self.faults)


def no_such_option(setting: Setting, root: Shape, group: Shape, depth: int, kind: object) -> str:
    """The fault of a place that stops being known at `depth`, inside `group`."""
    place = setting.place
    if depth < len(place) - 1 and place[depth] in group.fields(kind):
        return f"{setting.label}: no such option; {setting.prefix}{'.'.join(place[: depth + 1])} takes one value"
    # What the group has comes first, whole groups included.
    known = [setting.prefix + ".".join((*place[:depth], name)) for name in group.fields(kind)]
    # What stands below a group that was forgotten: --columns.imu for --data.columns.imu.
    forgotten = [(name, *place) for name in root.fields() if depth == 0 and root.find((name, *place))]
    if forgotten:
        meant = setting.prefix + ".".join(forgotten[0])
        return f"{setting.label}: no such option (did you mean {meant}?); {inventory(place[:depth], group, kind)}"
    for option in walk(root):
        parts = option.name.removeprefix("--").split(".")
        # Entries of a table are suggested under the name that the user gave them, if it is that table that was meant.
        named = [
            place[at] if part == ANY_NAME and at < len(place) and tuple(parts[:at]) == place[:at] else part
            for at, part in enumerate(parts)
        ]
        known.append(setting.prefix + ".".join(named))
    return (
        f"{setting.label}: no such option{did_you_mean(setting.name, known)}; {inventory(place[:depth], group, kind)}"
    )


def no_such_entry(setting: Setting, entries: Iterable[str]) -> str:
    """The fault of taking out of a table what is not in it."""
    *table, name = setting.place
    there = ", ".join(entries) or "no entries"
    return f"{setting}: no such entry{did_you_mean(name, entries)}; {'.'.join(table)} has: {there}"


def not_an_option(setting: Setting, group: Shape) -> str:
    """The fault of giving a value to a group, a choice or a table."""
    tag, kind = ".".join([*setting.place, TAG]), str(setting.value)
    hint = f" (did you mean {setting.written(tag, kind)}?)" if group.is_choice and kind in group.models else ""
    return f"{setting.label}: a group, not an option{hint}; {inventory(setting.place, group)}"


def not_of_this_kind(
    setting: Setting, choice: Place, kind: str, having: Sequence[str], chosen: Setting | None, likely: str = ""
) -> str:
    """The fault of a place that only the kinds `having` have.

    Args:
        setting: what cannot stand there.
        choice: the choice that the place is below.
        kind: the choice's kind.
        having: kinds that have the place.
        chosen: what set the kind, if anything did.
        likely: the kind to advise, if it is among them.
    """
    tag, advised = ".".join([*choice, TAG]), likely if likely in having else having[0]
    # The same source cannot give a second kind, so there the first has to go.
    if chosen is not None and chosen.source == setting.source:
        remedy = f"change {chosen.name} to {advised}"
    else:
        remedy = f"add {setting.written(tag, advised)}"
    if len(having) > FEW:
        others = ", ".join(name for name in having if name != advised)
        return f"{setting.label}: {tag} {kind} has no such option ({remedy}; other kinds that have it: {others})"
    return f"{setting.label}: only {tag}={' or '.join(having)} has it; {tag} is {kind} ({remedy})"


def kinds_that_fit(choice: Place, having: Sequence[str], shape: Shape, settings: Iterable[Setting]) -> list[str]:
    """Of the kinds that have one place, those that have all other places that are given below the choice, too.

    The kinds as they are, if none has.
    """
    fitting = list(having)
    for setting in settings:
        if setting.place[: len(choice)] == choice and (below := setting.place[len(choice) :]) not in ((), (TAG,)):
            fitting = [kind for kind in fitting if kind in shape.kinds_with(below)]
    return fitting or list(having)


def inventory(place: Place, shape: Shape, kind: object = None) -> str:
    """What may be given inside a group."""
    names = ", ".join([ANY_NAME] if shape.entry is not None else shape.fields(kind))
    chosen = f" (kind {kind})" if shape.is_choice and str(kind) in shape.models else ""
    return f"{'.'.join(place)}{chosen} has: {names}" if place else f"there are: {names}"


def did_you_mean(name: str, known: Iterable[str], *, is_known: bool = False) -> str:
    """A hint at the known name most like this one, which may be this one itself if it `is_known`."""
    *groups, word = name.removeprefix("--").split(".")

    def likeness(other: str) -> float:
        *their_groups, their_word = other.removeprefix("--").split(".")
        # Short forms such as lr for learning_rate are far from the word by their letters alone.
        is_short = len(word) > 1 and re.match(".*?".join(map(re.escape, word)), their_word) is not None
        by_word = max(SequenceMatcher(None, word, their_word).ratio(), 0.7 * is_short)
        by_group = SequenceMatcher(None, ".".join(groups), ".".join(their_groups)).ratio() if groups else 0.5
        # A group that was forgotten or misspelled weighs little.
        return (3 * by_word + by_group) / 4

    best = max(known, key=likeness, default="")
    return f" (did you mean {best}?)" if (best != name or is_known) and likeness(best) > 0.65 else ""


def explain(error: ValidationError, root: Shape, given: Mapping[Place, Setting], tree: Tree) -> list[str]:
    """One line for each place of the tree that the validation found fault with."""
    faults: dict[str, list[str]] = {}
    for detail in error.errors(include_url=False):
        place, shape, value, rest, chosen = locate(root, detail["loc"], tree)
        is_kind = shape.is_choice and detail["type"] in ("union_tag_invalid", "union_tag_not_found", "kind")
        is_missing = not rest and (detail["type"] == "missing" or (is_kind and TAG not in (tree_of(value) or {})))
        if is_kind or (is_missing and shape.is_choice):
            place = (*place, TAG)
        if is_missing:
            one_of = f": {' or '.join(shape.models)}" if shape.is_choice else ""
            faults[f"--{'.'.join(place)} is needed{because(chosen, given)}{one_of}"] = []
        elif detail["type"] == "extra_forbidden" and rest:
            known = [name for name in shape.fields() if name != TAG]
            text = f"no such option{did_you_mean(rest[0], known)}; {inventory(place, shape)}"
            faults.setdefault(".".join([*place, rest[0]]), []).append(text)
        else:
            text = complaint(detail, shape)
            faults.setdefault(label_of(place, text, given), []).append(text)
    return [": ".join(filter(None, [label, "; ".join(dict.fromkeys(texts))])) for label, texts in faults.items()]


def because(chosen: tuple[Place, str] | None, given: Mapping[Place, Setting]) -> str:
    """Which choice made a value necessary, and where in a file it was made."""
    if chosen is None:
        return ""
    tag, kind = (*chosen[0], TAG), chosen[1]
    where = given[tag].at if tag in given else ""
    return f" when {'.'.join(tag)} is {kind}" + (f" ({where})" if where else "")


def label_of(place: Place, text: str, given: Mapping[Place, Setting]) -> str:
    """What a fault is about: the setting of that place, or the line of a file that gave what the text names first."""
    if place in given and not isinstance(given[place].value, dict):
        return str(given[place])
    below = [(*place, *word.rstrip(".").split(".")) for word in re.findall(r"[A-Za-z_][\w.]*", text)]
    lines = [given[named].at for named in [*below, place] if named in given and given[named].at]
    return ": ".join(filter(None, [*lines[:1], ".".join(place)]))


class Located(NamedTuple):
    """Where a validation error lies."""

    place: Place
    shape: Shape
    value: object
    """What the tree says there; None where it says nothing."""
    rest: Sequence[str]
    """The rest of the error's path, within the value."""
    chosen: tuple[Place, str] | None
    """The last choice on the way, and its kind."""


def locate(root: Shape, loc: Sequence[int | str], tree: Tree) -> Located:
    """Find the place of the tree that a validation error is about.

    loc: the path as pydantic has it, an index being that of a sequence. The kind follows the name of a choice whose
        type lists its models; where a registry offers them, the tree knows the kind.
    """
    shape, value = root, cast(object, tree)
    rest: list[str] = [str(part) for part in loc]
    place: Place = ()
    chosen: tuple[Place, str] | None = None
    while rest and not shape.is_value:
        kind = str((tree_of(value) or {}).get(TAG, shape.default_kind)) if shape.registry is not None else rest[0]
        if shape.is_choice and kind in shape.models:
            if shape.registry is None:
                del rest[0]
            chosen = (place, kind)
            shape = Shape.of(shape.models[kind])
        elif (child := shape.child(rest[0])) is not None:
            value = (tree_of(value) or {}).get(rest[0], child.default)
            place = (*place, rest.pop(0))
            shape = child
        else:
            break
    return Located(place, shape, value, rest, chosen)


def in_words(alternative: object) -> str:
    """One of several types that a value may have: `a whole number greater than or equal to 1`, `auto`."""
    limits = limits_of(get_args(alternative)[1:], WORDS) if bare(alternative) in NUMBERS else []
    return " ".join([NUMBERS.get(bare(alternative), type_text(alternative)), " and ".join(limits)]).strip()


def complaint(detail: ErrorDetails, shape: Shape) -> str:
    """What is wrong with a value, and what would be right."""
    fault, value = detail["type"], cast(object, detail["input"])
    limits = f" ({shape})" if limits_of(shape.metadata, SIGNS) else ""
    known = list(shape.models) or literals_of(shape.annotation)
    alternatives = [member for member in members_of(shape.annotation) if member is not NoneType]
    match fault:
        case "value_error" | "assertion_error":
            return str(detail.get("ctx", {}).get("error", ""))
        case "kind":
            return detail["msg"]
        case _ if shape.is_value and len(alternatives) > 1:
            if any(bare(member) in NUMBERS for member in alternatives):
                return f"must be {', or '.join(map(in_words, alternatives))}"
            return f"must be {shape}"
        case "literal_error" | "enum" | "union_tag_invalid":
            typed = text_of(detail.get("ctx", {}).get("tag", value))
            return f"must be one of {', '.join(known)}{did_you_mean(typed, known)}"
        case "int_parsing" | "int_type" | "int_from_float":
            return f"{text_of(value)!r} is not a whole number{limits}"
        case "float_parsing" | "float_type":
            return f"{text_of(value)!r} is not a number{limits}"
        case "bool_parsing" | "bool_type":
            return "must be true or false"
        case "missing":
            return f"must have {len(get_args(shape.annotation))} items ({shape})"
        case "greater_than" | "greater_than_equal" | "less_than" | "less_than_equal" if limits:
            return f"must be {' and '.join(limits_of(shape.metadata, WORDS))}"
        case _:
            return re.sub(r"^\w+ should ", "must ", detail["msg"]).replace(" after validation", "")
