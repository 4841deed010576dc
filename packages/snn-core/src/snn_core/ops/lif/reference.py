"""Equations of the multi-step leaky integrate-and-fire neuron; every implementation is tested against them.

For t = 0 ... T-1, with v[-1] = v_init and tau in time steps:

    h[t] = v[t-1] + (x[t] - (v[t-1] - v_rest)) / tau      decay_input
    h[t] = v[t-1] - (v[t-1] - v_rest) / tau + x[t]        otherwise
    s[t] = 1 if h[t] >= v_threshold else 0
    v[t] = (1 - s[t]) h[t] + s[t] v_reset                 hard reset
    v[t] = h[t] - s[t] v_threshold                        soft reset (v_reset is None)

v_rest is v_reset, or 0 with a soft reset. In the backward pass ds/dh is the surrogate; `detach_reset` treats s[t] in
the reset as a constant; `detach_membrane` treats v[t-1] as a constant, so that no gradient flows through time, as in
the published code of S-CMRL (arXiv:2502.12488).
"""

from __future__ import annotations

import torch
from torch import Tensor

from snn_core.ops.common.spike import spike
from snn_core.surrogate import SurrogateGradient


def lif_reference(
    x: Tensor,
    v_init: Tensor,
    *,
    tau: float,
    v_threshold: float,
    v_reset: float | None,
    decay_input: bool,
    detach_reset: bool,
    detach_membrane: bool,
    surrogate: SurrogateGradient,
    slope: float,
) -> tuple[Tensor, Tensor]:
    """Currents x [T, ...] and potential v_init [...] -> spikes [T, ...] and the last potential [...]."""
    v, spikes, v_rest = v_init, list[Tensor](), v_reset or 0.0
    for current in x.unbind(0):
        if detach_membrane:
            v = v.detach()
        h = v + (current - (v - v_rest)) / tau if decay_input else v - (v - v_rest) / tau + current
        s = spike(h - v_threshold, surrogate, slope)
        fired = s.detach() if detach_reset else s
        v = h - fired * v_threshold if v_reset is None else (1 - fired) * h + fired * v_reset
        spikes.append(s)
    return torch.stack(spikes), v
