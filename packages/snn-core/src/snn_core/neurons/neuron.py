"""What all leaky integrate-and-fire neurons have in common: constants in, spikes out, nothing kept between calls."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from functools import partial
from typing import Literal, TypedDict, overload

import torch
from torch import Tensor, nn

from snn_core.ops.common.arguments import check_constants
from snn_core.ops.lif import Implementation, Save, leaky_integrate_fire
from snn_core.ops.norm_lif import InputNorm, norm_leaky_integrate_fire
from snn_core.surrogate import SurrogateGradient, surrogate_gradient

LARGEST_LOG = 80.0
"""Largest logarithm, up and down, of a threshold that is learned: its exponential is a normal number in float32."""


class NeuronOptions(TypedDict, total=False):
    """What every neuron takes besides its dynamics; explained at `ConfiguredNeuron`."""

    v_threshold: float
    v_reset: float | None
    detach_reset: bool
    detach_membrane: bool
    surrogate: str | SurrogateGradient
    slope: float
    learn_threshold: bool
    save: Save
    implementation: Implementation


class ConfiguredNeuron(nn.Module):
    """A layer of neurons that fire at a threshold: what they are told besides their dynamics.

    Args:
        v_threshold: the neuron fires when its potential reaches this.
        v_reset: potential after a spike; None subtracts the threshold instead (soft reset).
        detach_reset: no gradient through the spike in the reset.
        detach_membrane: no gradient through the membrane potential between time steps.
        surrogate: name from `snn_core.SURROGATES`, or an even function `(h - v_threshold, slope) -> derivative`.
        slope: the surrogate's slope.
        learn_threshold: train one threshold for the layer, which starts at v_threshold and stays above 0.
        save: what is kept for the backward, see `snn_core.ops.lif.Save`.
        implementation: `auto` for the fastest that can run, or `torch`, `native` (C on the CPU) or `triton` by name.

    Raises:
        ValueError: an unknown surrogate, NaN or infinity, a slope not above 0, a v_reset not below the threshold, or a
            threshold to learn, or of a soft reset, that is not above 0.
    """

    def __init__(
        self,
        *,
        v_threshold: float = 1.0,
        v_reset: float | None = 0.0,
        detach_reset: bool = True,
        detach_membrane: bool = False,
        surrogate: str | SurrogateGradient = "sigmoid",
        slope: float = 4.0,
        learn_threshold: bool = False,
        save: Save = "d32",
        implementation: Implementation = "auto",
    ) -> None:
        super().__init__()
        surrogate_gradient(surrogate)
        if learn_threshold and not math.exp(-LARGEST_LOG) <= v_threshold <= math.exp(LARGEST_LOG):
            raise ValueError(f"a learned threshold must start above 0, but v_threshold is {v_threshold}")
        check_constants(v_threshold, v_reset, slope)
        self.log_v_threshold = nn.Parameter(torch.tensor(math.log(v_threshold))) if learn_threshold else None
        self._v_threshold = v_threshold
        self.v_reset = v_reset
        self.detach_reset = detach_reset
        self.detach_membrane = detach_membrane
        self.surrogate = surrogate
        self.slope = slope
        self.save: Save = save
        self.implementation: Implementation = implementation

    @property
    def v_threshold(self) -> float | Tensor:
        """The threshold, a scalar tensor if it is learned."""
        return self._v_threshold if self.log_v_threshold is None else _exp(self.log_v_threshold)

    def extra_repr(self) -> str:
        """The settings, as `print(module)` shows them."""
        learned = self.log_v_threshold
        threshold = self._v_threshold if learned is None else f"{_exp(learned).item():.3g} (learned)"
        return f"v_threshold={threshold}, v_reset={self.v_reset}, surrogate={self.surrogate!r}, slope={self.slope}"


def _exp(log: Tensor) -> Tensor:
    return log.clamp(-LARGEST_LOG, LARGEST_LOG).exp()


class Neuron(ConfiguredNeuron, ABC):
    """A layer of neurons with `h = decay * v + gain * x`; subclasses say what decay and gain are.

    Shape: currents [T, ...] -> spikes [T, ...] (and, on request, the last potential [...]). Long streams are cut into
    chunks by handing that potential to the next call as `v_init`.

    Args:
        **options: those of `ConfiguredNeuron`.

    Raises:
        ValueError: as there.
    """

    @abstractmethod
    def leak(self) -> tuple[float | Tensor, float | Tensor]:
        """Decay and gain: the share of the potential left after a step, and the factor on the current."""

    @overload
    def forward(
        self,
        x: Tensor,
        *,
        v_init: Tensor | None = None,
        lengths: Tensor | None = None,
        norm: InputNorm | None = None,
        return_v: Literal[False] = False,
    ) -> Tensor: ...
    @overload
    def forward(
        self,
        x: Tensor,
        *,
        v_init: Tensor | None = None,
        lengths: Tensor | None = None,
        norm: InputNorm | None = None,
        return_v: Literal[True],
    ) -> tuple[Tensor, Tensor]: ...
    def forward(
        self,
        x: Tensor,
        *,
        v_init: Tensor | None = None,
        lengths: Tensor | None = None,
        norm: InputNorm | None = None,
        return_v: bool = False,
    ) -> Tensor | tuple[Tensor, Tensor]:
        """Currents [T, ...] -> spikes [T, ...], with `return_v` also the last membrane potential [...].

        `v_init` [...] is the potential before the first step, `lengths` [B] how many steps each sample has. With `norm`
        the neurons receive what this batch norm makes of x, and less is kept for the backward than by one after the
        other.
        """
        decay, gain = self.leak()
        integrate = leaky_integrate_fire if norm is None else partial(norm_leaky_integrate_fire, norm=norm)
        spikes, v_last = integrate(
            x,
            v_init=v_init,
            decay=decay,
            gain=gain,
            v_threshold=self.v_threshold,
            v_reset=self.v_reset,
            detach_reset=self.detach_reset,
            detach_membrane=self.detach_membrane,
            surrogate=self.surrogate,
            slope=self.slope,
            save=self.save,
            lengths=lengths,
            implementation=self.implementation,
        )
        return (spikes, v_last) if return_v else spikes
