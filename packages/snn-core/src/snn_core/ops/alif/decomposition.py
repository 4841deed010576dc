"""The adaptive neuron in operations of PyTorch alone, without gradients, for exporters."""

from __future__ import annotations

import torch
from torch import Tensor

from snn_core.ops.alif.constants import ALIFConstants
from snn_core.ops.common.call import NeuronCall


def decompose_alif(
    x: Tensor, v: Tensor, b: Tensor, constants: ALIFConstants, call: NeuronCall
) -> tuple[Tensor, Tensor, Tensor]:
    """Currents x [T, ...], potential v and adaptation b [...] -> spikes [T, ...], last potential and adaptation [...].

    The equations of `reference.py` with potentials relative to rest; constants may be scalar tensors.
    """
    decay, gain, threshold, beta, rho = constants
    spikes = list[Tensor]()
    for current in x.unbind(0):
        h = decay * v + gain * current.to(v.dtype)
        fired = h >= threshold + beta * b
        spikes.append(fired.to(x.dtype))
        v = torch.where(fired, h - threshold if call.soft_reset else torch.zeros_like(h), h)
        b = rho * b + fired.to(b.dtype)
    return torch.stack(spikes), v, b
