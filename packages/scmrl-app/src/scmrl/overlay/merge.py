"""Merge layers of settings into one tree of values, and validate it into the spec.

The layers are merged along the types, the later over the earlier: what the spec itself says, then `defaults`, then each
file, then the options. The tree holds only what was said: whatever it leaves out, the models fill in from their own
defaults.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TypeVar, get_origin

from pydantic import BaseModel, ValidationError

from scmrl.overlay.annotations import SEQUENCES, bare, literals_of, members_of
from scmrl.overlay.faults import (
    OptionError,
    explain,
    kinds_that_fit,
    no_such_entry,
    no_such_option,
    not_an_option,
    not_of_this_kind,
)
from scmrl.overlay.files import settings_in
from scmrl.overlay.options import parse
from scmrl.overlay.settings import Setting, Tree, settings_of, tree_of
from scmrl.overlay.shape import TAG, Place, Shape, fields_of

S = TypeVar("S", bound=BaseModel)


def load(
    spec_type: type[S],
    options: Sequence[str],
    *,
    defaults: Mapping[str, object] | BaseModel | None = None,
    defaults_from: str = "defaults",
    files: Sequence[Path] = (),
    likely: Mapping[str, str] | None = None,
) -> S:
    """Build the spec that the options ask for, or raise an OptionError that lists all their faults.

    options: `--a.b value`, `--a.b=value`, `--a.flag`, `--no-a.flag` in any order; `--a.kind x` starts variant x afresh
    defaults: values to lay over the spec's own, nested by field; a table among them replaces the spec's table
    defaults_from: what to call them in messages
    files: YAML and JSON files to lay over those, the later over the earlier; their tables replace, too
    likely: by choice, the kind to advise where an option is one of another kind
    """
    root, tree, given = Shape.of(spec_type), begin(spec_type), dict[Place, Setting]()
    typed, faults = parse(root, options)
    layers = [list(settings_of(root, tree_of(defaults) or {}, defaults_from))]
    unreadable: list[str] = []
    for path in files:
        layer, found = settings_in(path, root)
        layers.append(layer)
        unreadable += found
    if unreadable:
        # What such a file would have said is not known, so nothing more can be said of the rest.
        raise OptionError([*unreadable, *faults])
    for layer in (*layers, typed):
        # From the top down, and kinds first, so that the order of options does not matter.
        for setting in sorted(layer, key=lambda setting: (len(setting.place), setting.place[-1] != TAG)):
            fault = contradiction(setting, layer) or put(tree, root, setting, given, layer, likely or {})
            if fault:
                faults.append(fault)
            else:
                given[setting.place] = setting
    try:
        spec = spec_type.model_validate(tree)
    except ValidationError as error:
        raise OptionError([*faults, *explain(error, root, given, tree)]) from None
    if faults:
        raise OptionError(faults)
    return spec


def contradiction(setting: Setting, layer: Iterable[Setting]) -> str | None:
    """The fault of a setting that stands below one which the same layer sets to none."""
    for other in layer:
        if other.place == setting.place[: len(other.place)] != setting.place and other.is_nothing:
            return f"{setting}: but {other}; give one or the other"
    return None


def put(
    tree: Tree,
    root: Shape,
    setting: Setting,
    given: Mapping[Place, Setting],
    layer: Sequence[Setting],
    likely: Mapping[str, str],
) -> str | None:
    """Write one setting into the tree, or say why it cannot stand there.

    Args:
        tree: what was said so far.
        root: the shape of the spec.
        setting: what to write.
        given: the settings written before.
        layer: all settings of the same source, by which a kind is advised.
        likely: by choice, the kind to advise if it fits.
    """
    *above, name = place = setting.place
    shape = root
    for depth, group in enumerate(above):
        child = shape.child(group, tree.get(TAG))
        if child is None or child.is_value:
            return no_such_option(setting, root, shape, depth, tree.get(TAG))
        tree, shape = enter(tree, group, child), child
        choice, below = place[: depth + 1], place[depth + 1 :]
        kind, having = str(tree.get(TAG)), shape.kinds_with(below)
        if kind in shape.models and having and kind not in having:
            having = kinds_that_fit(choice, having, shape, layer)
            chosen = given.get((*choice, TAG))
            return not_of_this_kind(setting, choice, kind, having, chosen, likely.get(".".join(choice), ""))
    child = shape.child(name, tree.get(TAG))
    if child is None:
        return no_such_option(setting, root, shape, len(above), tree.get(TAG))
    if setting.is_nothing and child.optional:
        tree[name] = None
    elif setting.is_nothing and shape.entry is not None:
        if name not in tree:
            return no_such_entry(setting, tree)
        del tree[name]
    elif child.is_value:
        if name == TAG and shape.is_choice and setting.value != tree.get(TAG):
            restart(tree, shape, str(setting.value))
        tree[name] = split(setting.value, child) if isinstance(setting.value, str) else setting.value
    elif not isinstance(setting.value, dict):
        return not_an_option(setting, child)
    elif child.entry is not None:
        tree[name] = Tree()
    else:
        enter(tree, name, child)
    return None


def begin(model: type[BaseModel]) -> Tree:
    """A model of which nothing was said yet: empty, but for the groups that have no default of their own."""
    groups = {name: shape.models[""] for name, shape in fields_of(model).items() if shape.is_group}
    return {name: begin(group) for name, group in groups.items() if model.model_fields[name].is_required()}


def enter(tree: Tree, name: str, shape: Shape) -> Tree:
    """The group `name` of a tree, begun from its default if nothing was said of it yet."""
    inner = tree_of(tree.get(name, shape.default))
    if inner is None:
        kind = {TAG: shape.default_kind} if shape.default_kind is not None else {}
        inner = begin(shape.models[""]) if shape.is_group else Tree(kind)
    tree[name] = inner
    return inner


def restart(tree: Tree, choice: Shape, kind: str) -> None:
    """Forget what was said under another kind."""
    tree.clear()
    if kind in choice.models:
        tree.update(begin(choice.models[kind]))


def split(text: str, shape: Shape) -> object:
    """The items of a text that stands for a sequence; any other text as it is."""
    members = [bare(member) for member in members_of(shape.annotation)]
    whole = [member for member in members if get_origin(member) not in SEQUENCES]
    if len(whole) == len(members) or str in whole or any(text in literals_of(member) for member in whole):
        return text
    return [item.strip() for item in text.split(",") if item.strip()]
