"""Figures and tables of a run."""

SILENT = 0.001
"""A layer that fires in fewer than this share of neurons and time steps is called silent."""
