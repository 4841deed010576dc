"""Leaky integrate-and-fire neurons as a module."""

from __future__ import annotations

from typing import Literal, overload

from torch import Tensor, nn

from snn_core.ops.lif import lif
from snn_core.surrogate import SurrogateGradient, surrogate_gradient


class LIF(nn.Module):
    """A layer of leaky integrate-and-fire neurons that keeps nothing between calls.

    Shape: currents [T, ...] -> spikes [T, ...] (and, on request, the last potential [...]). Long streams are cut into
    chunks by handing that potential to the next call as `v_init`.

    Arguments are those of `snn_core.lif`, where they are explained; equations in `snn_core/ops/lif/reference.py`.

    Raises:
        ValueError: tau below 1, or a surrogate that is not known.
    """

    def __init__(
        self,
        *,
        tau: float = 2.0,
        v_threshold: float = 1.0,
        v_reset: float | None = 0.0,
        decay_input: bool = True,
        detach_reset: bool = True,
        detach_membrane: bool = False,
        surrogate: str | SurrogateGradient = "sigmoid",
        slope: float = 4.0,
    ) -> None:
        super().__init__()
        if tau < 1:
            raise ValueError(f"tau is a time constant in time steps and at least 1, but it is {tau}")
        surrogate_gradient(surrogate)
        self.tau = tau
        self.v_threshold = v_threshold
        self.v_reset = v_reset
        self.decay_input = decay_input
        self.detach_reset = detach_reset
        self.detach_membrane = detach_membrane
        self.surrogate = surrogate
        self.slope = slope

    @overload
    def forward(self, x: Tensor, *, v_init: Tensor | None = None, return_v: Literal[False] = False) -> Tensor: ...
    @overload
    def forward(self, x: Tensor, *, v_init: Tensor | None = None, return_v: Literal[True]) -> tuple[Tensor, Tensor]: ...
    def forward(
        self, x: Tensor, *, v_init: Tensor | None = None, return_v: bool = False
    ) -> Tensor | tuple[Tensor, Tensor]:
        """Currents [T, ...] -> spikes [T, ...], with `return_v` also the last membrane potential [...]."""
        spikes, v_last = lif(
            x,
            v_init=v_init,
            tau=self.tau,
            v_threshold=self.v_threshold,
            v_reset=self.v_reset,
            decay_input=self.decay_input,
            detach_reset=self.detach_reset,
            detach_membrane=self.detach_membrane,
            surrogate=self.surrogate,
            slope=self.slope,
        )
        return (spikes, v_last) if return_v else spikes

    def extra_repr(self) -> str:
        """The settings, as `print(module)` shows them."""
        return f"tau={self.tau}, v_threshold={self.v_threshold}, v_reset={self.v_reset}, surrogate={self.surrogate!r}"
