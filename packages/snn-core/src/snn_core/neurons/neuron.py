"""The base of all neurons: threshold, reset and gradient options; a subclass adds the dynamics."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from typing import Any, ClassVar, TypedDict

import torch
from torch import Tensor, nn

from snn_core.ops.common.arguments import check_threshold
from snn_core.ops.common.call import DEFAULTS, Implementation, NeuronCall, Save
from snn_core.surrogate import SurrogateGradient, surrogate_gradient

MAX_LOG = 80.0
"""Bound on the magnitude of the logarithm of a learned threshold: its exponential is a normal float32 number."""


class NeuronOptions(TypedDict, total=False):
    """The options of every neuron besides its dynamics, documented at `Neuron`."""

    v_threshold: float
    v_reset: float | None
    detach_reset: bool
    detach_membrane: bool
    surrogate: str | SurrogateGradient
    slope: float
    learn_threshold: bool
    save: Save
    implementation: Implementation


class Neuron(nn.Module, ABC):
    """A layer of neurons that spike at a threshold.

    Shape: currents [T, ...] -> spikes [T, ...] (and, on request, the last membrane potential [...]).

    Args:
        v_threshold: potential at which the neuron spikes.
        v_reset: potential after a spike; None subtracts the threshold instead (soft reset).
        detach_reset: no gradient through the spike in the reset.
        detach_membrane: no gradient through the membrane potential between time steps. False here; True in the specs of
            snn_fusion, as S-CMRL was published.
        surrogate: name from `snn_core.SURROGATES`, or an even function `(h - v_threshold, slope) -> derivative`.
        slope: slope of the surrogate.
        learn_threshold: train one threshold per layer, which starts at v_threshold and stays above 0.
        save: what is saved for the backward, see `snn_core.ops.common.call.Save`.
        implementation: `auto` for the fastest that can run, or `torch`, `native` (C on the CPU) or `triton`.

    Raises:
        ValueError: the surrogate is unknown, a value is NaN or infinite, the slope is not above 0, v_reset is not below
            the threshold, or a learned threshold, or that of a soft reset, is not above 0.
    """

    extra_states: ClassVar[tuple[str, ...]] = ()
    """Names of the states besides the membrane potential `v`. For each, `forward` takes `<name>_init` [...] and returns
    the last values after the potential with `return_state`."""

    def __init__(
        self,
        *,
        v_threshold: float = 1.0,
        v_reset: float | None = 0.0,
        detach_reset: bool = DEFAULTS.detach_reset,
        detach_membrane: bool = DEFAULTS.detach_membrane,
        surrogate: str | SurrogateGradient = DEFAULTS.surrogate,
        slope: float = DEFAULTS.slope,
        learn_threshold: bool = False,
        save: Save = DEFAULTS.save,
        implementation: Implementation = DEFAULTS.implementation,
    ) -> None:
        super().__init__()
        surrogate_gradient(surrogate)
        if learn_threshold and not math.exp(-MAX_LOG) <= v_threshold <= math.exp(MAX_LOG):
            raise ValueError(f"a learned threshold must start above 0, but v_threshold is {v_threshold}")
        check_threshold(v_threshold, v_reset, slope)
        self.log_v_threshold = nn.Parameter(torch.tensor(math.log(v_threshold))) if learn_threshold else None
        self._v_threshold = v_threshold
        self.v_reset = v_reset
        self.detach_reset = detach_reset
        self.detach_membrane = detach_membrane
        self.surrogate = surrogate
        self.slope = slope
        self.save: Save = save
        self.implementation: Implementation = implementation

    @abstractmethod
    def forward(
        self, x: Tensor, *, v_init: Tensor | None = None, lengths: Tensor | None = None, return_v: bool = False
    ) -> Any:
        """Run currents [T, ...]: return spikes [T, ...], with `return_v` also the last membrane potential [...].

        `v_init` [...] is the potential before the first step, `lengths` [B] the number of steps of each sample.
        """

    @property
    def v_threshold(self) -> float | Tensor:
        """The threshold, a scalar tensor if it is learned."""
        return self._v_threshold if self.log_v_threshold is None else _exp(self.log_v_threshold)

    def call_options(self) -> NeuronCall:
        """Return the options of a call of the operation."""
        return NeuronCall(
            self.v_reset is None,
            self.detach_reset,
            self.detach_membrane,
            self.surrogate,
            self.slope,
            self.save,
            self.implementation,
        )

    def extra_repr(self) -> str:
        """Return the settings that `print(module)` shows."""
        learned = self.log_v_threshold
        threshold = self._v_threshold if learned is None else f"{_exp(learned).item():.3g} (learned)"
        return f"v_threshold={threshold}, v_reset={self.v_reset}, surrogate={self.surrogate!r}, slope={self.slope}"


def _exp(log: Tensor) -> Tensor:
    return log.clamp(-MAX_LOG, MAX_LOG).exp()
