"""What is wrong with the options, and what is allowed, in terms of options.

The faults of single settings come first, then those that the validation finds in the whole tree. Every fault is one
line; an `OptionError` lists all.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from difflib import SequenceMatcher
from types import NoneType
from typing import NamedTuple, cast, get_args

from pydantic import ValidationError
from pydantic_core import ErrorDetails

from scmrl.config.overlay.annotations import (
    LIMIT_SYMBOLS,
    LIMIT_WORDS,
    bare,
    limits_of,
    literals_of,
    members_of,
    text_of,
    type_text,
)
from scmrl.config.overlay.help import iter_options
from scmrl.config.overlay.settings import Setting, Tree, tree_of
from scmrl.config.overlay.shape import ANY_NAME, TAG, FieldPath, Shape

MAX_NAMED = 3
"""Most kinds that are all listed in a fault."""
NUMBERS: dict[object, str] = {int: "a whole number", float: "a number"}


class OptionError(ValueError):
    """All faults of the options, one per line."""

    def __init__(self, faults: Sequence[str]):
        super().__init__(faults)
        self.faults = tuple(faults)

    def __str__(self) -> str:
        return "\n".join(self.faults)


def unknown_option(setting: Setting, root: Shape, group: Shape, depth: int, kind: object) -> str:
    """The fault of a field path that is unknown from index `depth` on, inside `group`."""
    path = setting.path
    if depth < len(path) - 1 and path[depth] in group.fields(kind):
        return f"{setting.label}: no such option; {setting.prefix}{'.'.join(path[: depth + 1])} takes one value"
    options = list_options(path[:depth], group, kind)
    # A missing first group: --columns.imu for --data.columns.imu.
    completed = [(name, *path) for name in root.fields() if depth == 0 and root.find((name, *path))]
    if completed:
        return f"{setting.label}: no such option (did you mean {setting.prefix + '.'.join(completed[0])}?); {options}"
    # Fields of the group come first, subgroups included.
    known = [setting.prefix + ".".join((*path[:depth], name)) for name in group.fields(kind)]
    for option in iter_options(root):
        parts = option.name.removeprefix("--").split(".")
        # Suggest an entry of a table under the name that the user typed, if the path leads to that table.
        typed = [
            path[index] if part == ANY_NAME and index < len(path) and tuple(parts[:index]) == path[:index] else part
            for index, part in enumerate(parts)
        ]
        known.append(setting.prefix + ".".join(typed))
    return f"{setting.label}: no such option{did_you_mean(setting.name, known)}; {options}"


def unknown_entry(setting: Setting, entries: Iterable[str]) -> str:
    """The fault of removing an entry that a table does not have."""
    *table, name = setting.path
    names = ", ".join(entries) or "no entries"
    return f"{setting}: no such entry{did_you_mean(name, entries)}; {'.'.join(table)} has: {names}"


def group_fault(setting: Setting, group: Shape) -> str:
    """The fault of giving a value to a group, a choice or a table."""
    tag, kind = ".".join([*setting.path, TAG]), str(setting.value)
    is_kind = group.is_choice and kind in group.models
    hint = f" (did you mean {setting.format_as_source(tag, kind)}?)" if is_kind else ""
    return f"{setting.label}: a group, not an option{hint}; {list_options(setting.path, group)}"


def wrong_kind(
    setting: Setting,
    choice: FieldPath,
    kind: str,
    kinds: Sequence[str],
    kind_setting: Setting | None,
    suggested: str = "",
) -> str:
    """The fault of an option that the current kind of a choice does not have.

    Args:
        setting: the faulty setting.
        choice: field path of the choice.
        kind: current kind of the choice.
        kinds: kinds that have the option.
        kind_setting: the setting of the current kind, if any.
        suggested: the kind to suggest, if it is one of `kinds`.
    """
    tag, suggestion = ".".join([*choice, TAG]), suggested if suggested in kinds else kinds[0]
    # One source cannot give a second kind, so its first one must change.
    if kind_setting is not None and kind_setting.source == setting.source:
        remedy = f"change {kind_setting.name} to {suggestion}"
    else:
        remedy = f"add {setting.format_as_source(tag, suggestion)}"
    if len(kinds) > MAX_NAMED:
        others = ", ".join(name for name in kinds if name != suggestion)
        return f"{setting.label}: {tag} {kind} has no such option ({remedy}; other kinds that have it: {others})"
    return f"{setting.label}: only {tag}={' or '.join(kinds)} has it; {tag} is {kind} ({remedy})"


def matching_kinds(choice: FieldPath, kinds: Sequence[str], shape: Shape, settings: Iterable[Setting]) -> list[str]:
    """Those of `kinds` that have all options that the settings give below a choice; `kinds` if there are none."""
    matching = list(kinds)
    for setting in settings:
        if setting.path[: len(choice)] == choice and (below := setting.path[len(choice) :]) not in ((), (TAG,)):
            matching = [kind for kind in matching if kind in shape.kinds_with(below)]
    return matching or list(kinds)


def list_options(path: FieldPath, shape: Shape, kind: object = None) -> str:
    """List the fields of a group."""
    names = ", ".join([ANY_NAME] if shape.entry is not None else shape.fields(kind))
    kind_text = f" (kind {kind})" if shape.is_choice and str(kind) in shape.models else ""
    return f"{'.'.join(path)}{kind_text} has: {names}" if path else f"there are: {names}"


def did_you_mean(name: str, known: Iterable[str], *, is_known: bool = False) -> str:
    """Suggest the most similar known name; the name itself is allowed if it `is_known`."""
    *groups, word = name.removeprefix("--").split(".")

    def similarity(other: str) -> float:
        *other_groups, other_word = other.removeprefix("--").split(".")
        # Abbreviations such as lr for learning_rate share few letters with the word.
        is_abbreviation = len(word) > 1 and re.match(".*?".join(map(re.escape, word)), other_word) is not None
        by_word = max(SequenceMatcher(None, word, other_word).ratio(), 0.7 * is_abbreviation)
        by_group = SequenceMatcher(None, ".".join(groups), ".".join(other_groups)).ratio() if groups else 0.5
        # A missing or misspelled group counts little.
        return (3 * by_word + by_group) / 4

    best = max(known, key=similarity, default="")
    return f" (did you mean {best}?)" if (best != name or is_known) and similarity(best) > 0.65 else ""


def explain(error: ValidationError, root: Shape, applied: Mapping[FieldPath, Setting], tree: Tree) -> list[str]:
    """Explain a validation error, one line per field."""
    faults: dict[str, list[str]] = {}
    for detail in error.errors(include_url=False):
        path, shape, value, rest, selected = locate(root, detail["loc"], tree)
        is_kind = shape.is_choice and detail["type"] in ("union_tag_invalid", "union_tag_not_found", "kind")
        is_missing = not rest and (detail["type"] == "missing" or (is_kind and TAG not in (tree_of(value) or {})))
        if is_kind or (is_missing and shape.is_choice):
            path = (*path, TAG)
        if is_missing:
            kinds = f": {' or '.join(shape.models)}" if shape.is_choice else ""
            faults[f"--{'.'.join(path)} is required{reason_required(selected, applied)}{kinds}"] = []
        elif detail["type"] == "extra_forbidden" and rest:
            known = [name for name in shape.fields() if name != TAG]
            text = f"no such option{did_you_mean(rest[0], known)}; {list_options(path, shape)}"
            faults.setdefault(".".join([*path, rest[0]]), []).append(text)
        else:
            text = describe_error(detail, shape)
            faults.setdefault(fault_label(path, text, applied), []).append(text)
    return [": ".join(filter(None, [label, "; ".join(dict.fromkeys(texts))])) for label, texts in faults.items()]


def reason_required(selected: tuple[FieldPath, str] | None, applied: Mapping[FieldPath, Setting]) -> str:
    """The choice that requires a value, and its position in a file."""
    if selected is None:
        return ""
    tag, kind = (*selected[0], TAG), selected[1]
    location = applied[tag].location if tag in applied else ""
    return f" when {'.'.join(tag)} is {kind}" + (f" ({location})" if location else "")


def fault_label(path: FieldPath, text: str, applied: Mapping[FieldPath, Setting]) -> str:
    """The setting of a field path, or the file position of the first field that the fault's text names."""
    if path in applied and not isinstance(applied[path].value, dict):
        return str(applied[path])
    below = [(*path, *word.rstrip(".").split(".")) for word in re.findall(r"[A-Za-z_][\w.]*", text)]
    locations = [applied[name].location for name in [*below, path] if name in applied and applied[name].location]
    return ": ".join(filter(None, [*locations[:1], ".".join(path)]))


