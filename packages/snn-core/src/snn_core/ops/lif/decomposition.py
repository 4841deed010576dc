"""The leaky integrate-and-fire neuron in operations of PyTorch alone, without gradients, for exporters."""

from __future__ import annotations

import torch
from torch import Tensor

from snn_core.ops.common.call import NeuronCall
from snn_core.ops.lif.constants import LIFConstants


def decompose_lif(x: Tensor, v: Tensor, constants: LIFConstants, call: NeuronCall) -> tuple[Tensor, Tensor]:
    """Currents x [T, ...] and potential v [...] -> spikes [T, ...] and the last potential [...].

    The equations of `reference.py` with potentials relative to rest; constants may be scalar tensors.
    """
    spikes = list[Tensor]()
    for current in x.unbind(0):
        h = constants.decay * v + constants.gain * current.to(v.dtype)
        fired = h >= constants.threshold
        spikes.append(fired.to(x.dtype))
        v = torch.where(fired, h - constants.threshold if call.soft_reset else torch.zeros_like(h), h)
    return torch.stack(spikes), v
