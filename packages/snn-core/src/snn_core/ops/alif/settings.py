"""What one call of the adaptive neuron is asked to do, in the form that every implementation takes."""

from __future__ import annotations

from dataclasses import dataclass

from snn_core.ops.lif.settings import check_finite


@dataclass(frozen=True)
class Settings:
    """Constants of one call. Potentials are relative to the resting one, which is v_reset, or 0 with a soft reset."""

    decay: float
    """Share of the potential that is left after one step: 1 - 1/tau."""
    gain: float
    """What an input current is multiplied by: 1/tau with a decaying input, else 1."""
    threshold: float
    """Potential at which a neuron fires that has not fired before."""
    beta: float
    """What one unit of adaptation adds to that."""
    rho: float
    """Share of the adaptation that is left after one step: 1 - 1/tau_adaptation."""
    soft_reset: bool
    """Subtract the threshold (without adaptation) after a spike instead of going back to rest."""
    detach_reset: bool
    """No gradient through the spike in the reset."""
    detach_membrane: bool
    """No gradient through the potential between time steps."""
    surrogate: str
    """Name from `snn_core.SURROGATES`."""
    slope: float
    """The surrogate's slope."""

    def __post_init__(self) -> None:
        check_finite(decay=self.decay, gain=self.gain, threshold=self.threshold, beta=self.beta, rho=self.rho)
