"""`scmrl spec`: what an experiment says after all that was given for it, and whether files are sound.

Nothing here loads PyTorch, so that an editor or a check before a job is queued has an answer at once.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TypeVar, cast

from cyclopts import App, Parameter

if TYPE_CHECKING:
    from scmrl.experiment import Experiment

E = TypeVar("E", bound="Experiment")

spec = App(name="spec", help="Show experiments, check files of them, and export their JSON schema.")

Options = Annotated[str, Parameter(allow_leading_hyphen=True, show=False)]

SHOW_HELP = """\
Usage: scmrl spec show [RECIPE] [--config FILE ...] [OPTIONS]

Print the experiment that a recipe, files and options make, as YAML. It takes what
`scmrl train` takes; see `scmrl train --help`, `--help recipes` and `--help files`.
"""


@spec.command(help_flags=[])
def show(*options: Options) -> int:
    """Print the experiment that a recipe, files and options make, as YAML; give them as to `scmrl train`."""
    if help_topic(options) is not None:
        print(SHOW_HELP, end="")
        return 0
    from scmrl.experiment import Experiment
    from snn_fusion.specs.files import to_yaml

    experiment = read_experiment(options, Experiment)

    print(to_yaml(experiment), end="")
    return 0


@spec.command
def schema() -> int:
    """Print the JSON schema of files of settings, by which an editor completes and checks them.

    A file may leave out whatever a recipe or another file gives, so nothing in it is required.
    """
    import json

    from scmrl.experiment import Experiment
    from snn_fusion import json_schema

    print(json.dumps(_of_parts(json_schema(Experiment)), indent=2, ensure_ascii=False))
    return 0


@spec.command
def check(file: Path, /, *more: Path, recipe: str | None = None) -> int:
    """Say whether files of settings are sound, each for itself; no data are read, and no model is built.

    Args:
        file: a YAML or JSON file.
        more: further files.
        recipe: what the files go over.
    """
    from scmrl.experiment import Experiment
    from scmrl.overlay import OptionError, load
    from scmrl.overlay.files import settings_in
    from scmrl.overlay.shape import Shape

    beneath = _recipe(recipe) if recipe is not None else None
    faults: list[str] = []
    for path in (file, *more):
        try:
            load(Experiment, (), defaults=beneath, defaults_from=f"recipe {recipe}", files=(path,))
            print(f"{path}: sound")
        except OptionError as error:
            named = {setting.place[0] for setting in settings_in(path, Shape.of(Experiment))[0]}
            if {"encoders", "num_classes"} <= named:
                faults.append(
                    f"{path}: the spec of a model, not an experiment's settings; check it with "
                    f"`python -m snn_fusion check {path}`"
                )
                continue
            faults += [fault if fault.startswith(f"{path}:") else f"{path}: {fault}" for fault in error.faults]
    if faults:
        raise OptionError(faults)
    return 0


def help_topic(options: Sequence[str]) -> str | None:
    """The topic that follows --help, "" for none in particular; None where no help is asked for."""
    for at, token in enumerate(options):
        if token in ("--help", "-h"):
            following = options[at + 1] if at + 1 < len(options) else ""
            return "" if following.startswith("--") else following
        if token.startswith("--help="):
            return token.removeprefix("--help=")
    return None


def read_experiment(tokens: tuple[str, ...], spec_type: type[E]) -> E:
    """The experiment of a command line `[RECIPE] [--config FILE ...] [OPTIONS]`, or of a type that goes beyond it.

    Raises:
        OptionError: what is wrong with options and files, all of it.
        ValueError: an unknown recipe, or --config without a file.
    """
    from scmrl.overlay import load

    rest, files, name, beneath = list(tokens), list[Path](), "", None
    if rest and not rest[0].startswith("-"):
        name = rest.pop(0)
        try:
            beneath = _recipe(name)
        except ValueError as error:
            raise ValueError(f"{error}; an option starts with --") from None
    options: list[str] = []
    while rest:
        token = rest.pop(0)
        if token == "--config":
            found = 0
            while rest and not rest[0].startswith("--"):
                files.append(Path(rest.pop(0)))
                found += 1
            if not found:
                raise ValueError("--config: needs a file, as in --config run.yaml")
        elif token.startswith("--config="):
            files.append(Path(token.removeprefix("--config=")))
        else:
            options.append(token)
    likely = {"data": _likely_dataset(options)}
    return load(spec_type, options, defaults=beneath, defaults_from=f"recipe {name}", files=files, likely=likely)


def _likely_dataset(options: Sequence[str]) -> str:
    """The kind of the data that options mean which name none: what the folder is called, or the user's own files."""
    from snn_datasets import DATASETS

    words = [word for option in options for word in option.split("=", 1)]
    for option, value in pairwise(words):
        if option == "--data.root" and (name := Path(value).name.lower()) in DATASETS:
            return name
    return "manifest"


def _recipe(name: str) -> Experiment:
    from scmrl.recipes import recipe

    return recipe(name)


def _of_parts(schema: Any) -> Any:
    """The schema of a part of what a schema describes: nothing is required, and a kind may go without saying."""
    if isinstance(schema, list):
        return [_of_parts(item) for item in cast(list[Any], schema)]
    if not isinstance(schema, dict):
        return schema
    fields = cast(dict[str, Any], schema)
    return {
        # Of several kinds that a part might be of, one has to fit.
        {"oneOf": "anyOf"}.get(name, name): _of_parts(value)
        for name, value in fields.items()
        if not (name == "required" and isinstance(value, list)) and not (name == "discriminator" and "oneOf" in fields)
    }
