"""Integrate-and-fire neurons: without a leak (IF), with a fixed (LIF) and with a learned time constant (PLIF)."""

from __future__ import annotations

import math
from abc import abstractmethod
from typing import Unpack

import torch
from torch import Tensor, nn

from snn_core.neurons.neuron import Neuron, NeuronOptions
from snn_core.ops.common.arguments import check_time_constant
from snn_core.ops.lif import LIF_OPERATION
from snn_core.ops.norm_lif import norm_lif
from snn_core.ops.norm_lif.settings import InputNorm

MAX_TAU = 2**24
"""Upper bound of a learned time constant: beyond, 1 - 1 / tau is 1 in float32, and 1 / tau approaches 0."""


class LeakyNeuron(Neuron):
    """A layer of neurons with `h = decay * v + gain * x`; subclasses define decay and gain.

    Shape: currents [T, ...] -> spikes [T, ...] (and, on request, the last potential [...]). Process a long stream in
    chunks by passing that potential to the next call as `v_init`.

    Args:
        **options: see `Neuron`.
    """

    @abstractmethod
    def leak(self) -> tuple[float | Tensor, float | Tensor]:
        """Return decay and gain: the fraction of the potential left after a step, and the factor on the current."""

    def forward(
        self,
        x: Tensor,
        *,
        v_init: Tensor | None = None,
        lengths: Tensor | None = None,
        norm: InputNorm | None = None,
        return_v: bool = False,
    ) -> Tensor | tuple[Tensor, Tensor]:
        """Run currents [T, ...]: return spikes [T, ...], with `return_v` also the last membrane potential [...].

        `v_init` [...] is the potential before the first step, `lengths` [B] the number of steps of each sample. With
        `norm` the neurons receive the output of this batch norm, and less is saved for the backward than unfused.
        """
        constants, call = (*self.leak(), self.v_threshold), self.call_options()
        if norm is not None:
            outputs = norm_lif(
                x, norm, constants, call, v_init=v_init, v_reset=self.v_reset, lengths=lengths, return_v=return_v
            )
        else:
            outputs = LIF_OPERATION(
                x, (v_init,), constants, call, v_reset=self.v_reset, lengths=lengths, return_states=return_v
            )
        if not return_v:
            return outputs[0]
        spikes, v_last = outputs
        assert v_last is not None
        return spikes, v_last


class IF(LeakyNeuron):
    """Integrate-and-fire without a leak: `h = v + x`.

    Args:
        **options: see `Neuron`.
    """

    def __init__(self, **options: Unpack[NeuronOptions]) -> None:
        super().__init__(**options)

    def leak(self) -> tuple[float, float]:
        """Return 1 and 1."""
        return 1.0, 1.0


class LIF(LeakyNeuron):
    """Leaky integrate-and-fire: `h = v + (x - v) / tau`, or `h = v - v / tau + x` without `decay_input`.

    Args:
        tau: membrane time constant in time steps, at least 1.
        decay_input: whether the current is divided by tau too.
        **options: see `Neuron`.

    Raises:
        ValueError: tau is below 1 or not finite, and the errors of `Neuron`.
    """

    def __init__(self, *, tau: float = 2.0, decay_input: bool = True, **options: Unpack[NeuronOptions]) -> None:
        super().__init__(**options)
        check_time_constant("tau", tau)
        self.tau = tau
        self.decay_input = decay_input

    def leak(self) -> tuple[float, float]:
        """Return 1 - 1/tau, and 1/tau or 1."""
        return 1 - 1 / self.tau, 1 / self.tau if self.decay_input else 1.0

    def extra_repr(self) -> str:
        """Return the settings that `print(module)` shows."""
        return f"tau={self.tau}, {super().extra_repr()}"


class PLIF(LeakyNeuron):
    """Leaky integrate-and-fire with a learned time constant (Fang et al. 2021, arXiv:2007.05785).

    One parameter w per layer with 1 / tau = sigmoid(w): tau stays at least 1 for any w, and at most 2^24, from where on
    1 - 1 / tau is 1 in float32.

    Args:
        tau: initial membrane time constant in time steps, above 1.
        decay_input: whether the current is divided by tau too.
        **options: see `Neuron`.

    Raises:
        ValueError: tau is not above 1 or is above 2^24, and the errors of `Neuron`.
    """

    def __init__(self, *, tau: float = 2.0, decay_input: bool = True, **options: Unpack[NeuronOptions]) -> None:
        super().__init__(**options)
        if not tau > 1:
            raise ValueError(f"a learned time constant must start above 1 time step, but tau is {tau}")
        if tau > MAX_TAU:
            raise ValueError(f"a learned time constant must be at most {MAX_TAU} time steps, but tau is {tau}")
        self.w = nn.Parameter(torch.tensor(-math.log(tau - 1)))
        self.decay_input = decay_input

    @property
    def tau(self) -> Tensor:
        """The time constant in time steps, a scalar."""
        return 1 / self._inverse_tau()

    def leak(self) -> tuple[Tensor, Tensor | float]:
        """Return 1 - 1/tau, and 1/tau or 1."""
        inverse = self._inverse_tau()
        return 1 - inverse, inverse if self.decay_input else 1.0

    def _inverse_tau(self) -> Tensor:
        return torch.sigmoid(self.w).clamp(min=1 / MAX_TAU)

    def extra_repr(self) -> str:
        """Return the settings that `print(module)` shows."""
        return f"tau={self.tau.item():.3g} (learned), {super().extra_repr()}"
