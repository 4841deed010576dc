"""Constants of the adaptive neuron, in the form that its kernels take."""

from __future__ import annotations

from typing import NamedTuple


class ALIFConstants(NamedTuple):
    """Potentials are relative to the resting potential, which is v_reset, or 0 with a soft reset."""

    decay: float
    """Fraction of the potential that remains after one step: 1 - 1/tau."""
    gain: float
    """Factor on the input current: 1/tau with a decaying input, else 1."""
    threshold: float
    """Threshold without adaptation."""
    beta: float
    """Increase of the threshold per unit of adaptation."""
    rho: float
    """Fraction of the adaptation that remains after one step: 1 - 1/tau_adaptation."""
