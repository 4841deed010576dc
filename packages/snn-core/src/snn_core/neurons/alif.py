"""The integrate-and-fire neuron whose threshold adapts to its own spikes (ALIF)."""

from __future__ import annotations

import math
from typing import Literal, Unpack, overload

from torch import Tensor

from snn_core.argument_checks import check_number
from snn_core.neurons.neuron import ConfiguredNeuron, NeuronOptions
from snn_core.ops.alif import alif


class ALIF(ConfiguredNeuron):
    """Leaky integrate-and-fire with a threshold that every spike raises (Bellec et al. 2018, arXiv:1803.09574).

    `h = v + (x - v) / tau` fires at `v_threshold + beta * b`; the adaptation b grows by 1 with a spike and loses
    1 / tau_adaptation of itself in each step. So a neuron that has fired remembers it for about tau_adaptation steps,
    and one that fires at every step ends up with a threshold higher by beta * tau_adaptation.

    Its state is a potential and an adaptation, where a `Neuron` has a potential alone. In a spiking layer it runs after
    the batch norm, not as one operation with it.

    Shape: currents [T, ...] -> spikes [T, ...] (and, on request, the last state, each part [...]). Long streams are cut
    into chunks by handing that state to the next call as `v_init` and `b_init`.

    Args:
        tau: membrane time constant in time steps, at least 1.
        tau_adaptation: time constant of the adaptation in time steps, at least 1.
        beta: what one unit of adaptation adds to the threshold; 0 makes the neuron LIF.
        decay_input: whether the current, too, is divided by tau.
        **options: those of `ConfiguredNeuron`. The threshold, learned or not, is the one without adaptation, and the
            only `save` is d32.

    Raises:
        ValueError: a time constant below 1 or not finite, another save, and the errors of `ConfiguredNeuron`.
    """

    def __init__(
        self,
        *,
        tau: float = 2.0,
        tau_adaptation: float = 10.0,
        beta: float = 0.18,
        decay_input: bool = True,
        **options: Unpack[NeuronOptions],
    ) -> None:
        super().__init__(**options)
        for name, constant in (("tau", tau), ("tau_adaptation", tau_adaptation)):
            if not 1 <= constant < math.inf:
                raise ValueError(f"{name} must be a time constant of at least 1 time step, but it is {constant}")
        check_number("beta", beta)
        if self.save != "d32":
            raise ValueError(f"ALIF supports only save='d32', but save is {self.save!r}")
        self.tau = tau
        self.tau_adaptation = tau_adaptation
        self.beta = beta
        self.decay_input = decay_input

    @overload
    def forward(
        self,
        x: Tensor,
        *,
        v_init: Tensor | None = None,
        b_init: Tensor | None = None,
        lengths: Tensor | None = None,
        return_v: Literal[False] = False,
        return_state: Literal[False] = False,
    ) -> Tensor: ...
    @overload
    def forward(
        self,
        x: Tensor,
        *,
        v_init: Tensor | None = None,
        b_init: Tensor | None = None,
        lengths: Tensor | None = None,
        return_v: Literal[True],
        return_state: Literal[False] = False,
    ) -> tuple[Tensor, Tensor]: ...
    @overload
    def forward(
        self,
        x: Tensor,
        *,
        v_init: Tensor | None = None,
        b_init: Tensor | None = None,
        lengths: Tensor | None = None,
        return_v: bool = False,
        return_state: Literal[True],
    ) -> tuple[Tensor, Tensor, Tensor]: ...
    def forward(
        self,
        x: Tensor,
        *,
        v_init: Tensor | None = None,
        b_init: Tensor | None = None,
        lengths: Tensor | None = None,
        return_v: bool = False,
        return_state: bool = False,
    ) -> Tensor | tuple[Tensor, Tensor] | tuple[Tensor, Tensor, Tensor]:
        """Currents [T, ...] -> spikes [T, ...], with `return_state` also the last potential and adaptation, both [...].

        `v_init` and `b_init` [...] are potential and adaptation before the first step, `lengths` [B] how many steps
        each sample has. `return_v` returns the potential alone beside the spikes, as other neurons do; that is not
        enough to go on with.
        """
        spikes, v_last, b_last = alif(
            x,
            v_init=v_init,
            b_init=b_init,
            tau=self.tau,
            tau_adaptation=self.tau_adaptation,
            beta=self.beta,
            v_threshold=self.v_threshold,
            v_reset=self.v_reset,
            decay_input=self.decay_input,
            detach_reset=self.detach_reset,
            detach_membrane=self.detach_membrane,
            surrogate=self.surrogate,
            slope=self.slope,
            lengths=lengths,
            implementation=self.implementation,
        )
        if return_state:
            return spikes, v_last, b_last
        return (spikes, v_last) if return_v else spikes

    def extra_repr(self) -> str:
        """The settings, as `print(module)` shows them."""
        return f"tau={self.tau}, tau_adaptation={self.tau_adaptation}, beta={self.beta}, {super().extra_repr()}"
