"""What one call of the neuron is asked to do, in the form that every implementation takes."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

from torch import Tensor

Save = Literal["d32", "d16", "x", "u8"]
"""What is kept for the backward, in bytes an element and time step: the distance to threshold in 32 (4) or 16 bits (2),
the input alone (0 where something else keeps it alive anyway; the forward is computed again), or one byte of spike and
surrogate gradient (1, the gradient to 1 part in 254 of its largest value)."""

Affine = tuple[Tensor, Tensor, int]
"""Scale [C] and shift [C] in the dtype of the arithmetic, and how many neurons in a row share a channel: of N neurons,
the n-th receives `scale[c] * x + shift[c]` with `c = n // inner % C`."""


@dataclass(frozen=True)
class Settings:
    """Constants of one call. Potentials are relative to the resting one, which is v_reset, or 0 with a soft reset."""

    decay: float
    """Share of the potential that is left after one step: 1 - 1/tau, or 1 for IF."""
    gain: float
    """What an input current is multiplied by: 1/tau with a decaying input, else 1."""
    threshold: float
    """Potential at which the neuron fires."""
    soft_reset: bool
    """Subtract the threshold after a spike instead of going back to rest."""
    detach_reset: bool
    """No gradient through the spike in the reset."""
    detach_membrane: bool
    """No gradient through the potential between time steps."""
    surrogate: str
    """Name from `snn_core.SURROGATES`."""
    slope: float
    """The surrogate's slope."""
    save: Save
    """What is kept for the backward."""

    def __post_init__(self) -> None:
        check_finite(decay=self.decay, gain=self.gain, threshold=self.threshold)


def check_finite(**constants: float) -> None:
    """Refuse constants that are not finite: a neuron whose threshold is NaN never fires, and nothing looks wrong.

    Raises:
        ValueError: names the constant.
    """
    for name, value in constants.items():
        if not math.isfinite(value):
            raise ValueError(
                f"a neuron's {name} is {value}; where it is learned, its parameter is no longer finite: train with a "
                "lower learning rate"
            )
