"""Spiking primitives for PyTorch: stateless neurons, surrogate gradients, spiking layers, softmax-free attention."""

from importlib.metadata import version as _version

from snn_core.attention import QKAttention, SpikingAttention, query_key_attention, spiking_attention
from snn_core.distributed import (
    SynchronizedBatchNorm,
    gather_over_processes,
    sum_over_processes,
    synchronize_batch_norm,
)
from snn_core.layers import (
    NeuronFactory,
    ScaledSpike,
    SpikingConv2d,
    SpikingLayer,
    SpikingLinear,
    SpikingMLP,
)
from snn_core.neurons.alif import ALIF
from snn_core.neurons.lif import IF, LIF, PLIF, LeakyNeuron
from snn_core.neurons.neuron import Neuron
from snn_core.ops.alif import alif
from snn_core.ops.common.registration import decompositions
from snn_core.ops.lif import lif, which_implementation
from snn_core.ops.norm_lif.settings import InputNorm
from snn_core.packing import PackedSpikes, pack_spikes, spikes_as_bits, unpack_spikes
from snn_core.stats import (
    SynapticOperations,
    record_firing_rates,
    record_synaptic_operations,
    spiking_layers,
)
from snn_core.surrogate import SURROGATES, SurrogateGradient, surrogate_gradient

__version__ = _version("snn-core")

__all__ = [
    "ALIF",
    "IF",
    "LIF",
    "PLIF",
    "SURROGATES",
    "InputNorm",
    "LeakyNeuron",
    "Neuron",
    "NeuronFactory",
    "PackedSpikes",
    "QKAttention",
    "ScaledSpike",
    "SpikingAttention",
    "SpikingConv2d",
    "SpikingLayer",
    "SpikingLinear",
    "SpikingMLP",
    "SurrogateGradient",
    "SynapticOperations",
    "SynchronizedBatchNorm",
    "alif",
    "decompositions",
    "gather_over_processes",
    "lif",
    "pack_spikes",
    "query_key_attention",
    "record_firing_rates",
    "record_synaptic_operations",
    "spikes_as_bits",
    "spiking_attention",
    "spiking_layers",
    "sum_over_processes",
    "surrogate_gradient",
    "synchronize_batch_norm",
    "unpack_spikes",
    "which_implementation",
]


def __dir__() -> list[str]:
    return sorted([*(name for name in globals() if name.startswith("__")), *__all__])
