"""Constants of the leaky integrate-and-fire neuron, in the form that its kernels take."""

from __future__ import annotations

from typing import NamedTuple


class LIFConstants(NamedTuple):
    """Potentials are relative to the resting potential, which is v_reset, or 0 with a soft reset."""

    decay: float
    """Fraction of the potential that remains after one step: 1 - 1/tau, or 1 for IF."""
    gain: float
    """Factor on the input current: 1/tau with a decaying input, else 1."""
    threshold: float
    """Potential at which the neuron spikes."""


LEVELS = 127
"""Steps of the one-byte code of the surrogate gradient; also in `native.c`."""
