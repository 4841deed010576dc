"""All options of a spec, as data (`options_of`) and as a table (`help_table`)."""

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

from scmrl.config.overlay.annotations import literals_of, text_of
from scmrl.config.overlay.field_types import ANY_NAME, TAG, FieldPath, FieldType, fields_of
from scmrl.config.overlay.settings import values_of

NAME_WIDTH = 40
"""Width above which an option's name is printed above its help instead of beside it."""


@dataclass(frozen=True)
class OptionHelp:
    """Help of one option; `variant` names the kinds that have it, if not all do."""

    name: str
    type: str
    default: str
    meaning: str
    group: str
    variant: str = ""


def options_of(spec_type: type[BaseModel]) -> list[OptionHelp]:
    """All options of a spec, in the order of its fields."""
    return list(iter_options(FieldType.of(spec_type)))


def iter_options(
    field_type: FieldType, path: FieldPath = (), default: object = PydanticUndefined
) -> Iterator[OptionHelp]:
    """Yield the options at and below a field path."""
    if field_type.is_value:
        default_text = "required" if default is PydanticUndefined else text_of(default)
        yield help_of(path, str(field_type), default_text, field_type.meaning)
    elif field_type.entry is not None:
        yield from iter_table(field_type, field_type.entry, path, default)
    else:
        if field_type.optional:
            yield help_of(path, "none", "none" if default is None else "", f"{field_type.meaning} (none omits it)")
        if field_type.is_choice:
            docs = [
                f"{kind}: {doc.splitlines()[0]}" for kind, model in field_type.models.items() if (doc := model.__doc__)
            ]
            kind = text_of(getattr(default, TAG, field_type.default_kind or "required"))
            yield help_of((*path, TAG), " | ".join(field_type.models), kind, " ".join([field_type.meaning, *docs]))
        yield from iter_fields(field_type, path, default)


def iter_table(table: FieldType, entry: FieldType, path: FieldPath, default: object) -> Iterator[OptionHelp]:
    """Yield the options of a table, for an entry of any name."""
    path, entries = (*path, ANY_NAME), values_of(default) or {}
    meaning = f"{table.meaning} (none removes an entry)"
    if entry.is_value:
        default_text = ", ".join(f"{name}={text_of(value)}" for name, value in entries.items())
        yield help_of(path, f"{entry} | none", default_text, meaning)
    else:
        yield help_of(path, "none", ", ".join(entries), meaning)
        yield from iter_options(replace(entry, optional=False), path)


def iter_fields(field_type: FieldType, path: FieldPath, default: object) -> Iterator[OptionHelp]:
    """Yield the options below a group or a choice; options that several kinds share are listed once."""
    kinds_of: dict[OptionHelp, list[str]] = {}
    for kind, model in field_type.models.items():
        for name, child in fields_of(model).items():
            if name == TAG and (field_type.is_choice or len(literals_of(child.annotation)) == 1):
                continue
            value = getattr(default, name) if isinstance(default, model) else child.default
            for option in iter_options(child, (*path, name), value):
                kinds_of.setdefault(option, []).append(kind)
    for option, kinds in kinds_of.items():
        variant = ", ".join(kinds) if len(kinds) < len(field_type.models) else ""
        yield replace(option, variant=" / ".join(filter(None, [variant, option.variant])))


def help_of(path: FieldPath, type: str, default: str, meaning: str) -> OptionHelp:
    """The help of one field path."""
    return OptionHelp("--" + ".".join(path), type, default, meaning.strip(), path[0])


def options_about(spec_type: type[BaseModel], topic: str) -> list[OptionHelp]:
    """The options of a topic: a field path in which a choice may be followed by a kind, such as `data.manifest`.

    A choice without a kind gives the kind option and the options that all kinds share. Empty for an unknown topic.
    """
    field_type, path, default = FieldType.of(spec_type), FieldPath(), cast(object, PydanticUndefined)
    for part in topic.replace("-", "_").removeprefix("__").split("."):
        kind = next(
            (kind for kind in field_type.models if field_type.is_choice and kind.replace("-", "_") == part), None
        )
        if kind is not None:
            field_type = FieldType.of(field_type.models[kind])
            continue
        child = field_type.child(part) or (
            field_type.child(part.replace("_", "-")) if field_type.entry is not None else None
        )
        if child is None:
            return []
        models = tuple(field_type.models.values())
        default = cast(object, getattr(default, part)) if isinstance(default, models) else child.default
        field_type, path = child, (*path, part)
    options = list(iter_options(field_type, path, default))
    if not field_type.is_choice:
        return options
    # `kinds_table` describes the kinds.
    kind = "--" + ".".join((*path, TAG))
    return [
        replace(option, meaning=field_type.meaning) if option.name == kind else option
        for option in options
        if not option.variant
    ]


def kinds_table(spec_type: type[BaseModel], topic: str) -> RenderableType | None:
    """The kinds of a choice with their summaries; None if the topic is not a choice."""
    field_types = FieldType.of(spec_type).find(tuple(topic.split(".")))
    if not any(field_type.is_choice for field_type in field_types):
        return None
    table = Table.grid(padding=(0, 2, 0, 0))
    for kind, model in field_types[0].models.items():
        table.add_row(Text(f"  {topic}.{kind}", style="bold cyan", no_wrap=True), (model.__doc__ or "").split("\n")[0])
    return table


def help_table(spec_type: type[BaseModel]) -> RenderableType:
    """All options of a spec, one panel per group."""
    return panels_of(options_of(spec_type))


def panels_of(options: Sequence[OptionHelp]) -> RenderableType:
    """One panel per group of options; long texts wrap, names do not."""
    names = [option.name.replace("--", "--[no-]" if option.type == "bool" else "--") for option in options]
    width = min(NAME_WIDTH, max(map(len, names)))
    panels: dict[str, list[RenderableType]] = {}
    for option, name in zip(options, names, strict=True):
        panel = panels.setdefault(option.group if "." in name else "general", [])
        label = Text(name, style="bold cyan")
        if len(name) > width:
            panel.append(label)  # on a separate line
            label = Text()
        row = Table.grid(padding=(0, 2, 0, 0))
        row.add_column(width=width)
        row.add_column(overflow="fold")
        row.add_row(label, help_text(option))
        panel.append(row)
    return Group(*(Panel(Group(*rows), title=title, title_align="left") for title, rows in panels.items()))


def help_text(option: OptionHelp) -> Text:
    """The meaning of an option, its type and default."""
    default = option.default if option.default in ("required", "") else f"default {option.default}"
    variant = f"only with {option.variant}" if option.variant else ""
    facts = "; ".join(filter(None, [option.type, default, variant]))
    return Text.assemble(option.meaning, " " if option.meaning else "", (f"[{facts}]", "dim"))
