"""Checkpoints: their files, and the state of a training."""
