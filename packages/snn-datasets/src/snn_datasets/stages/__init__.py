"""Codings, augmentation, corruption and the signal processing they need."""
