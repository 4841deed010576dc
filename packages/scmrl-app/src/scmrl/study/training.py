"""Train one point of a study and measure it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from scmrl.console.progress import Progress
from scmrl.engine.train import train
from scmrl.study.kinds import KINDS
from scmrl.study.points import Point
from scmrl.study.queue.work import Claim
from scmrl.study.spec import StudySpec


def train_point(
    spec: StudySpec, point: Point, folder: Path, progress: Progress, claim: Claim
) -> tuple[dict[str, Any], float | None]:
    """Train one point and measure it.

    Args:
        spec: of the study.
        point: the training.
        folder: its run folder.
        progress: the display.
        claim: the worker's claim on the point.

    Returns:
        the measurements, and the validation accuracy.
    """
    run = train(point.experiment(spec.base(), folder), progress)
    assert run.validation is not None
    return {"seconds": run.seconds, **KINDS[spec.kind].measure_run(spec, run)}, run.validation.accuracy
