"""Every option of a spec, as data (`describe`) and as a table to show (`help_table`).

`walk` goes through the shapes of the spec tree from the top down, and yields one `OptionHelp` for each option.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import cast

from pydantic import BaseModel
from pydantic_core import PydanticUndefined
from rich.console import Group, RenderableType
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from scmrl.overlay.annotations import literals_of, text_of
from scmrl.overlay.settings import tree_of
from scmrl.overlay.shape import ANY_NAME, TAG, Place, Shape, fields_of

NAME_WIDTH = 40
"""Columns beyond which an option's name stands above its help rather than beside it."""


@dataclass(frozen=True)
class OptionHelp:
    """One option as a user sees it; `variant` names the kinds that have it, if not all do."""

    name: str
    type: str
    default: str
    meaning: str
    group: str
    variant: str = ""


def describe(spec_type: type[BaseModel]) -> list[OptionHelp]:
    """Every option of a spec, in the order of its fields."""
    return list(walk(Shape.of(spec_type)))


def walk(shape: Shape, place: Place = (), default: object = PydanticUndefined) -> Iterator[OptionHelp]:
    """The options at and below a place; `default` is what stands there if nothing is given."""
    if shape.is_value:
        shown = "required" if default is PydanticUndefined else text_of(default)
        yield help_of(place, str(shape), shown, shape.meaning)
    elif shape.entry is not None:
        yield from walk_table(shape, shape.entry, place, default)
    else:
        if shape.optional:
            yield help_of(place, "none", "none" if default is None else "", f"{shape.meaning} (none leaves it out)")
        if shape.is_choice:
            docs = [f"{kind}: {doc.splitlines()[0]}" for kind, model in shape.models.items() if (doc := model.__doc__)]
            kind = text_of(getattr(default, TAG, shape.default_kind or "required"))
            yield help_of((*place, TAG), " | ".join(shape.models), kind, " ".join([shape.meaning, *docs]))
        yield from walk_fields(shape, place, default)


def walk_table(table: Shape, entry: Shape, place: Place, default: object) -> Iterator[OptionHelp]:
    """The options of a table, for an entry of any name."""
    place, entries = (*place, ANY_NAME), tree_of(default) or {}
    meaning = f"{table.meaning} (none takes one out)"
    if entry.is_value:
        shown = ", ".join(f"{name}={text_of(value)}" for name, value in entries.items())
        yield help_of(place, f"{entry} | none", shown, meaning)
    else:
        yield help_of(place, "none", ", ".join(entries), meaning)
        yield from walk(replace(entry, optional=False), place)


def walk_fields(shape: Shape, place: Place, default: object) -> Iterator[OptionHelp]:
    """The options below a group or a choice; what several kinds have alike is told once."""
    kinds_of: dict[OptionHelp, list[str]] = {}
    for kind, model in shape.models.items():
        for name, child in fields_of(model).items():
            if name == TAG and (shape.is_choice or len(literals_of(child.annotation)) == 1):
                continue
            value = getattr(default, name) if isinstance(default, model) else child.default
            for below in walk(child, (*place, name), value):
                kinds_of.setdefault(below, []).append(kind)
    for below, kinds in kinds_of.items():
        here = ", ".join(kinds) if len(kinds) < len(shape.models) else ""
        yield replace(below, variant=" / ".join(filter(None, [here, below.variant])))


def help_of(place: Place, type: str, default: str, meaning: str) -> OptionHelp:
    """The help of one place, for every variant."""
    return OptionHelp("--" + ".".join(place), type, default, meaning.strip(), place[0])


def options_about(spec_type: type[BaseModel], topic: str) -> list[OptionHelp]:
    """The options at and below a place, in which a choice may be followed by a kind: `data.manifest`, `model.fusion`.

    Of a choice whose kind is not named, these are the kind and what all kinds have alike. No options: no such place.
    """
    shape, path, default = Shape.of(spec_type), Place(), cast(object, PydanticUndefined)
    for part in topic.replace("-", "_").removeprefix("__").split("."):
        kind = next((kind for kind in shape.models if shape.is_choice and kind.replace("-", "_") == part), None)
        if kind is not None:
            shape = Shape.of(shape.models[kind])
            continue
        child = shape.child(part) or (shape.child(part.replace("_", "-")) if shape.entry is not None else None)
        if child is None:
            return []
        models = tuple(shape.models.values())
        default = cast(object, getattr(default, part)) if isinstance(default, models) else child.default
        shape, path = child, (*path, part)
    options = list(walk(shape, path, default))
    if not shape.is_choice:
        return options
    # What the kinds are is for `kinds_table` to say.
    kind = "--" + ".".join((*path, TAG))
    return [
        replace(option, meaning=shape.meaning) if option.name == kind else option
        for option in options
        if not option.variant
    ]


def kinds_table(spec_type: type[BaseModel], topic: str) -> RenderableType | None:
    """The kinds of a choice with what each says of itself, or None for any other topic."""
    shapes = Shape.of(spec_type).find(tuple(topic.split(".")))
    if not any(shape.is_choice for shape in shapes):
        return None
    table = Table.grid(padding=(0, 2, 0, 0))
    for kind, model in shapes[0].models.items():
        table.add_row(Text(f"  {topic}.{kind}", style="bold cyan", no_wrap=True), (model.__doc__ or "").split("\n")[0])
    return table


def help_table(spec_type: type[BaseModel]) -> RenderableType:
    """The options of a spec, one panel for each group; whatever is too wide wraps, but for names."""
    return panels_of(describe(spec_type))


def panels_of(options: Sequence[OptionHelp]) -> RenderableType:
    """One panel for each group of options; whatever is too wide wraps, but for names."""
    names = [option.name.replace("--", "--[no-]" if option.type == "bool" else "--") for option in options]
    width = min(NAME_WIDTH, max(map(len, names)))
    panels: dict[str, list[RenderableType]] = {}
    for option, name in zip(options, names, strict=True):
        panel = panels.setdefault(option.group if "." in name else "general", [])
        shown = Text(name, style="bold cyan")
        if len(name) > width:
            panel.append(shown)  # on a line of its own
            shown = Text()
        row = Table.grid(padding=(0, 2, 0, 0))
        row.add_column(width=width)
        row.add_column(overflow="fold")
        row.add_row(shown, help_text(option))
        panel.append(row)
    return Group(*(Panel(Group(*rows), title=title, title_align="left") for title, rows in panels.items()))


def help_text(option: OptionHelp) -> Text:
    """What an option means, and the facts about it."""
    default = option.default if option.default in ("required", "") else f"default {option.default}"
    variant = f"only with {option.variant}" if option.variant else ""
    facts = "; ".join(filter(None, [option.type, default, variant]))
    return Text.assemble(option.meaning, " " if option.meaning else "", (f"[{facts}]", "dim"))
