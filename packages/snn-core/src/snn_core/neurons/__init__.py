"""Neurons as modules: currents [T, ...] in, spikes [T, ...] out, nothing kept between calls."""

from snn_core.neurons.lif import IF, LIF, PLIF
from snn_core.neurons.neuron import Neuron

__all__ = ["IF", "LIF", "PLIF", "Neuron"]
