"""Parse command line tokens into settings.

Tokens are `--a.b value`, `--a.b=value`, `--a.flag` and `--no-a.flag`, in any order. Syntax errors are faults; names and
values are checked when settings are merged.
"""

from __future__ import annotations

from collections.abc import Sequence

from scmrl.config.overlay.faults import did_you_mean
from scmrl.config.overlay.field_types import FieldPath, FieldType
from scmrl.config.overlay.help import iter_options
from scmrl.config.overlay.settings import EMPTY, Setting


def parse(root: FieldType, options: Sequence[str]) -> tuple[list[Setting], list[str]]:
    """Return the settings of the tokens, and the faults of tokens that are not settings."""
    settings, faults, rest = dict[FieldPath, Setting](), list[str](), list(options)
    while rest:
        parsed = take_option(root, rest) if rest[0].startswith("--") else take_stray_tokens(root, rest)
        if isinstance(parsed, str):
            faults.append(parsed)
        elif parsed.path in settings:
            first, second = settings[parsed.path].value or EMPTY, parsed.value or EMPTY
            faults.append(f"{parsed.name}: given twice, as {first} and as {second}; keep one")
        else:
            settings[parsed.path] = parsed
    return list(settings.values()), faults


def take_option(root: FieldType, rest: list[str]) -> Setting | str:
    """Remove one option and its value from the front of the tokens; return a setting or a fault."""
    typed, equals, text = rest.pop(0).partition("=")
    is_negated = typed.startswith("--no-")
    path = field_path_of(root, typed.removeprefix("--no-" if is_negated else "--"))
    field_types = root.find(path)
    is_flag = bool(field_types) and all(field_type.is_flag for field_type in field_types)
    if is_negated:
        if field_types and not is_flag:
            return f"{typed}: only a bool can be negated with --no-"
        return f"{typed}: takes no value" if field_types and equals else Setting(path, "false")
    if equals:
        return Setting(path, text)
    if rest and not rest[0].startswith("--"):
        return Setting(path, rest.pop(0))
    if is_flag:
        return Setting(path, "true")
    if field_types and all(field_type.is_value for field_type in field_types):
        return f"{typed}: needs a value ({' | '.join(dict.fromkeys(map(str, field_types)))})"
    return Setting(path, "")


def take_stray_tokens(root: FieldType, rest: list[str]) -> str:
    """Remove tokens that belong to no option from the front; return a fault that suggests an option."""
    stray: list[str] = []
    while rest and not rest[0].startswith("--"):
        stray.append(rest.pop(0))
    name = "--" + (".".join(stray[:-1]) or stray[0].partition("=")[0])
    hint = did_you_mean(name, (option.name for option in iter_options(root)), is_known=True) or ", as in --name value"
    return f"{' '.join(stray)}: options start with --{hint}"


def field_path_of(root: FieldType, name: str) -> FieldPath:
    """The field path of an option name; hyphens are accepted in place of underscores."""
    path, with_underscores = tuple(name.split(".")), tuple(name.replace("-", "_").split("."))
    return with_underscores if root.find(with_underscores) and not root.find(path) else path
