"""Help of `scmrl train` and `scmrl study KIND`: one screen, and topics in full.

`--help TOPIC` lists the options of a group (`train`), of one kind of a choice (`data.manifest`), one option
(`train.epochs`), the recipes, or `all`. Imports no PyTorch.
"""

from __future__ import annotations

import textwrap
from typing import TYPE_CHECKING

from rich.console import Console, Group, RenderableType
from rich.table import Table
from rich.text import Text

from scmrl.config.overlay import help_table, kinds_table, options_about, options_of, panels_of
from scmrl.config.overlay.faults import did_you_mean

if TYPE_CHECKING:
    from scmrl.config.experiment import Experiment

WIDTH = 79
"""Width of prose."""
TOPICS = ("data", "model", "train", "recipes", "files", "all")

TRAIN = """\
Usage: scmrl train [RECIPE] [--config FILE ...] [OPTIONS]

Train a model, select its best epoch on a validation split, test it once, and
write a run folder. Without arguments it trains S-CMRL on handwritten and spoken
digits, which need no download.

Examples:
  scmrl train --out runs/digits                   handwritten and spoken digits
  scmrl train three-modalities --train.epochs 5   a recipe and an option
  scmrl data init DIR                             your own files: write a table,
                                                  print the next command
"""

COMMON: tuple[tuple[str, str, str], ...] = (
    ("out", "DIR", "run folder, new or empty (runs/<date>-<time>-...)"),
    ("resume", "", "resume the run in --out where it stopped"),
    ("seed", "N", "seed of initial weights and order of samples"),
    ("data.kind", "KIND", "dataset; manifest: your own files in a table"),
    ("data.root", "DIR", "folder of the dataset's files"),
    ("data.modalities", "a,b", "modalities to read (all)"),
    ("model.fusion.kind", "KIND", "fusion method"),
    ("model.channels", "N", "features per token"),
    ("model.time_steps", "N", "time steps of the spiking neurons"),
    ("train.epochs", "N", "passes over the training data"),
    ("train.batch_size", "N", "samples per optimizer step"),
    ("train.learning_rate", "X", "peak learning rate"),
    ("train.device", "NAME", "auto, cpu, cuda, cuda:1, ..."),
)
"""Common options: name, value, meaning."""

MORE = """\
More:
  scmrl {command} --help data            datasets and their common options
  scmrl {command} --help data.manifest   options of one dataset: your own files
  scmrl {command} --help model           the model; model.fusion.ccssa: one method
  scmrl {command} --help train           the training
  scmrl {command} --help train.epochs    one option
  scmrl {command} --help recipes         base settings by name
  scmrl {command} --help files           configuration files (--config)
  scmrl {command} --help all             all options
"""

STUDY = """\
Usage: scmrl study {kind} [RECIPE] [--config FILE ...] [OPTIONS]

{summary}

Example:
  {example}

{folder}
"""

FOLDER = """\
--out names the study's folder (studies/<date>-<time>-{kind}). The same command with the same --out resumes a study \
that was stopped. Run on several machines with the same --storage, or with the same --out on a shared file system, it \
distributes the work.
"""

FILES = """\
Configuration files

scmrl train --config run.yaml --config more.yaml --train.epochs 5

Files override the recipe, later files override earlier ones, and options
override files. A file is YAML or JSON. The dots of options are nesting:

  data: {kind: manifest, root: clips}
  train:
    epochs: 40

A table (model.encoders, data.columns) in a file replaces the earlier one; an
option adds an entry. Paths are relative to the current folder. `scmrl spec
show` prints the result of recipe, files and options, `scmrl spec check FILE`
reports errors with their lines, and `scmrl spec schema` is for editors.
"""


def show_train_help(topic: str) -> None:
    """Print the help of `scmrl train`.

    Raises:
        ValueError: there is no such topic.
    """
    from scmrl.config.experiment import Experiment

    if topic:
        _print_topic(topic, Experiment)
        return
    _print(TRAIN, common_options(Experiment), "", MORE.format(command="train"), SYNTAX)


def show_study_help(topic: str, spec_type: type[Experiment], *, kind: str, summary: str, example: str) -> None:
    """Print the help of a study: its own options, and the topics of its experiment's options.

    Raises:
        ValueError: there is no such topic.
    """
    from scmrl.config.experiment import Experiment

    if topic:
        _print_topic(topic, spec_type)
        return
    shared = {option.name for option in options_of(Experiment)}
    own = [option for option in options_of(spec_type) if option.name not in shared]
    _print(
        STUDY.format(kind=kind, summary=_wrap(summary), example=example, folder=_wrap(FOLDER.format(kind=kind))),
        panels_of(own),
        "The study varies an experiment, which has all the options of `scmrl train`.\n",
        MORE.format(command="train"),
    )


SYNTAX = """\
Every option is a field of the experiment: --train.epochs 5 or --train.epochs=5.
`scmrl spec show` with the same arguments prints all fields without training.
"""


def common_options(spec_type: type[Experiment]) -> RenderableType:
    """Common options, one line each, with their defaults."""
    table = Table.grid(padding=(0, 2, 0, 0))
    defaults = {option.name: option.default for option in options_of(spec_type)}
    for name, value, meaning in COMMON:
        default = defaults[f"--{name}"]
        default_text = (
            f" [{default}]" if default not in ("", "none", "false", "required") and "(" not in meaning else ""
        )
        table.add_row(Text(f"  --{name} {value}", no_wrap=True), Text(f"{meaning}{default_text}"))
    return Group(Text("Common options:"), table)


def recipes() -> RenderableType:
    """All recipes with their summaries."""
    from scmrl.config.recipes import RECIPES

    table = Table.grid(padding=(0, 2, 0, 0))
    for name, recipe in RECIPES.items():
        table.add_row(Text(f"  {name}", style="bold cyan", no_wrap=True), Text((recipe.__doc__ or "").splitlines()[0]))
    return Group(Text("Recipes, base settings by name: scmrl train NAME\n"), table)


def _print_topic(topic: str, spec_type: type[Experiment]) -> None:
    topic = topic.removeprefix("--")
    if topic == "all":
        _print(help_table(spec_type))
    elif topic == "recipes":
        _print(recipes())
    elif topic == "files":
        _print(FILES)
    elif options := options_about(spec_type, topic):
        kinds = kinds_table(spec_type, topic)
        header = [f"Kinds (--help {topic}.KIND lists the options of one):\n", kinds, ""] if kinds else []
        _print(*header, panels_of(options))
    else:
        known = [*TOPICS, *(option.name.removeprefix("--") for option in options_of(spec_type))]
        raise ValueError(
            f"--help {topic}: no such topic{did_you_mean(topic, known)}; there are: {', '.join(TOPICS)}, and every "
            "group, kind or option, such as data.manifest"
        )


def _wrap(text: str) -> str:
    return "\n\n".join(textwrap.fill(" ".join(part.split()), WIDTH) for part in text.split("\n\n"))


def _print(*parts: RenderableType | None) -> None:
    console = Console()
    for part in parts:
        if part is not None:
            # No markup: brackets are part of the texts.
            console.print(
                Text(part) if isinstance(part, str) else part, highlight=False, soft_wrap=isinstance(part, str)
            )
