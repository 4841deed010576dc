"""`scmrl spec`: show experiments, check configuration files, and print their JSON schema.

Nothing here loads PyTorch, so that editors and checks before a job is queued respond at once.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TypeVar, cast

from cyclopts import App, Parameter

if TYPE_CHECKING:
    from scmrl.config.experiment import Experiment

E = TypeVar("E", bound="Experiment")

spec = App(name="spec", help="Show experiments, check configuration files, and print their JSON schema.")

Tokens = Annotated[str, Parameter(allow_leading_hyphen=True, show=False)]

SHOW_HELP = """\
Usage: scmrl spec show [RECIPE] [--config FILE ...] [OPTIONS]

Print an experiment as YAML, from the same arguments as `scmrl train`; see
`scmrl train --help`, `--help recipes` and `--help files`.
"""


@spec.command(help_flags=[])
def show(*options: Tokens) -> int:
    """Print an experiment as YAML, from the same arguments as `scmrl train`."""
    if help_topic(options) is not None:
        print(SHOW_HELP, end="")
        return 0
    from scmrl.config.experiment import Experiment
    from snn_fusion.specs.files import to_yaml

    experiment = read_experiment(options, Experiment)

    print(to_yaml(experiment), end="")
    return 0


@spec.command
def schema() -> int:
    """Print the JSON schema of configuration files, for completion and checks in an editor.

    Nothing in it is required, because a recipe or another file may give any field.
    """
    import json

    from scmrl.config.experiment import Experiment
    from snn_fusion import json_schema

    print(json.dumps(_without_required(json_schema(Experiment)), indent=2, ensure_ascii=False))
    return 0


@spec.command
def check(file: Path, /, *more: Path, recipe: str | None = None) -> int:
    """Validate configuration files, each separately; no data are read, and no model is built.

    Args:
        file: a YAML or JSON file.
        more: further files.
        recipe: base settings; files override it.
    """
    from scmrl.config.experiment import Experiment
    from scmrl.config.overlay import OptionError, load
    from scmrl.config.overlay.field_types import FieldType
    from scmrl.config.overlay.files import settings_in

    base = _recipe(recipe) if recipe is not None else None
    faults: list[str] = []
    for path in (file, *more):
        try:
            load(Experiment, (), defaults=base, defaults_from=f"recipe {recipe}", files=(path,))
            print(f"{path}: valid")
        except OptionError as error:
            groups = {setting.path[0] for setting in settings_in(path, FieldType.of(Experiment))[0]}
            if {"input_shapes", "num_classes"} <= groups:
                faults.append(
                    f"{path}: this is a model spec, not an experiment; check it with "
                    f"`python -m snn_fusion check {path}`"
                )
                continue
            faults += [fault if fault.startswith(f"{path}:") else f"{path}: {fault}" for fault in error.faults]
    if faults:
        raise OptionError(faults)
    return 0


def help_topic(options: Sequence[str]) -> str | None:
    """Return the topic after --help, "" if there is none; None without --help."""
    for index, token in enumerate(options):
        if token in ("--help", "-h"):
            following = options[index + 1] if index + 1 < len(options) else ""
            return "" if following.startswith("--") else following
        if token.startswith("--help="):
            return token.removeprefix("--help=")
    return None


def read_experiment(tokens: tuple[str, ...], spec_type: type[E]) -> E:
    """Build an experiment, or a spec that extends one, from `[RECIPE] [--config FILE ...] [OPTIONS]`.

    Raises:
        OptionError: all errors in options and files.
        ValueError: an unknown recipe, or --config without a file.
    """
    from scmrl.config.overlay import load

    rest, files, name, base = list(tokens), list[Path](), "", None
    if rest and not rest[0].startswith("-"):
        name = rest.pop(0)
        try:
            base = _recipe(name)
        except ValueError as error:
            raise ValueError(f"{error}; options start with --") from None
    options: list[str] = []
    while rest:
        token = rest.pop(0)
        if token == "--config":
            if not rest or rest[0].startswith("--"):
                raise ValueError("--config: needs a file, as in --config run.yaml")
            while rest and not rest[0].startswith("--"):
                files.append(Path(rest.pop(0)))
        elif token.startswith("--config="):
            files.append(Path(token.removeprefix("--config=")))
        else:
            options.append(token)
    suggested = {"data": _suggest_dataset(options)}
    return load(spec_type, options, defaults=base, defaults_from=f"recipe {name}", files=files, suggested=suggested)


def _suggest_dataset(options: Sequence[str]) -> str:
    """Guess the dataset of options that need one but name none: from the name of the folder, otherwise manifest."""
    from snn_datasets import DATASETS

    words = [word for option in options for word in option.split("=", 1)]
    for option, value in pairwise(words):
        if option == "--data.root" and (name := Path(value).name.lower()) in DATASETS:
            return name
    return "manifest"


def _recipe(name: str) -> Experiment:
    from scmrl.config.recipes import recipe

    return recipe(name)


def _without_required(schema: Any) -> Any:
    """Relax a schema to partial documents: no field is required, `kind` included."""
    if isinstance(schema, list):
        return [_without_required(item) for item in cast(list[Any], schema)]
    if not isinstance(schema, dict):
        return schema
    fields = cast(dict[str, Any], schema)
    return {
        # A partial document may match several kinds.
        {"oneOf": "anyOf"}.get(name, name): _without_required(value)
        for name, value in fields.items()
        if not (name == "required" and isinstance(value, list)) and not (name == "discriminator" and "oneOf" in fields)
    }
