"""Neuron specs."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, Any, Literal, Self

from pydantic import Field, model_validator

from snn_fusion.specs.registry import Registry
from snn_fusion.specs.spec import Spec

if TYPE_CHECKING:
    from torch import nn


class NeuronSpec(Spec, ABC):
    """A layer of neurons."""

    v_threshold: float = Field(default=1.0, gt=0)
    """Membrane potential at which the neuron fires."""
    v_reset: float | None = 0.0
    """Membrane potential after a spike; none subtracts the threshold instead (soft reset)."""
    detach_reset: bool = True
    """No gradient through the spike in the reset."""
    detach_membrane: bool = True
    """No gradient through the membrane potential between time steps, as in the published S-CMRL."""
    surrogate: Literal["sigmoid", "atan", "triangle", "rectangle", "fast_sigmoid", "erf"] = "sigmoid"
    """Surrogate derivative of the spike in the backward pass."""
    slope: float = Field(default=4.0, gt=0)
    """The surrogate's slope: larger is narrower and higher."""

    @model_validator(mode="after")
    def _check_reset(self) -> Self:
        if self.v_reset is not None and self.v_reset >= self.v_threshold:
            raise ValueError(
                f"v_reset ({self.v_reset:g}) must be below v_threshold ({self.v_threshold:g}), or it always fires"
            )
        return self

    @abstractmethod
    def build(self) -> nn.Module:
        """Build one layer of these neurons."""

    def _arguments(self) -> dict[str, Any]:
        return self.model_dump(exclude={"kind"})


NEURONS: Registry[NeuronSpec] = Registry("neuron", "snn_fusion.neurons", NeuronSpec, default="lif")
"""Every neuron that a spec can name."""


@NEURONS.register
class LIFSpec(NeuronSpec):
    """Leaky integrate-and-fire neurons (`snn_core.LIF`)."""

    kind: Literal["lif"] = "lif"
    """Which neuron: lif, leaky integrate-and-fire."""
    tau: float = Field(default=2.0, ge=1)
    """Membrane time constant in time steps."""
    decay_input: bool = True
    """Divide the input current by tau as well."""
    learn_threshold: bool = False
    """Train one threshold per layer, starting at v_threshold."""

    def build(self) -> nn.Module:
        """Build one layer of these neurons."""
        from snn_core import LIF

        return LIF(**self._arguments())


@NEURONS.register
class IFSpec(NeuronSpec):
    """Integrate-and-fire neurons without a leak (`snn_core.IF`)."""

    kind: Literal["if"] = "if"
    """Which neuron: if, integrate-and-fire without a leak."""
    learn_threshold: bool = False
    """Train one threshold per layer, starting at v_threshold."""

    def build(self) -> nn.Module:
        """Build one layer of these neurons."""
        from snn_core import IF

        return IF(**self._arguments())


@NEURONS.register
class PLIFSpec(NeuronSpec):
    """Leaky integrate-and-fire neurons whose time constant is learned (`snn_core.PLIF`)."""

    kind: Literal["plif"] = "plif"
    """Which neuron: plif, leaky integrate-and-fire with a learned time constant."""
    tau: float = Field(default=2.0, gt=1)
    """Initial membrane time constant in time steps."""
    decay_input: bool = True
    """Divide the input current by tau as well."""
    learn_threshold: bool = False
    """Train one threshold per layer, starting at v_threshold."""

    @model_validator(mode="after")
    def _check_tau(self) -> Self:
        if self.tau > 2**24:  # the limit of snn_core.PLIF
            raise ValueError(f"a learned tau must be at most 2^24 time steps, but it is {self.tau:g}")
        return self

    def build(self) -> nn.Module:
        """Build one layer of these neurons."""
        from snn_core import PLIF

        return PLIF(**self._arguments())


@NEURONS.register
class ALIFSpec(NeuronSpec):
    """Leaky integrate-and-fire neurons whose threshold increases with every spike (`snn_core.ALIF`)."""

    kind: Literal["alif"] = "alif"
    """Which neuron: alif, leaky integrate-and-fire with an adapting threshold."""
    tau: float = Field(default=2.0, ge=1)
    """Membrane time constant in time steps."""
    decay_input: bool = True
    """Divide the input current by tau as well."""
    tau_adaptation: float = Field(default=10.0, ge=1)
    """Time constant of the threshold's decay in time steps."""
    beta: float = Field(default=0.18, ge=0)
    """Increase of the threshold per spike."""

    def build(self) -> nn.Module:
        """Build one layer of these neurons."""
        from snn_core import ALIF

        return ALIF(**self._arguments())
