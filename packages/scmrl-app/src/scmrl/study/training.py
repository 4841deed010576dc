"""Train one point of a study and measure it."""

# PyTorch leaves the types of some methods open.
# pyright: reportUnknownMemberType=false
from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

from scmrl.console.progress import Progress
from scmrl.engine.run import Run
from scmrl.engine.train import train
from scmrl.study.kinds import KINDS
from scmrl.study.points import Point
from scmrl.study.queue.work import Claim
from scmrl.study.spec import StudySpec
from scmrl.study.statistics import pack_bits


def train_point(
    spec: StudySpec, point: Point, folder: Path, progress: Progress, claim: Claim
) -> tuple[dict[str, Any], float | None]:
    """Train one point and measure it.

    Args:
        spec: of the study.
        point: the training.
        folder: its run folder.
        progress: the display.
        claim: the worker's claim on the point; other kinds of studies report their progress through it.

    Returns:
        the measurements, and the validation accuracy.
    """
    run = train(point.experiment(spec.base(), folder), progress)
    assert run.validation is not None
    return {"seconds": run.seconds, **KINDS[spec.kind].measure_run(spec, run)}, run.validation.accuracy


def measure_scores(_spec: StudySpec, run: Run) -> dict[str, Any]:
    """Measure a run for any kind of study.

    Return validation and test accuracy, the correct test samples as bits, and a checksum of the sample ids.
    """
    assert run.validation is not None
    assert run.test is not None
    correct = (run.test.probabilities.argmax(1) == run.test.labels).numpy()
    return {
        "validation_accuracy": run.validation.accuracy,
        "test_accuracy": run.test.accuracy,
        "correct": pack_bits(correct),
        "samples": hashlib.sha256("\n".join(run.test.ids).encode()).hexdigest()[:16],
    }
