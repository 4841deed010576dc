"""Neurons as modules: currents [T, ...] in, spikes [T, ...] out, stateless between calls."""

from snn_core.neurons.alif import ALIF
from snn_core.neurons.lif import IF, LIF, PLIF, LeakyNeuron
from snn_core.neurons.neuron import Neuron

__all__ = ["ALIF", "IF", "LIF", "PLIF", "LeakyNeuron", "Neuron"]
