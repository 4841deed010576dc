"""Batch norm and neuron in operations of PyTorch alone, in evaluation mode and without gradients, for exporters."""

from __future__ import annotations

import torch
from torch import Tensor

from snn_core.ops.common.call import NeuronCall
from snn_core.ops.lif.constants import LIFConstants
from snn_core.ops.lif.decomposition import decompose_lif
from snn_core.ops.norm_lif.settings import Layout, Statistics


def decompose_norm_lif(
    x: Tensor,
    v: Tensor,
    constants: LIFConstants,
    weight: Tensor,
    bias: Tensor,
    statistics: Statistics,
    layout: Layout,
    call: NeuronCall,
) -> tuple[Tensor, Tensor]:
    """Input x [T, ...], or [...] if it is static, and potential v [...] -> spikes [T, ...] and the last potential."""
    scale = weight * torch.rsqrt(statistics.var + layout.eps)
    shift = bias - statistics.mean * scale
    C = len(weight)
    # `inner` consecutive elements share a channel: 1 if channels are the last axis, height times width on maps.
    axes = (C,) if layout.inner == 1 and x.shape[-1] == C else (C, 1, 1)
    drive = x.to(v.dtype) * scale.view(axes) + shift.view(axes)
    currents = drive.expand(layout.repeats, *drive.shape) if layout.repeats else drive
    spikes, v_last = decompose_lif(currents, v, constants, call)
    return spikes.to(x.dtype), v_last
