"""Merge layers of settings into nested values, and validate it as a spec.

Later layers override earlier ones: the spec's defaults, then `defaults`, then each file, then the options. The
nested values are the explicit ones only; the models fill in their defaults.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TypeVar, get_origin

from pydantic import BaseModel, ValidationError

from scmrl.config.overlay.annotations import SEQUENCES, bare, literals_of, members_of
from scmrl.config.overlay.faults import (
    OptionError,
    explain,
    group_fault,
    matching_kinds,
    unknown_entry,
    unknown_option,
    wrong_kind,
)
from scmrl.config.overlay.field_types import TAG, FieldPath, FieldType, fields_of
from scmrl.config.overlay.files import settings_in
from scmrl.config.overlay.options import parse
from scmrl.config.overlay.settings import Setting, Values, settings_of, values_of

S = TypeVar("S", bound=BaseModel)


def load(
    spec_type: type[S],
    options: Sequence[str],
    *,
    defaults: Mapping[str, object] | BaseModel | None = None,
    defaults_from: str = "defaults",
    files: Sequence[Path] = (),
    suggested: Mapping[str, str] | None = None,
) -> S:
    """Build the spec from options, files and defaults, or raise an OptionError that lists all faults.

    options: `--a.b value`, `--a.b=value`, `--a.flag`, `--no-a.flag` in any order; `--a.kind x` resets a to kind x
    defaults: values that override the spec's own, nested by field; a table replaces the spec's table
    defaults_from: name of the defaults in messages
    files: YAML and JSON files that override the defaults, later over earlier; their tables replace, too
    suggested: by choice, the kind to suggest if an option belongs to another kind
    """
    root, values, applied = FieldType.of(spec_type), empty_values(spec_type), dict[FieldPath, Setting]()
    option_settings, faults = parse(root, options)
    layers = [list(settings_of(root, values_of(defaults) or {}, defaults_from))]
    file_faults: list[str] = []
    for path in files:
        layer, syntax_errors = settings_in(path, root)
        layers.append(layer)
        file_faults += syntax_errors
    if file_faults:
        # Without the content of such a file, checks of the rest would be misleading.
        raise OptionError([*file_faults, *faults])
    for layer in (*layers, option_settings):
        # Parents before children and kinds first, so that the order of options does not matter.
        for setting in sorted(layer, key=lambda setting: (len(setting.path), setting.path[-1] != TAG)):
            fault = contradiction(setting, layer) or apply(values, root, setting, applied, layer, suggested or {})
            if fault:
                faults.append(fault)
            else:
                applied[setting.path] = setting
    try:
        spec = spec_type.model_validate(values)
    except ValidationError as error:
        raise OptionError([*faults, *explain(error, root, applied, values)]) from None
    if faults:
        raise OptionError(faults)
    return spec


def contradiction(setting: Setting, layer: Iterable[Setting]) -> str | None:
    """Return the fault of a setting below one that the same layer sets to none."""
    for other in layer:
        if other.path == setting.path[: len(other.path)] != setting.path and other.is_nothing:
            return f"{setting}: but {other}; give one or the other"
    return None


def apply(
    values: Values,
    root: FieldType,
    setting: Setting,
    applied: Mapping[FieldPath, Setting],
    layer: Sequence[Setting],
    suggested: Mapping[str, str],
) -> str | None:
    """Write one setting into the values of its field path, or return its fault.

    Args:
        values: changed in place.
        root: the type of the spec.
        setting: the setting to write.
        applied: settings written before.
        layer: all settings of the same source, used to suggest a kind.
        suggested: by choice, the kind to suggest if it fits.
    """
    *above, name = path = setting.path
    field_type = root
    for depth, group in enumerate(above):
        child = field_type.child(group, values.get(TAG))
        if child is None or child.is_value:
            return unknown_option(setting, root, field_type, depth, values.get(TAG))
        values, field_type = enter(values, group, child), child
        choice, below = path[: depth + 1], path[depth + 1 :]
        kind, kinds = str(values.get(TAG)), field_type.kinds_with(below)
        if kind in field_type.models and kinds and kind not in kinds:
            kinds = matching_kinds(choice, kinds, field_type, layer)
            kind_setting = applied.get((*choice, TAG))
            return wrong_kind(setting, choice, kind, kinds, kind_setting, suggested.get(".".join(choice), ""))
    child = field_type.child(name, values.get(TAG))
    if child is None:
        return unknown_option(setting, root, field_type, len(above), values.get(TAG))
    if setting.is_nothing and child.optional:
        values[name] = None
    elif setting.is_nothing and field_type.entry is not None:
        if name not in values:
            return unknown_entry(setting, values)
        del values[name]
    elif child.is_value:
        if name == TAG and field_type.is_choice and setting.value != values.get(TAG):
            reset(values, field_type, str(setting.value))
        values[name] = split(setting.value, child) if isinstance(setting.value, str) else setting.value
    elif not isinstance(setting.value, dict):
        return group_fault(setting, child)
    elif child.entry is not None:
        values[name] = Values()
    else:
        enter(values, name, child)
    return None


def empty_values(model: type[BaseModel]) -> Values:
    """The values of a model without explicit values: empty, except for groups without a default."""
    groups = {name: field_type.models[""] for name, field_type in fields_of(model).items() if field_type.is_group}
    return {name: empty_values(group) for name, group in groups.items() if model.model_fields[name].is_required()}


def enter(values: Values, name: str, field_type: FieldType) -> Values:
    """Return the group `name`, created from its default if it is missing."""
    inner = values_of(values.get(name, field_type.default))
    if inner is None:
        kind = {TAG: field_type.default_kind} if field_type.default_kind is not None else {}
        inner = empty_values(field_type.models[""]) if field_type.is_group else Values(kind)
    values[name] = inner
    return inner


def reset(values: Values, choice: FieldType, kind: str) -> None:
    """Discard the values of another kind."""
    values.clear()
    if kind in choice.models:
        values.update(empty_values(choice.models[kind]))


def split(text: str, field_type: FieldType) -> object:
    """Split the text of a sequence into its items; return any other text unchanged."""
    members = [bare(member) for member in members_of(field_type.annotation)]
    scalars = [member for member in members if get_origin(member) not in SEQUENCES]
    if len(scalars) == len(members) or str in scalars or any(text in literals_of(member) for member in scalars):
        return text
    return [item.strip() for item in text.split(",") if item.strip()]
