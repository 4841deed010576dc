"""Read the tokens of a command line into settings.

Tokens are `--a.b value`, `--a.b=value`, `--a.flag` and `--no-a.flag`, in any order. What cannot be read at all is a
fault; whether a name exists and a value fits is left to those who put the settings into the tree.
"""

from __future__ import annotations

from collections.abc import Sequence

from scmrl.overlay.faults import did_you_mean
from scmrl.overlay.help import walk
from scmrl.overlay.settings import EMPTY, Setting
from scmrl.overlay.shape import Place, Shape


def parse(root: Shape, options: Sequence[str]) -> tuple[list[Setting], list[str]]:
    """The settings that the tokens give, and the faults of those that give none."""
    given, faults, rest = dict[Place, Setting](), list[str](), list(options)
    while rest:
        found = take_option(root, rest) if rest[0].startswith("--") else take_stray(root, rest)
        if isinstance(found, str):
            faults.append(found)
        elif found.place in given:
            first, second = given[found.place].value or EMPTY, found.value or EMPTY
            faults.append(f"{found.name}: given twice, as {first} and as {second}; keep one")
        else:
            given[found.place] = found
    return list(given.values()), faults


def take_option(root: Shape, rest: list[str]) -> Setting | str:
    """Take one option, with its value if that follows, off the front of the tokens; what cannot be read is a fault."""
    typed, equals, text = rest.pop(0).partition("=")
    is_negated = typed.startswith("--no-")
    place = place_of(root, typed.removeprefix("--no-" if is_negated else "--"))
    shapes = root.find(place)
    is_flag = bool(shapes) and all(shape.is_flag for shape in shapes)
    if is_negated:
        if shapes and not is_flag:
            return f"{typed}: only a bool can be negated with --no-"
        return f"{typed}: takes no value" if shapes and equals else Setting(place, "false")
    if equals:
        return Setting(place, text)
    if rest and not rest[0].startswith("--"):
        return Setting(place, rest.pop(0))
    if is_flag:
        return Setting(place, "true")
    if shapes and all(shape.is_value for shape in shapes):
        return f"{typed}: needs a value ({' | '.join(dict.fromkeys(map(str, shapes)))})"
    return Setting(place, "")


def take_stray(root: Shape, rest: list[str]) -> str:
    """Take the tokens that belong to no option off the front, and tell the fault; it guesses at the name meant."""
    stray: list[str] = []
    while rest and not rest[0].startswith("--"):
        stray.append(rest.pop(0))
    name = "--" + (".".join(stray[:-1]) or stray[0].partition("=")[0])
    hint = did_you_mean(name, (option.name for option in walk(root)), is_known=True) or ", as in --name value"
    return f"{' '.join(stray)}: an option starts with --{hint}"


def place_of(root: Shape, name: str) -> Place:
    """The place a name stands for; hyphens may be typed for the underscores of fields."""
    place, spelled = tuple(name.split(".")), tuple(name.replace("-", "_").split("."))
    return spelled if root.find(spelled) and not root.find(place) else place
