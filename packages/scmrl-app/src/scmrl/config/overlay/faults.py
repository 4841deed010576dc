"""What is wrong with the options, and what is allowed, in terms of options.

The faults of single settings come first, then those that the validation finds in the nested values. Every fault is
one line; an `OptionError` lists all.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from difflib import SequenceMatcher
from types import NoneType
from typing import Annotated, Any, NamedTuple, Union, cast, get_args

from pydantic import TypeAdapter, ValidationError
from pydantic_core import ErrorDetails

from scmrl.config.overlay.annotations import literals_of, members_of, text_of
from scmrl.config.overlay.field_types import ANY_NAME, TAG, FieldPath, FieldType
from scmrl.config.overlay.help import iter_options
from scmrl.config.overlay.settings import Setting, Values, values_of
from snn_fusion.specs.allowed_values import AllowedValues
from snn_fusion.specs.explain import PYDANTIC_ERRORS

MAX_NAMED = 3
"""Most kinds that are all listed in a fault."""


class OptionError(ValueError):
    """All faults of the options, one per line."""

    def __init__(self, faults: Sequence[str]):
        super().__init__(faults)
        self.faults = tuple(faults)

    def __str__(self) -> str:
        return "\n".join(self.faults)


def unknown_option(setting: Setting, root: FieldType, group: FieldType, depth: int, kind: object) -> str:
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


def group_fault(setting: Setting, group: FieldType) -> str:
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


def matching_kinds(
    choice: FieldPath, kinds: Sequence[str], field_type: FieldType, settings: Iterable[Setting]
) -> list[str]:
    """Those of `kinds` that have all options that the settings give below a choice; `kinds` if there are none."""
    matching = list(kinds)
    for setting in settings:
        if setting.path[: len(choice)] == choice and (below := setting.path[len(choice) :]) not in ((), (TAG,)):
            matching = [kind for kind in matching if kind in field_type.kinds_with(below)]
    return matching or list(kinds)


def list_options(path: FieldPath, field_type: FieldType, kind: object = None) -> str:
    """List the fields of a group."""
    names = ", ".join([ANY_NAME] if field_type.entry is not None else field_type.fields(kind))
    kind_text = f" (kind {kind})" if field_type.is_choice and str(kind) in field_type.models else ""
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


def explain(error: ValidationError, root: FieldType, applied: Mapping[FieldPath, Setting], values: Values) -> list[str]:
    """Explain a validation error, one line per field."""
    faults: dict[str, list[str]] = {}
    for detail in error.errors(include_url=False):
        path, field_type, value, rest, selected = locate(root, detail["loc"], values)
        is_kind = field_type.is_choice and detail["type"] in ("union_tag_invalid", "union_tag_not_found", "kind")
        is_missing = not rest and (detail["type"] == "missing" or (is_kind and TAG not in (values_of(value) or {})))
        if is_kind or (is_missing and field_type.is_choice):
            path = (*path, TAG)
        if is_missing:
            kinds = f": {' or '.join(field_type.models)}" if field_type.is_choice else ""
            faults[f"--{'.'.join(path)} is required{reason_required(selected, applied)}{kinds}"] = []
        elif detail["type"] == "extra_forbidden" and rest:
            known = [name for name in field_type.fields() if name != TAG]
            text = f"no such option{did_you_mean(rest[0], known)}; {list_options(path, field_type)}"
            faults.setdefault(".".join([*path, rest[0]]), []).append(text)
        else:
            text = describe_error(detail, field_type)
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
    field_type: FieldType
    value: object
    """Its value; None if there is none."""
    rest: Sequence[str]
    """The rest of the error's path, inside the value."""
    selected: tuple[FieldPath, str] | None
    """The innermost choice above the field, and its kind."""


def locate(root: FieldType, loc: Sequence[int | str], values: Values) -> ErrorLocation:
    """Find the field of a validation error.

    loc: pydantic's path; an integer indexes a sequence. In it, the kind follows the name of a choice whose type lists
        its models; for a choice with a registry, the kind is among the values.
    """
    field_type, value = root, cast(object, values)
    rest: list[str] = [str(part) for part in loc]
    path: FieldPath = ()
    selected: tuple[FieldPath, str] | None = None
    while rest and not field_type.is_value:
        kind = (
            str((values_of(value) or {}).get(TAG, field_type.default_kind))
            if field_type.registry is not None
            else rest[0]
        )
        if field_type.is_choice and kind in field_type.models:
            if field_type.registry is None:
                del rest[0]
            selected = (path, kind)
            field_type = FieldType.of(field_type.models[kind])
        elif (child := field_type.child(rest[0])) is not None:
            value = (values_of(value) or {}).get(rest[0], child.default)
            path = (*path, rest.pop(0))
            field_type = child
        else:
            break
    return ErrorLocation(path, field_type, value, rest, selected)


def describe_error(detail: ErrorDetails, field_type: FieldType) -> str:
    """Say what is wrong with a value and what is allowed."""
    if detail["type"] in ("value_error", "assertion_error"):
        return str(detail.get("ctx", {}).get("error", ""))
    if detail["type"] == "missing":
        return f"must have {len(get_args(field_type.annotation))} items ({field_type})"
    allowed = f"one of {', '.join(field_type.models)}" if field_type.is_choice else allowed_text(field_type)
    if detail["type"] not in PYDANTIC_ERRORS or allowed is None:
        return re.sub(r"^\w+ should ", "must ", detail["msg"]).replace(" after validation", "")
    text = text_of(detail.get("ctx", {}).get("tag", cast(object, detail["input"])))
    return f"must be {allowed}{did_you_mean(text, list(field_type.models) or literals_of(field_type.annotation))}"


def allowed_text(field_type: FieldType) -> str | None:
    """Describe the values that an option may have besides none; None if there is no short description."""
    union, annotated = cast("Any", Union), cast("Any", Annotated)  # built from types that are only known now
    annotation = union[tuple(member for member in members_of(field_type.annotation) if member is not NoneType)]
    if field_type.metadata:
        annotation = annotated[(annotation, *field_type.metadata)]
    schema = TypeAdapter[Any](annotation).json_schema()
    return AllowedValues(schema, schema.get("$defs", {})).text()
