"""Multi-step integrate-and-fire with an adaptive threshold (ALIF): currents in, spikes and last state out.

It is registered with PyTorch, so that `torch.compile` and `torch.export` see one node; `reference.py` holds the
equations, and the other files ways to compute them.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from snn_core.ops.alif.implementation import implementation_of
from snn_core.ops.alif.operation import apply
from snn_core.ops.common.arguments import check_constants, check_lengths
from snn_core.ops.lif import Implementation
from snn_core.surrogate import SurrogateGradient, surrogate_gradient

__all__ = ["alif"]


def alif(
    x: Tensor,
    *,
    v_init: Tensor | None = None,
    b_init: Tensor | None = None,
    tau: float | Tensor = 2.0,
    tau_adaptation: float | Tensor = 10.0,
    beta: float | Tensor = 0.18,
    v_threshold: float | Tensor = 1.0,
    v_reset: float | None = 0.0,
    decay_input: bool = True,
    detach_reset: bool = True,
    detach_membrane: bool = False,
    surrogate: str | SurrogateGradient = "sigmoid",
    slope: float = 4.0,
    lengths: Tensor | None = None,
    implementation: Implementation = "auto",
) -> tuple[Tensor, Tensor, Tensor]:
    """Run a layer of adaptive neurons over a whole sequence; the equations are in `ops/alif/reference.py`.

    Every spike adds 1 to a neuron's adaptation b, of which 1 / tau_adaptation is lost in each step, and b raises the
    threshold to v_threshold + beta * b: by beta * tau_adaptation in the end for a neuron that fires at every step. For
    the backward, 4 bytes an element and time step are kept.

    Args:
        x: input currents [T, ...], any floating dtype.
        v_init: membrane potential before the first step [...]; None means at rest (v_reset, or 0 for a soft reset).
        b_init: adaptation before the first step [...]; None means 0.
        tau: membrane time constant in time steps, at least 1; a scalar tensor may be learned.
        tau_adaptation: time constant of the adaptation in time steps, at least 1; a scalar tensor may be learned. It
            means what tau means: a decay by exp(-1 / n), as papers write it, is one of 1 / (1 - exp(-1 / n)).
        beta: what one unit of adaptation adds to the threshold; 0 makes the neuron LIF. A scalar tensor may be learned.
        v_threshold: threshold without adaptation; a scalar tensor may be learned.
        v_reset: potential after a spike; None subtracts v_threshold instead (soft reset).
        decay_input: whether the current, too, is divided by tau.
        detach_reset: no gradient through the spike in the reset; through the spike in the adaptation it always flows.
        detach_membrane: no gradient through the membrane potential between time steps.
        surrogate: name from `snn_core.SURROGATES`, or an even function `(h - threshold, slope) -> derivative`.
        slope: the surrogate's slope.
        lengths: how many steps each sample has [B], where x is [T, B, ...]; later ones are padding: no spikes, no
            gradient, and potential and adaptation stay as they were after the sample's last step. None means T for all.
        implementation: `auto` for the fastest that can run, or `torch` or `native` (C on the CPU) by name.

    Returns:
        spikes [T, ...] in the dtype of x, the last membrane potential and the last adaptation, both [...] in float32
        (float64 if x is).

    Raises:
        ValueError: no time step, a time constant below 1, an unknown surrogate, v_init or b_init of another shape than
            x[0], lengths that do not fit x, or an implementation that does not exist or cannot run.
    """
    if x.dim() == 0 or x.shape[0] == 0:
        raise ValueError(f"x needs at least one time step in its first axis, but its shape is {tuple(x.shape)}")
    for name, constant in (("tau", tau), ("tau_adaptation", tau_adaptation)):
        if not isinstance(constant, Tensor) and not 1 <= constant < math.inf:
            raise ValueError(f"{name} must be a time constant of at least 1 time step, but it is {constant}")
    for name, state in (("v_init", v_init), ("b_init", b_init)):
        if state is not None and state.shape != x.shape[1:]:
            raise ValueError(f"{name} has shape {tuple(state.shape)}, but one time step of x has {tuple(x.shape[1:])}")
    surrogate_gradient(surrogate)
    check_constants(v_threshold, v_reset, slope)
    if implementation != "auto":
        implementation_of(implementation, x, surrogate)
    # The state stays in float32 under mixed precision: in 16 bits it would change 1 to 2 % of all spikes.
    dtype = torch.float64 if x.dtype == torch.float64 else torch.float32
    rest = v_reset or 0.0
    # One zero seen as many: a state at rest costs no memory, and nothing of it is kept for the backward.
    zero = torch.zeros((), dtype=dtype, device=x.device).expand(x.shape[1:])
    v = zero if v_init is None else v_init.to(dtype) - rest if rest else v_init.to(dtype)
    b = zero if b_init is None else b_init.to(dtype)
    leak = 1 / tau
    constants = (
        1 - leak,
        leak if decay_input else 1.0,
        v_threshold - rest if rest else v_threshold,
        beta,
        1 - 1 / tau_adaptation,
    )
    options = (v_reset is None, detach_reset, detach_membrane, surrogate, slope, implementation)
    spikes, v_last, b_last = apply(x, v, b, constants, None if lengths is None else check_lengths(lengths, x), options)
    return spikes, v_last + rest if rest else v_last, b_last
