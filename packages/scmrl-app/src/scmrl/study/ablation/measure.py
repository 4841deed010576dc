"""Measurements of `scmrl study ablation`: accuracies, and the activity of the cross-modal branch."""

# PyTorch leaves the types of some methods open.
# pyright: reportUnknownMemberType=false
from __future__ import annotations

from collections.abc import Generator
from contextlib import contextmanager
from typing import Any

import torch

from scmrl.engine.diagnostics import silent_layers
from scmrl.engine.evaluate import predict_split
from scmrl.engine.parallel import Processes
from scmrl.engine.run import Run
from scmrl.run_folder.device import pick_device
from scmrl.study.spec import StudySpec
from scmrl.study.training import measure_scores
from snn_core import record_firing_rates
from snn_fusion import FusionModel, from_pretrained
from snn_fusion.methods.residual import ResidualFusion


def measure(spec: StudySpec, run: Run) -> dict[str, Any]:
    """Return accuracies, correct test samples, and the activity of the cross-modal branch."""
    return {**measure_scores(spec, run), **branch_activity(run)}


def branch_activity(run: Run) -> dict[str, Any]:
    """Measure the activity of the cross-modal branch on the test split.

    `branch_rate` is the mean firing rate of its neuron layers and `branch_silent` the number of layers below 0.1 %,
    both None for methods without neurons. `alpha_zero_accuracy` is the test accuracy with all residuals removed, None
    for methods without residuals. It shows whether an active branch contributes to the predictions.
    """
    processes = Processes.single(pick_device(run.experiment.train.device))
    model = from_pretrained(run.folder).to(processes.device)
    batch_size = run.experiment.train.evaluation_batch_size
    rates: dict[str, float] = {}
    accuracy_without: float | None = None
    for removed in (False, True):
        if removed and not isinstance(model.fusion, ResidualFusion):
            continue
        with without_residuals(model) if removed else record_firing_rates(model) as recorded:
            predictions = predict_split(model, run.splits.test, batch_size=batch_size, processes=processes)
        if removed:
            accuracy_without = predictions.accuracy
        else:
            rates = {name: rate for name, rate in (recorded or {}).items() if name.startswith("fusion.")}
    return {
        "branch_rate": sum(rates.values()) / len(rates) if rates else None,
        "branch_silent": len(silent_layers(rates)) if rates else None,
        "branch_layers": len(rates),
        "alpha_zero_accuracy": accuracy_without,
        "alphas": {f"{target} reads {source}": alpha for (target, source), alpha in model.fusion.alphas.items()},
    }


@contextmanager
def without_residuals(model: FusionModel) -> Generator[None, None, None]:
    """Within the block, every alpha is 0, so that no modality adds anything from another.

    Raises:
        TypeError: the model's fusion method has no residuals.
    """
    fusion = model.fusion
    if not isinstance(fusion, ResidualFusion):
        raise TypeError(f"{type(fusion).__name__} has no residuals")
    before = fusion.alpha
    try:
        fusion.alpha = torch.nn.Parameter(torch.zeros_like(before)) if isinstance(before, torch.nn.Parameter) else 0.0
        yield
    finally:
        fusion.alpha = before
