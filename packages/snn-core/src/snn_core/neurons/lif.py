"""Integrate-and-fire neurons: without a leak (IF), with a fixed (LIF) and with a learned time constant (PLIF)."""

from __future__ import annotations

import math
from typing import Unpack

import torch
from torch import Tensor, nn

from snn_core.neurons.neuron import Neuron, NeuronOptions

LARGEST_TAU = 2**24
"""Up to which a time constant is learned: beyond, 1 - 1 / tau is 1 in float32, and 1 / tau ends in 0."""


class IF(Neuron):
    """Integrate-and-fire without a leak: `h = v + x`.

    Args:
        **options: those of `Neuron`.
    """

    def __init__(self, **options: Unpack[NeuronOptions]) -> None:
        super().__init__(**options)

    def leak(self) -> tuple[float, float]:
        """Nothing leaks, and currents count in full."""
        return 1.0, 1.0


class LIF(Neuron):
    """Leaky integrate-and-fire: `h = v + (x - v) / tau`, or `h = v - v / tau + x` without `decay_input`.

    Args:
        tau: membrane time constant in time steps, at least 1.
        decay_input: whether the current, too, is divided by tau.
        **options: those of `Neuron`.

    Raises:
        ValueError: tau below 1 or not finite, and the errors of `Neuron`.
    """

    def __init__(self, *, tau: float = 2.0, decay_input: bool = True, **options: Unpack[NeuronOptions]) -> None:
        super().__init__(**options)
        if not 1 <= tau < math.inf:
            raise ValueError(f"tau must be a time constant of at least 1 time step, but it is {tau}")
        self.tau = tau
        self.decay_input = decay_input

    def leak(self) -> tuple[float, float]:
        """1 - 1/tau, and 1/tau or 1."""
        return 1 - 1 / self.tau, 1 / self.tau if self.decay_input else 1.0

    def extra_repr(self) -> str:
        """The settings, as `print(module)` shows them."""
        return f"tau={self.tau}, {super().extra_repr()}"


class PLIF(Neuron):
    """Leaky integrate-and-fire whose time constant is learned (Fang et al. 2021, arXiv:2007.05785).

    One parameter a layer, w, with 1 / tau = sigmoid(w): tau stays at least 1 whatever the optimizer does, and at
    most 2^24, from where on 1 - 1 / tau is 1 in float32.

    Args:
        tau: membrane time constant in time steps at the start, above 1.
        decay_input: whether the current, too, is divided by tau.
        **options: those of `Neuron`.

    Raises:
        ValueError: tau not above 1 or above 2^24, and the errors of `Neuron`.
    """

    def __init__(self, *, tau: float = 2.0, decay_input: bool = True, **options: Unpack[NeuronOptions]) -> None:
        super().__init__(**options)
        if not tau > 1:
            raise ValueError(f"a learned time constant must start above 1 time step, but tau is {tau}")
        if tau > LARGEST_TAU:
            raise ValueError(f"a learned time constant must be at most {LARGEST_TAU} time steps, but tau is {tau}")
        self.w = nn.Parameter(torch.tensor(-math.log(tau - 1)))
        self.decay_input = decay_input

    @property
    def tau(self) -> Tensor:
        """The time constant in time steps, a scalar."""
        return 1 / self._share()

    def leak(self) -> tuple[Tensor, Tensor | float]:
        """1 - 1/tau, and 1/tau or 1."""
        share = self._share()
        return 1 - share, share if self.decay_input else 1.0

    def _share(self) -> Tensor:
        return torch.sigmoid(self.w).clamp(min=1 / LARGEST_TAU)

    def extra_repr(self) -> str:
        """The settings, as `print(module)` shows them."""
        return f"tau={self.tau.item():.3g} (learned), {super().extra_repr()}"
