"""Multi-step integrate-and-fire with an adaptive threshold (ALIF): currents in, spikes and last states out.

`reference.py` has the equations, the other files implementations.
"""

from __future__ import annotations

from torch import Tensor

from snn_core.ops.alif import torch_kernels
from snn_core.ops.alif.constants import ALIFConstants
from snn_core.ops.alif.decomposition import decompose_alif
from snn_core.ops.alif.native import KERNELS
from snn_core.ops.common.arguments import check_time_constant
from snn_core.ops.common.call import DEFAULTS, Implementation, NeuronCall
from snn_core.ops.common.implementation import Kernels
from snn_core.ops.common.operation import NeuronOperation
from snn_core.surrogate import SurrogateGradient

ALIF_OPERATION = NeuronOperation(
    "alif",
    constants=ALIFConstants,
    states=("v", "b"),
    kernels=Kernels(torch=torch_kernels, native=KERNELS),
    decomposition=decompose_alif,
    save="d32",
)


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
    detach_reset: bool = DEFAULTS.detach_reset,
    detach_membrane: bool = DEFAULTS.detach_membrane,
    surrogate: str | SurrogateGradient = DEFAULTS.surrogate,
    slope: float = DEFAULTS.slope,
    lengths: Tensor | None = None,
    implementation: Implementation = DEFAULTS.implementation,
) -> tuple[Tensor, Tensor, Tensor]:
    """Run a layer of adaptive neurons over a sequence; the equations are in `ops/alif/reference.py`.

    Every spike adds 1 to the adaptation b, which loses 1 / tau_adaptation of itself in each step and raises the
    threshold to v_threshold + beta * b: by beta * tau_adaptation in the limit for a neuron that spikes at every step.
    4 bytes per element and time step are saved for the backward.

    Args:
        x: input currents [T, ...], any floating dtype.
        v_init: membrane potential before the first step [...]; None means at rest (v_reset, or 0 for a soft reset).
        b_init: adaptation before the first step [...]; None means 0.
        tau: membrane time constant in time steps, at least 1; a scalar tensor may be learned.
        tau_adaptation: time constant of the adaptation in time steps, at least 1; a scalar tensor may be learned. It is
            defined like tau: a decay by exp(-1 / n), as in papers, is tau_adaptation = 1 / (1 - exp(-1 / n)).
        beta: increase of the threshold per unit of adaptation; with 0 the neuron is LIF. A scalar tensor may be
            learned.
        v_threshold: threshold without adaptation; a scalar tensor may be learned.
        v_reset: potential after a spike; None subtracts v_threshold instead (soft reset).
        decay_input: whether the current is divided by tau too.
        detach_reset: no gradient through the spike in the reset; the one through the adaptation is never detached.
        detach_membrane: no gradient through the membrane potential between time steps.
        surrogate: name from `snn_core.SURROGATES`, or an even function `(h - threshold, slope) -> derivative`.
        slope: slope of the surrogate.
        lengths: number of steps of each sample [B], where x is [T, B, ...]; later steps are padding: no spikes, no
            gradient, and the states stay as after the last step of the sample. None means T for all.
        implementation: `auto` for the fastest that can run, or `torch` or `native` (C on the CPU) by name.

    Returns:
        spikes [T, ...] in the dtype of x, the last membrane potential and the last adaptation, both [...] in float32
        (float64 if x is).

    Raises:
        ValueError: there is no time step, a time constant is below 1, the surrogate is unknown, the shape of v_init,
            b_init or lengths does not match x, or the implementation is unknown or cannot run.
    """
    check_time_constant("tau", tau)
    check_time_constant("tau_adaptation", tau_adaptation)
    leak = 1 / tau
    constants = (1 - leak, leak if decay_input else 1.0, v_threshold, beta, 1 - 1 / tau_adaptation)
    call = NeuronCall(v_reset is None, detach_reset, detach_membrane, surrogate, slope, "d32", implementation)
    spikes, v_last, b_last = ALIF_OPERATION(x, (v_init, b_init), constants, call, v_reset=v_reset, lengths=lengths)
    return spikes, v_last, b_last
