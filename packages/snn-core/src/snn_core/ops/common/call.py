"""Options of one call of a neuron, in the form that operations and kernels take."""

from __future__ import annotations

from typing import Literal, NamedTuple

from torch import Tensor

from snn_core.surrogate import SurrogateGradient

Implementation = Literal["auto", "torch", "native", "triton"]
"""`auto` chooses the fastest one that can run; `native` is C on the CPU."""

Save = Literal["d32", "d16", "x", "u8"]
"""What is saved for the backward, in bytes per element and time step: the distance to threshold in 32 (4) or 16 bits
(2), only the input (0 where something else keeps it alive anyway; the forward is recomputed), or one byte of spike and
surrogate gradient (1, the gradient to 1 part in 254 of its largest value)."""

Affine = tuple[Tensor, Tensor, int]
"""Scale [C] and shift [C] in the dtype of the potentials, and the number of consecutive neurons per channel: neuron n
receives `scale[c] * x + shift[c]` with `c = n // inner % C`."""


class NeuronCall(NamedTuple):
    """Everything that a call of a neuron takes besides tensors and constants.

    A named tuple, not a dataclass: it is built at every call, and its values are the flat arguments of the registered
    operations. The defaults are those of every neuron in this package; specs of snn_fusion detach the membrane instead,
    as S-CMRL was published.
    """

    soft_reset: bool = False
    """Subtract the threshold after a spike instead of resetting to v_reset."""
    detach_reset: bool = True
    """No gradient through the spike in the reset."""
    detach_membrane: bool = False
    """No gradient through the membrane potential between time steps."""
    surrogate: str | SurrogateGradient = "sigmoid"
    """Name from `snn_core.SURROGATES`, or a function."""
    slope: float = 4.0
    """Slope of the surrogate."""
    save: Save = "d32"
    """What is saved for the backward."""
    implementation: Implementation = "auto"
    """Which implementation runs."""


DEFAULTS = NeuronCall()
