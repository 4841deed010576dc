"""The embedded digits: images with synthesized speech and touch."""
