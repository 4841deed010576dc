"""Accuracy over the values of settings: curves, importance, recommended values."""
