"""Neurons as modules: currents [T, ...] in, spikes [T, ...] out, nothing kept between calls."""

from snn_core.neurons.alif import ALIF
from snn_core.neurons.lif import IF, LIF, PLIF
from snn_core.neurons.neuron import ConfiguredNeuron, Neuron

__all__ = ["ALIF", "IF", "LIF", "PLIF", "ConfiguredNeuron", "Neuron"]