class ErrorLocation(NamedTuple):
    """The field of a validation error."""

    path: FieldPath
    shape: Shape
    value: object
    """Its value in the tree; None if there is none."""
    rest: Sequence[str]
    """The rest of the error's path, inside the value."""
    selected: tuple[FieldPath, str] | None
    """The innermost choice above the field, and its kind."""


def locate(root: Shape, loc: Sequence[int | str], tree: Tree) -> ErrorLocation:
    """Find the field of a validation error.

    loc: pydantic's path; an integer indexes a sequence. In it, the kind follows the name of a choice whose type lists
        its models; for a choice with a registry, the kind is in the tree.
    """
    shape, value = root, cast(object, tree)
    rest: list[str] = [str(part) for part in loc]
    path: FieldPath = ()
    selected: tuple[FieldPath, str] | None = None
    while rest and not shape.is_value:
        kind = str((tree_of(value) or {}).get(TAG, shape.default_kind)) if shape.registry is not None else rest[0]
        if shape.is_choice and kind in shape.models:
            if shape.registry is None:
                del rest[0]
            selected = (path, kind)
            shape = Shape.of(shape.models[kind])
        elif (child := shape.child(rest[0])) is not None:
            value = (tree_of(value) or {}).get(rest[0], child.default)
            path = (*path, rest.pop(0))
            shape = child
        else:
            break
    return ErrorLocation(path, shape, value, rest, selected)


def type_in_words(annotation: object) -> str:
    """Format one member of a union: `a whole number greater than or equal to 1`, `auto`."""
    limits = limits_of(get_args(annotation)[1:], LIMIT_WORDS) if bare(annotation) in NUMBERS else []
    return " ".join([NUMBERS.get(bare(annotation), type_text(annotation)), " and ".join(limits)]).strip()


def describe_error(detail: ErrorDetails, shape: Shape) -> str:
    """Say what is wrong with a value and what is allowed."""
    fault, value = detail["type"], cast(object, detail["input"])
    limits = f" ({shape})" if limits_of(shape.metadata, LIMIT_SYMBOLS) else ""
    known = list(shape.models) or literals_of(shape.annotation)
    alternatives = [member for member in members_of(shape.annotation) if member is not NoneType]
    match fault:
        case "value_error" | "assertion_error":
            return str(detail.get("ctx", {}).get("error", ""))
        case "kind":
            return detail["msg"]
        case _ if shape.is_value and len(alternatives) > 1:
            if any(bare(member) in NUMBERS for member in alternatives):
                return f"must be {', or '.join(map(type_in_words, alternatives))}"
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
            return f"must be {' and '.join(limits_of(shape.metadata, LIMIT_WORDS))}"
        case _:
            return re.sub(r"^\w+ should ", "must ", detail["msg"]).replace(" after validation", "")
