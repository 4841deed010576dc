"""Equations of batch norm followed by the neuron; the fused operation is tested against them.

Over all elements of a channel c, at every time step and sample, with biased variance:

    drive = weight[c] * (x - mean[c]) / sqrt(var[c] + eps) + bias[c]

mean and var are those of x in training, the running statistics in evaluation (Ioffe & Szegedy 2015, arXiv:1502.03167).
The neuron receives `drive`; its equations are in `ops/lif/reference.py`.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from snn_core.ops.lif.reference import lif_reference


def norm_lif_reference(
    x: Tensor,
    v_init: Tensor,
    weight: Tensor,
    bias: Tensor,
    *,
    axis: int,
    eps: float,
    statistics: tuple[Tensor, Tensor] | None = None,
    **neuron: Any,
) -> tuple[Tensor, Tensor]:
    """Input x [T, ...] with channels in `axis` -> spikes [T, ...] and the last potential [...].

    `statistics` are a mean and a variance [C] that replace those of x; `neuron` are the arguments of `lif_reference`.
    """
    rows = x.movedim(axis, -1)
    over = tuple(range(x.dim() - 1))
    mean, var = statistics or (rows.mean(over), rows.var(over, correction=0))
    drive = weight * (rows - mean) / torch.sqrt(var + eps) + bias
    return lif_reference(drive.movedim(-1, axis), v_init, **neuron)
