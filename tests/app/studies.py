"""Studies on the tiny dataset, run in the test's process."""

from __future__ import annotations

from pathlib import Path
from typing import TypeVar

import torch
from rich.console import Console

from app.tiny import tiny_options
from scmrl.commands.spec import read_experiment
from scmrl.console.progress import Progress
from scmrl.study.queue.worker import run_worker
from scmrl.study.ranges import merge_repeated
from scmrl.study.run import run_study
from scmrl.study.spec import StudySpec
from scmrl.study.tables import StudyFindings

S = TypeVar("S", bound=StudySpec)


def study(spec_type: type[S], data: Path, out: Path, *options: str, epochs: int = 1) -> S:
    """Return a study as parsed by the command line, with the options of the tiny dataset."""
    tiny = tiny_options(data, out)
    tiny[tiny.index("--train.epochs") + 1] = str(epochs)
    tokens = [*tiny, *options]
    if spec_type.repeated is not None:
        tokens = merge_repeated(tokens, f"--{spec_type.repeated[0]}", spec_type.repeated[1])
    return read_experiment(tuple(tokens), spec_type)


def run_here(spec: StudySpec) -> tuple[Path, StudyFindings | None, dict[str, str]]:
    """Run a study without further processes: enqueue its points, train them here, and tabulate."""
    quiet = Progress(Console(quiet=True), None, lambda: 0.0)
    without_workers = spec.model_copy(update={"jobs": 0})
    folder, _, _ = run_study(without_workers, quiet)
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # as for workers that share a machine
    try:
        run_worker(folder)
    finally:
        torch.set_num_threads(threads)
    return run_study(without_workers.model_copy(update={"retry_failed": False}), quiet)
