"""`scmrl study`: many trainings that answer one question. Nothing here loads PyTorch before a study runs."""

from __future__ import annotations

import sys
from inspect import cleandoc
from typing import Annotated

from cyclopts import App, Parameter

study = App(name="study", help="Answer questions that take many trainings: tables, plots and a page for the report.")

Options = Annotated[str, Parameter(allow_leading_hyphen=True, show=False)]

STUDY_HELP = """\
Usage: scmrl study {kind} [RECIPE] [--config FILE ...] [OPTIONS]

{summary}

The options are those of `scmrl train`, for the experiment that is varied, and
those of the study. A study that was stopped goes on with the same command and
--out. Given on several machines with the same --storage, or on the same --out of a
shared file system, the command shares the work: every training is done once.

  {example}
"""


@study.command(help_flags=[])
def ablation(*options: Options) -> int:
    """Every fusion method, each sense alone, S-CMRL without its parts; `scmrl study ablation --help`."""
    return _study("ablation", options, "scmrl study ablation three-senses --train.epochs 8 --out studies/parts")


@study.command(help_flags=[])
def sensitivity(*options: Options) -> int:
    """What settings do: a grid over --vary FIELD=VALUES, curves, importance; `scmrl study sensitivity --help`."""
    example = "scmrl study sensitivity --vary model.fusion.alpha=0,0.5,1,1.5,2,3 --out studies/alpha"
    return _study("sensitivity", options, example)


@study.command(help_flags=[])
def tune(*options: Options) -> int:
    """Search for the best settings in ranges, --search FIELD=RANGE; `scmrl study tune --help`."""
    example = (
        "scmrl study tune --search train.learning_rate=1e-3..1e-1,log --search model.channels=32|64 --trials 30 "
        "--out studies/tune"
    )
    return _study("tune", options, example)


@study.command(help_flags=[])
def noise(*options: Options) -> int:
    """Accuracy against the strength of noise, occlusion and losses; `scmrl study noise --help`."""
    return _study("noise", options, "scmrl study noise three-senses --train.epochs 8 --train_noisy --out studies/noise")


@study.command(help_flags=[])
def scaling(*options: Options) -> int:
    """Accuracy and cost against training samples and senses; `scmrl study scaling --help`."""
    return _study("scaling", options, "scmrl study scaling three-senses --every_subset --out studies/scaling")


def _study(kind: str, options: tuple[str, ...], example: str) -> int:
    from scmrl.study.kinds import KINDS

    spec_type = KINDS[kind]
    if {"--help", "-h"} & set(options):
        from rich.console import Console
        from rich.markup import escape

        from scmrl.overlay import help_table
        from scmrl.spec_commands import experiment_help

        console = Console()
        summary = cleandoc(spec_type.__doc__ or "")
        console.print(escape(STUDY_HELP.format(kind=kind, summary=summary, example=example)), highlight=False)
        console.print(experiment_help())
        console.print(help_table(spec_type))
        return 0

    from scmrl.spec_commands import read_experiment

    if spec_type.repeated is not None:
        from scmrl.study.ranges import gather

        field, shown = spec_type.repeated
        options = tuple(gather(options, f"--{field}", shown))
    spec = read_experiment(options, spec_type)
    spec.check()  # mistakes are told before PyTorch is loaded

    from scmrl.progress import Progress
    from scmrl.study.run import run_study

    with Progress.create() as progress:
        folder, findings, failures = run_study(spec, progress)
    if findings is not None:
        print((folder / "results.md").read_text(encoding="utf-8"))
        print(f"in {folder}: results.md, results.json, tables as .csv, plots as .svg and .png, one run folder a point")
    elif not failures:
        print("scmrl: nothing is done yet, so there are no tables", file=sys.stderr)
    for key, error in failures.items():
        print(f"scmrl: {key} failed: {error.splitlines()[0]}; see {folder / 'points' / key}.log", file=sys.stderr)
    if failures:
        print("scmrl: the same command with --retry_failed tries them again", file=sys.stderr)
    return 1 if failures or findings is None else 0
