"""Fusion methods, one file a method; `base` has what they share."""
