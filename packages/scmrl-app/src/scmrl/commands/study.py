"""`scmrl study`: many trainings that answer one question. PyTorch is loaded only when a study runs."""

from __future__ import annotations

import sys
from inspect import cleandoc
from typing import Annotated

from cyclopts import App, Parameter

from scmrl.commands.spec import help_topic, read_experiment
from scmrl.study.kinds import KINDS

study = App(name="study", help="Run many trainings that answer one question; write tables and plots.")

OptionTokens = Annotated[str, Parameter(allow_leading_hyphen=True, show=False)]


def _run_command(kind: str, options: tuple[str, ...]) -> int:
    spec_type = KINDS[kind].spec_type()
    if (topic := help_topic(options)) is not None:
        from scmrl.commands.option_help import show_study_help

        summary = cleandoc(spec_type.__doc__ or "")
        show_study_help(topic, spec_type, kind=kind, summary=summary, example=KINDS[kind].example)
        return 0

    if "variants" in spec_type.model_fields and (rest := _without_bare_variants(options)) is not None:
        from scmrl.study.variants import describe_variants

        print(describe_variants(read_experiment(rest, spec_type), command=f"scmrl study {kind}"))
        return 0

    if spec_type.repeated is not None:
        from scmrl.study.ranges import merge_repeated

        field, field_example = spec_type.repeated
        options = tuple(merge_repeated(options, f"--{field}", field_example))
    spec = read_experiment(options, spec_type)
    spec.check()  # mistakes are reported before PyTorch is loaded

    from scmrl.config.preflight import check_device, check_extras

    if spec.jobs != 0:  # tables of finished trainings need neither
        check_extras(spec)
        check_device(spec.train.device)

    from scmrl.console.progress import Progress
    from scmrl.study.points import describe_run_folders
    from scmrl.study.run import run_study

    with Progress.create() as progress:
        folder, findings, failures = run_study(spec, progress)
    if findings is not None:
        print((folder / "results.md").read_text(encoding="utf-8"))
        runs = describe_run_folders(folder, (point.key for point in spec.points()))
        print(f"in {folder}: results.md, results.json, tables as .csv, plots as .svg and .png, {runs}")
    elif not failures:
        print("scmrl: no training has finished yet, so there are no tables", file=sys.stderr)
    for key, error in failures.items():
        print(f"scmrl: {key} failed: {error.splitlines()[0]}; see {folder / 'points' / key}.log", file=sys.stderr)
    if failures:
        print("scmrl: to retry them, add --retry_failed to the same command", file=sys.stderr)
    return 1 if failures or findings is None else 0


def _without_bare_variants(options: tuple[str, ...]) -> tuple[str, ...] | None:
    """Return the options without a `--variants` that has no value; None if there is no such option."""
    for index, option in enumerate(options):
        following = options[index + 1] if index + 1 < len(options) else "--"
        if option == "--variants" and following.startswith("--"):
            return options[:index] + options[index + 1 :]
    return None


def _add_command(kind: str) -> None:
    def command(*options: OptionTokens) -> int:
        return _run_command(kind, options)

    study.command(command, name=kind, help=f"{KINDS[kind].summary}; `scmrl study {kind} --help`.", help_flags=[])


for _kind in KINDS:
    _add_command(_kind)
