"""Neurons as modules: currents [T, ...] in, spikes [T, ...] out, nothing kept between calls."""

from snn_core.neurons.lif import LIF

__all__ = ["LIF"]
