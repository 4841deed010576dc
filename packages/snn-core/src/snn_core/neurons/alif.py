"""The integrate-and-fire neuron with an adaptive threshold (ALIF)."""

from __future__ import annotations

from typing import ClassVar, Unpack

from torch import Tensor

from snn_core.argument_checks import check_number
from snn_core.neurons.neuron import Neuron, NeuronOptions
from snn_core.ops.alif import ALIF_OPERATION
from snn_core.ops.common.arguments import check_time_constant


class ALIF(Neuron):
    """Leaky integrate-and-fire with a threshold that every spike raises (Bellec et al. 2018, arXiv:1803.09574).

    `h = v + (x - v) / tau` spikes at `v_threshold + beta * b`; the adaptation b grows by 1 with a spike and loses
    1 / tau_adaptation of itself in each step. So the neuron remembers a spike for about tau_adaptation steps, and one
    that spikes at every step reaches a threshold higher by beta * tau_adaptation.

    In a spiking layer it runs after the batch norm, not fused with it.

    Shape: currents [T, ...] -> spikes [T, ...] (and, on request, the last state, each part [...]). Process a long
    stream in chunks by passing that state to the next call as `v_init` and `b_init`.

    Args:
        tau: membrane time constant in time steps, at least 1.
        tau_adaptation: time constant of the adaptation in time steps, at least 1.
        beta: increase of the threshold per unit of adaptation; with 0 the neuron is LIF.
        decay_input: whether the current is divided by tau too.
        **options: see `Neuron`. The threshold, learned or not, is the one without adaptation; `save` must be d32.

    Raises:
        ValueError: a time constant is below 1 or not finite, `save` is not d32, and the errors of `Neuron`.
    """

    extra_states: ClassVar[tuple[str, ...]] = ("b",)

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
        check_time_constant("tau", tau)
        check_time_constant("tau_adaptation", tau_adaptation)
        check_number("beta", beta)
        if self.save != "d32":
            raise ValueError(f"ALIF supports only save='d32', but save is {self.save!r}")
        self.tau = tau
        self.tau_adaptation = tau_adaptation
        self.beta = beta
        self.decay_input = decay_input

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
        """Run currents [T, ...]: return spikes [T, ...], with `return_state` also the last potential and adaptation.

        `v_init` and `b_init` [...] are potential and adaptation before the first step, `lengths` [B] the number of
        steps of each sample. `return_v` returns only the potential with the spikes, like other neurons; that is not
        enough to continue a stream.
        """
        leak = 1 / self.tau
        gain, rho = leak if self.decay_input else 1.0, 1 - 1 / self.tau_adaptation
        constants = (1 - leak, gain, self.v_threshold, self.beta, rho)
        outputs = ALIF_OPERATION(
            x,
            (v_init, b_init),
            constants,
            self.call_options(),
            v_reset=self.v_reset,
            lengths=lengths,
            return_states=return_v or return_state,
        )
        if return_state:
            return outputs[0], outputs[1], outputs[2]
        return (outputs[0], outputs[1]) if return_v else outputs[0]

    def extra_repr(self) -> str:
        """Return the settings that `print(module)` shows."""
        return f"tau={self.tau}, tau_adaptation={self.tau_adaptation}, beta={self.beta}, {super().extra_repr()}"
