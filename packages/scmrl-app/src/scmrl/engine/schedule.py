"""Learning rate schedule and weight decay groups."""

from __future__ import annotations

import math
from typing import Any

from torch import nn

from scmrl.config.experiment import Schedule, TrainSpec

WARMUP_FROM = 1e-6
"""Learning rate at the first step of the warm-up."""


def learning_rate(step: int, steps_per_epoch: int, options: TrainSpec, schedule: Schedule) -> float:
    """Linear warm-up, then cosine decay; depends on nothing but the step and the settings."""
    scale = 1.0 if options.learning_rate_batch is None else schedule.batch_size / options.learning_rate_batch
    peak, final = options.learning_rate * scale, min(options.final_learning_rate, options.learning_rate * scale)
    warmup = schedule.warmup_epochs * steps_per_epoch
    if step < warmup:
        return WARMUP_FROM + (peak - WARMUP_FROM) * step / warmup
    fraction = (step - warmup) / max(1.0, schedule.epochs * steps_per_epoch - warmup)
    return final + (peak - final) * (1 + math.cos(math.pi * min(1.0, fraction))) / 2


def parameter_groups(model: nn.Module, weight_decay: float) -> list[dict[str, Any]]:
    """Apply weight decay to matrices and kernels, not to biases, normalizations and learned constants."""
    parameters = list(model.parameters())
    return [
        {"params": [p for p in parameters if p.dim() >= 2], "weight_decay": weight_decay},
        {"params": [p for p in parameters if p.dim() < 2], "weight_decay": 0.0},
    ]
