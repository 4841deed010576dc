"""Studies on the tiny dataset, done within the test's own process."""

from __future__ import annotations

from pathlib import Path
from typing import TypeVar

import torch
from rich.console import Console

from app.tiny import tiny_options
from scmrl.progress import Progress
from scmrl.spec_commands import read_experiment
from scmrl.study.ranges import gather
from scmrl.study.run import run_study
from scmrl.study.spec import StudySpec
from scmrl.study.tables import Findings
from scmrl.study.worker import work

S = TypeVar("S", bound=StudySpec)


def study(spec_type: type[S], data: Path, out: Path, *options: str, epochs: int = 1) -> S:
    """A study as the command line reads it, with the options of the tiny dataset."""
    tiny = tiny_options(data, out)
    tiny[tiny.index("--train.epochs") + 1] = str(epochs)
    tokens = [*tiny, *options]
    if spec_type.repeated is not None:
        tokens = gather(tokens, f"--{spec_type.repeated[0]}", spec_type.repeated[1])
    return read_experiment(tuple(tokens), spec_type)


def done(spec: StudySpec) -> tuple[Path, Findings | None, dict[str, str]]:
    """Do a study without further processes: list its points, do them here, and tabulate."""
    quiet = Progress(Console(quiet=True), None, lambda: 0.0)
    alone = spec.model_copy(update={"jobs": 0})
    folder, _, _ = run_study(alone, quiet)
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # as workers that share a machine have it
    try:
        work(folder)
    finally:
        torch.set_num_threads(threads)
    return run_study(alone.model_copy(update={"retry_failed": False}), quiet)
