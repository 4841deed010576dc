"""Measurements of a trained model that studies share."""

# PyTorch leaves the types of some methods open.
# pyright: reportUnknownMemberType=false
from __future__ import annotations

import hashlib
from typing import Any

from scmrl.engine.run import Run
from scmrl.study.spec import StudySpec
from scmrl.study.statistics import pack_bits


def measure_scores(_spec: StudySpec, run: Run) -> dict[str, Any]:
    """Return validation and test accuracy, the correct test samples as bits, and a checksum of the sample ids."""
    assert run.validation is not None
    assert run.test is not None
    correct = (run.test.probabilities.argmax(1) == run.test.labels).numpy()
    return {
        "validation_accuracy": run.validation.accuracy,
        "test_accuracy": run.test.accuracy,
        "correct": pack_bits(correct),
        "samples": hashlib.sha256("\n".join(run.test.ids).encode()).hexdigest()[:16],
    }
