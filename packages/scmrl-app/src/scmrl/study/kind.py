"""The description of one kind of study. Imports no PyTorch."""

from __future__ import annotations

from dataclasses import dataclass
from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pathlib import Path

    from scmrl.console.progress import Progress
    from scmrl.engine.run import Run
    from scmrl.study.points import Point, Results
    from scmrl.study.queue.work import Claim
    from scmrl.study.spec import StudySpec
    from scmrl.study.tables import StudyFindings


@dataclass(frozen=True)
class StudyKind:
    """The parts of one kind of study, each as `module:name`.

    A part is imported when it is used: help needs no spec, a spec needs no PyTorch, and workers need no plots.
    """

    summary: str
    """For the list of commands."""
    example: str
    """A command line."""
    spec: str
    """A `StudySpec`: the options, and the points to train."""
    findings: str
    """`(spec, results) -> StudyFindings`: tables and plots of the finished points."""
    measure: str = "scmrl.study.training:measure_scores"
    """`(spec, run) -> dict`: what to measure after a training, as JSON; by default accuracies."""
    run: str = "scmrl.study.training:train_point"
    """`(spec, point, folder, progress, claim) -> (result, score)`: how to process a point; by default train it once."""

    def spec_type(self) -> type[StudySpec]:
        """Return the class of the spec."""
        return _load(self.spec)

    def tabulate(self, spec: StudySpec, results: Results) -> StudyFindings:
        """Make tables and plots of the finished points, which may be a part of all points."""
        return _load(self.findings)(spec, results)

    def measure_run(self, spec: StudySpec, run: Run) -> dict[str, Any]:
        """Return the study's measurements of a finished training."""
        return _load(self.measure)(spec, run)

    def run_point(
        self, spec: StudySpec, point: Point, folder: Path, progress: Progress, claim: Claim
    ) -> tuple[dict[str, Any], float | None]:
        """Train and measure one point; return the measurements, and the score, None for a pruned point."""
        return _load(self.run)(spec, point, folder, progress, claim)


def _load(reference: str) -> Any:
    module, _, name = reference.partition(":")
    return getattr(import_module(module), name)
