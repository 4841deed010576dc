"""Spiking primitives for PyTorch: stateless neurons, surrogate gradients, spiking layers, softmax-free attention."""

from importlib.metadata import version

from snn_core.attention import SpikingAttention, spiking_attention
from snn_core.layers import (
    NeuronFactory,
    ScaledSpike,
    SpikingConv2d,
    SpikingLayer,
    SpikingLinear,
    SpikingMLP,
)
from snn_core.neurons import IF, LIF, PLIF, Neuron
from snn_core.ops.lif import lif
from snn_core.stats import record_firing_rates, spiking_layers
from snn_core.surrogate import SURROGATES, SurrogateGradient, surrogate_gradient

__version__ = version("snn-core")

__all__ = [
    "IF",
    "LIF",
    "PLIF",
    "SURROGATES",
    "Neuron",
    "NeuronFactory",
    "ScaledSpike",
    "SpikingAttention",
    "SpikingConv2d",
    "SpikingLayer",
    "SpikingLinear",
    "SpikingMLP",
    "SurrogateGradient",
    "lif",
    "record_firing_rates",
    "spiking_attention",
    "spiking_layers",
    "surrogate_gradient",
]
