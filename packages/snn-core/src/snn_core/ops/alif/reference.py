"""Equations of the adaptive-threshold neuron (ALIF); every implementation is tested against them.

A leaky integrate-and-fire neuron whose threshold rises with each of its spikes and decays slowly: a memory far longer
than that of the membrane (Bellec et al. 2018, arXiv:1803.09574; the form is that of Bellec et al. 2020, Nature
Communications 11:3625). For t = 0 ... T-1, with v[-1] = v_init, b[-1] = b_init and both time constants in time steps:

    h[t] = v[t-1] + (x[t] - (v[t-1] - v_rest)) / tau      decay_input
    h[t] = v[t-1] - (v[t-1] - v_rest) / tau + x[t]        otherwise
    A[t] = v_threshold + beta b[t-1]
    s[t] = 1 if h[t] >= A[t] else 0
    v[t] = (1 - s[t]) h[t] + s[t] v_reset                 hard reset
    v[t] = h[t] - s[t] v_threshold                        soft reset (v_reset is None)
    b[t] = (1 - 1 / tau_adaptation) b[t-1] + s[t]

v_rest is v_reset, or 0 with a soft reset, which subtracts the threshold without its adaptation as the papers do. In the
backward pass ds/d(h - A) is the surrogate. `detach_reset` treats s[t] in the reset as a constant and `detach_membrane`
v[t-1]; gradients flow through the adaptation b in either case.
"""

from __future__ import annotations

import torch
from torch import Tensor

from snn_core.ops.common.spike import spike
from snn_core.surrogate import SurrogateGradient


def alif_reference(
    x: Tensor,
    v_init: Tensor,
    b_init: Tensor,
    *,
    tau: float | Tensor,
    tau_adaptation: float | Tensor,
    beta: float | Tensor,
    v_threshold: float | Tensor,
    v_reset: float | None,
    decay_input: bool,
    detach_reset: bool,
    detach_membrane: bool,
    surrogate: SurrogateGradient,
    slope: float,
) -> tuple[Tensor, Tensor, Tensor]:
    """Currents x [T, ...], potential v_init and adaptation b_init [...] -> spikes [T, ...], last v and b [...]."""
    v, b, spikes, v_rest = v_init, b_init, list[Tensor](), v_reset or 0.0
    for current in x.unbind(0):
        if detach_membrane:
            v = v.detach()
        h = v + (current - (v - v_rest)) / tau if decay_input else v - (v - v_rest) / tau + current
        s = spike(h - (v_threshold + beta * b), surrogate, slope)
        fired = s.detach() if detach_reset else s
        v = h - fired * v_threshold if v_reset is None else (1 - fired) * h + fired * v_reset
        b = (1 - 1 / tau_adaptation) * b + s
        spikes.append(s)
    return torch.stack(spikes), v, b
