"""Experiments: their settings, recipes, defaults and validation."""
