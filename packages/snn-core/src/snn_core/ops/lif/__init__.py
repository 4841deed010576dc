"""Multi-step leaky integrate-and-fire: currents in, spikes and the last membrane potential out, no hidden state.

IF, LIF and PLIF are this one operation with other constants. It is registered with PyTorch, so that `torch.compile`
and `torch.export` see one node; `reference.py` holds the equations, and the other files ways to compute them.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from snn_core.ops.common.arguments import check_constants, check_lengths, check_save
from snn_core.ops.common.implementation import Choice, Implementation, which_implementation
from snn_core.ops.lif.operation import apply
from snn_core.ops.lif.settings import Save, Settings
from snn_core.surrogate import SurrogateGradient, surrogate_gradient

__all__ = ["Choice", "Implementation", "Save", "Settings", "leaky_integrate_fire", "lif", "which_implementation"]


def lif(
    x: Tensor,
    *,
    v_init: Tensor | None = None,
    tau: float | Tensor = 2.0,
    v_threshold: float | Tensor = 1.0,
    v_reset: float | None = 0.0,
    decay_input: bool = True,
    detach_reset: bool = True,
    detach_membrane: bool = False,
    surrogate: str | SurrogateGradient = "sigmoid",
    slope: float = 4.0,
    save: Save = "d32",
    lengths: Tensor | None = None,
    implementation: Implementation = "auto",
) -> tuple[Tensor, Tensor]:
    """Run a layer of LIF neurons over a whole sequence; the equations are in `ops/lif/reference.py`.

    Args:
        x: input currents [T, ...], any floating dtype.
        v_init: membrane potential before the first step [...]; None means at rest (v_reset, or 0 for a soft reset).
        tau: membrane time constant in time steps, at least 1; a scalar tensor may be learned.
        v_threshold: the neuron fires when its potential reaches this; a scalar tensor may be learned.
        v_reset: potential after a spike; None subtracts the threshold instead (soft reset).
        decay_input: whether the current, too, is divided by tau.
        detach_reset: no gradient through the spike in the reset.
        detach_membrane: no gradient through the membrane potential between time steps.
        surrogate: name from `snn_core.SURROGATES`, or an even function `(h - v_threshold, slope) -> derivative`.
        slope: the surrogate's slope.
        save: what is kept for the backward, see `snn_core.ops.lif.Save`.
        lengths: how many steps each sample has [B], where x is [T, B, ...]; later ones are padding: no spikes, no
            gradient, and the potential stays as it was after the sample's last step. None means T for all.
        implementation: `auto` for the fastest that can run, or one by name; `snn_core.which_implementation` tells
            which it is.

    Returns:
        spikes [T, ...] in the dtype of x, and the last membrane potential [...] in float32 (float64 if x is).

    Raises:
        ValueError: no time step, tau below 1 or not finite, a slope not above 0, a v_reset not below the threshold,
            unknown surrogate or save, v_init of another shape than x[0], lengths
            that do not fit x, options that cannot stand together, or an implementation that cannot run.
    """
    if not isinstance(tau, Tensor) and not 1 <= tau < math.inf:
        raise ValueError(f"tau must be a time constant of at least 1 time step, but it is {tau}")
    leak = 1 / tau
    return leaky_integrate_fire(
        x,
        v_init=v_init,
        decay=1 - leak,
        gain=leak if decay_input else 1.0,
        v_threshold=v_threshold,
        v_reset=v_reset,
        detach_reset=detach_reset,
        detach_membrane=detach_membrane,
        surrogate=surrogate,
        slope=slope,
        save=save,
        lengths=lengths,
        implementation=implementation,
    )


def leaky_integrate_fire(
    x: Tensor,
    *,
    decay: float | Tensor,
    gain: float | Tensor,
    v_threshold: float | Tensor,
    v_init: Tensor | None = None,
    v_reset: float | None = 0.0,
    detach_reset: bool = True,
    detach_membrane: bool = False,
    surrogate: str | SurrogateGradient = "sigmoid",
    slope: float = 4.0,
    save: Save = "d32",
    lengths: Tensor | None = None,
    implementation: Implementation = "auto",
) -> tuple[Tensor, Tensor]:
    """The operation itself: `h = decay * v + gain * x` relative to the resting potential, fire, reset.

    Arguments, results and errors as in `lif`, with the share of the potential that is left after a step (`decay`) and
    the factor on the current (`gain`) in the place of tau.
    """
    if x.dim() == 0 or x.shape[0] == 0:
        raise ValueError(f"x needs at least one time step in its first axis, but its shape is {tuple(x.shape)}")
    if v_init is not None and v_init.shape != x.shape[1:]:
        raise ValueError(f"v_init has shape {tuple(v_init.shape)}, but one time step of x has {tuple(x.shape[1:])}")
    learned = any(isinstance(c, Tensor) and c.requires_grad for c in (decay, gain, v_threshold))
    check_save(save, surrogate, detach_reset, learned)
    check_constants(v_threshold, v_reset, slope)
    # The membrane stays in float32 under mixed precision: in 16 bits it would change 1 to 2 % of all spikes.
    dtype = torch.float64 if x.dtype == torch.float64 else torch.float32
    rest = v_reset or 0.0
    if v_init is None:
        # One zero seen as many: rest costs no memory, and nothing of it is kept for the backward.
        v = x.new_zeros((), dtype=dtype).expand(x.shape[1:])
    else:
        v = v_init.to(dtype) - rest if rest else v_init.to(dtype)
    constants = (decay, gain, v_threshold - rest if rest else v_threshold)
    if not callable(surrogate):
        surrogate_gradient(surrogate)
    if implementation != "auto":
        which_implementation(x, surrogate=surrogate, implementation=implementation)
    options = (v_reset is None, detach_reset, detach_membrane, surrogate, slope, save, implementation)
    spikes, v_last = apply(x, v, constants, None if lengths is None else check_lengths(lengths, x), options)
    return spikes, v_last + rest if rest else v_last
