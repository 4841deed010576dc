"""Neurons as modules: currents [T, ...] in, spikes [T, ...] out, stateless between calls."""
