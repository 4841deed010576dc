"""Multi-step leaky integrate-and-fire: currents in, spikes and the last membrane potential out, no hidden state.

IF, LIF and PLIF are this operation with different constants. `reference.py` has the equations, the other files
implementations.
"""

from __future__ import annotations

from torch import Tensor

from snn_core.ops.common.arguments import check_time_constant
from snn_core.ops.common.call import DEFAULTS, Implementation, NeuronCall, Save
from snn_core.ops.common.implementation import Choice, Kernels, choose
from snn_core.ops.common.operation import NeuronOperation
from snn_core.ops.lif import torch_kernels
from snn_core.ops.lif.constants import LIFConstants
from snn_core.ops.lif.decomposition import decompose_lif
from snn_core.ops.lif.native import KERNELS
from snn_core.surrogate import SurrogateGradient

LIF_OPERATION = NeuronOperation(
    "lif",
    constants=LIFConstants,
    states=("v",),
    kernels=Kernels(torch=torch_kernels, native=KERNELS, triton="snn_core.ops.lif.triton"),
    decomposition=decompose_lif,
)


def which_implementation(
    x: Tensor, *, surrogate: str | SurrogateGradient = DEFAULTS.surrogate, implementation: Implementation = "auto"
) -> Choice:
    """Return which implementation runs IF, LIF and PLIF on currents like `x`, and why.

    The first call that considers `native` may compile it, which takes a second or two once per machine.

    Raises:
        ValueError: the implementation is unknown, or was requested by name and cannot run here; says what to do.
    """
    return choose(LIF_OPERATION.kernels, x, surrogate, implementation)


def lif(
    x: Tensor,
    *,
    v_init: Tensor | None = None,
    tau: float | Tensor = 2.0,
    v_threshold: float | Tensor = 1.0,
    v_reset: float | None = 0.0,
    decay_input: bool = True,
    detach_reset: bool = DEFAULTS.detach_reset,
    detach_membrane: bool = DEFAULTS.detach_membrane,
    surrogate: str | SurrogateGradient = DEFAULTS.surrogate,
    slope: float = DEFAULTS.slope,
    save: Save = DEFAULTS.save,
    lengths: Tensor | None = None,
    implementation: Implementation = DEFAULTS.implementation,
) -> tuple[Tensor, Tensor]:
    """Run a layer of LIF neurons over a sequence; the equations are in `ops/lif/reference.py`.

    Args:
        x: input currents [T, ...], any floating dtype.
        v_init: membrane potential before the first step [...]; None means at rest (v_reset, or 0 for a soft reset).
        tau: membrane time constant in time steps, at least 1; a scalar tensor may be learned.
        v_threshold: potential at which the neuron spikes; a scalar tensor may be learned.
        v_reset: potential after a spike; None subtracts the threshold instead (soft reset).
        decay_input: whether the current is divided by tau too.
        detach_reset: no gradient through the spike in the reset.
        detach_membrane: no gradient through the membrane potential between time steps.
        surrogate: name from `snn_core.SURROGATES`, or an even function `(h - v_threshold, slope) -> derivative`.
        slope: slope of the surrogate.
        save: what is saved for the backward, see `snn_core.ops.common.call.Save`.
        lengths: number of steps of each sample [B], where x is [T, B, ...]; later steps are padding: no spikes, no
            gradient, and the potential stays as after the last step of the sample. None means T for all.
        implementation: `auto` for the fastest that can run, or one by name; see `snn_core.which_implementation`.

    Returns:
        spikes [T, ...] in the dtype of x, and the last membrane potential [...] in float32 (float64 if x is).

    Raises:
        ValueError: there is no time step, tau is below 1 or not finite, the slope is not above 0, v_reset is not below
            the threshold, surrogate or save is unknown, the shape of v_init or lengths does not match x, options
            cannot be combined, or the implementation cannot run.
    """
    check_time_constant("tau", tau)
    leak = 1 / tau
    constants = (1 - leak, leak if decay_input else 1.0, v_threshold)
    call = NeuronCall(v_reset is None, detach_reset, detach_membrane, surrogate, slope, save, implementation)
    spikes, v_last = LIF_OPERATION(x, (v_init,), constants, call, v_reset=v_reset, lengths=lengths)
    return spikes, v_last
