"""What studies measure at a model that was trained."""

# PyTorch leaves the types of some of its own methods open.
# pyright: reportUnknownMemberType=false
from __future__ import annotations

import hashlib
from collections.abc import Generator
from contextlib import contextmanager
from typing import Any

import torch

from scmrl.engine.evaluate import SplitPredictions, predict_split
from scmrl.engine.parallel import Processes, pick_device
from scmrl.engine.rates import SILENT
from scmrl.engine.train import Run
from scmrl.study.statistics import bits
from snn_core import record_firing_rates
from snn_fusion import FusionModel, from_pretrained
from snn_fusion.methods.residual import ResidualFusion


def scores(run: Run) -> dict[str, Any]:
    """Accuracy on the validation and the test split, which test samples were right, and a checksum of their names."""
    assert run.validation is not None
    assert run.test is not None
    return {
        "validation_accuracy": run.validation.accuracy,
        "test_accuracy": run.test.accuracy,
        "right": bits(right(run.test)),
        "samples": hashlib.sha256("\n".join(run.test.ids).encode()).hexdigest()[:16],
    }


def right(said: SplitPredictions) -> Any:
    """Which samples were right, bool [N]."""
    return (said.probabilities.argmax(1) == said.labels).numpy()


def branch(run: Run) -> dict[str, Any]:
    """What the cross-modal branch does on the test split.

    `branch_rate` is the mean firing rate of its neuron layers, `branch_silent` how many fire below 0.1 %, both None
    for methods without neurons. `alpha_zero_accuracy` is the test accuracy with nothing read added to any sense, None
    for methods that add no residuals; it tells whether a branch that fires is of any use.
    """
    processes = Processes(0, 1, pick_device(run.experiment.train.device))
    model = from_pretrained(run.folder).to(processes.device)
    batch_size = run.experiment.train.evaluation_batch_size
    rates: dict[str, float] = {}
    without: float | None = None
    for removed in (False, True):
        if removed and not isinstance(model.fusion, ResidualFusion):
            continue
        with without_residuals(model) if removed else record_firing_rates(model) as seen:
            said = predict_split(model, run.splits.test, batch_size=batch_size, processes=processes)
        if removed:
            without = said.accuracy
        else:
            rates = {name: rate for name, rate in (seen or {}).items() if name.startswith("fusion.")}
    return {
        "branch_rate": sum(rates.values()) / len(rates) if rates else None,
        "branch_silent": sum(rate < SILENT for rate in rates.values()) if rates else None,
        "branch_layers": len(rates),
        "alpha_zero_accuracy": without,
        "alphas": {f"{target} reads {source}": alpha for (target, source), alpha in model.fusion.alphas.items()},
    }


@contextmanager
def without_residuals(model: FusionModel) -> Generator[None, None, None]:
    """Within the block, every alpha is 0: senses add nothing of what they read.

    Raises:
        TypeError: the model's method adds no residuals.
    """
    fusion = model.fusion
    if not isinstance(fusion, ResidualFusion):
        raise TypeError(f"{type(fusion).__name__} adds no residuals")
    before = fusion.alpha
    try:
        fusion.alpha = torch.nn.Parameter(torch.zeros_like(before)) if isinstance(before, torch.nn.Parameter) else 0.0
        yield
    finally:
        fusion.alpha = before
