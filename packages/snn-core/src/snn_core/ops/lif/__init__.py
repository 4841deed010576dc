"""Multi-step leaky integrate-and-fire: currents in, spikes and the last membrane potential out, no hidden state."""

from __future__ import annotations

import torch
from torch import Tensor

from snn_core.ops.lif.few_pass import FewPassLIF
from snn_core.surrogate import SurrogateGradient, surrogate_gradient


def lif(
    x: Tensor,
    *,
    v_init: Tensor | None = None,
    tau: float = 2.0,
    v_threshold: float = 1.0,
    v_reset: float | None = 0.0,
    decay_input: bool = True,
    detach_reset: bool = True,
    detach_membrane: bool = False,
    surrogate: str | SurrogateGradient = "sigmoid",
    slope: float = 4.0,
) -> tuple[Tensor, Tensor]:
    """Run a layer of LIF neurons over a whole sequence; the equations are in `ops/lif/reference.py`.

    Args:
        x: input currents [T, ...], any floating dtype.
        v_init: membrane potential before the first step [...]; None means at rest (v_reset, or 0 for a soft reset).
        tau: membrane time constant in time steps, at least 1.
        v_threshold: the neuron fires when its potential reaches this.
        v_reset: potential after a spike; None subtracts the threshold instead (soft reset).
        decay_input: whether the current, too, is divided by tau.
        detach_reset: no gradient through the spike in the reset.
        detach_membrane: no gradient through the membrane potential between time steps.
        surrogate: name from `snn_core.SURROGATES`, or a function `(h - v_threshold, slope) -> derivative`.
        slope: the surrogate's slope.

    Returns:
        spikes [T, ...] in the dtype of x, and the last membrane potential [...] in float32 (float64 if x is).

    Raises:
        ValueError: no time step, tau below 1, unknown surrogate, or v_init of another shape than x[0].
    """
    if x.dim() == 0 or x.shape[0] == 0:
        raise ValueError(f"x needs at least one time step in its first axis, but its shape is {tuple(x.shape)}")
    if tau < 1:
        raise ValueError(f"tau is a time constant in time steps and at least 1, but it is {tau}")
    # The membrane stays in float32 under mixed precision: in 16 bits it would change 1 to 2 % of all spikes.
    dtype = torch.float64 if x.dtype == torch.float64 else torch.float32
    if v_init is None:
        v_init = torch.full(x.shape[1:], v_reset or 0.0, dtype=dtype, device=x.device)
    elif v_init.shape != x.shape[1:]:
        raise ValueError(f"v_init has shape {tuple(v_init.shape)}, but one time step of x has {tuple(x.shape[1:])}")
    spikes, v_last = FewPassLIF.apply(  # pyright: ignore[reportUnknownMemberType, reportUnknownVariableType, reportGeneralTypeIssues]
        x.to(dtype),
        v_init.to(dtype),
        tau,
        v_threshold,
        v_reset,
        decay_input,
        detach_reset,
        detach_membrane,
        surrogate_gradient(surrogate),
        slope,
    )
    return spikes.to(x.dtype), v_last  # pyright: ignore[reportUnknownMemberType, reportUnknownVariableType]
