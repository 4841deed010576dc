"""Encoders: a modality's raw input to spike tokens [T, B, N, C]."""
