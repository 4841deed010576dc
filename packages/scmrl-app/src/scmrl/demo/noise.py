"""Add noise of a given strength to an input."""

# PyTorch leaves some of its functions untyped.
# pyright: reportUnknownMemberType=false
from __future__ import annotations

import torch
from torch import Generator, Tensor


def add_noise(value: Tensor, share: float, kind: str, generator: Generator) -> Tensor:
    """Replace a share of an input by noise; mean and variance are preserved.

    Events are counts: a share of the positions gets the count of a random other position. For all other kinds the share
    is one of power: `mean + sqrt(1 - share) (value - mean) + sqrt(share) std noise` with standard normal noise, a
    signal-to-noise ratio of (1 - share) / share. Generators with the same seed give the same noise for every share, so
    that the prediction changes smoothly with the slider.

    Args:
        value: the input, of any shape.
        share: 0 returns the input unchanged, 1 returns noise only.
        kind: of the recording.
        generator: source of the noise.
    """
    if share == 0:
        return value
    if kind == "events":
        shuffled = value.flatten()[torch.randperm(value.numel(), generator=generator)].view_as(value)
        return torch.where(torch.rand(value.shape, generator=generator) < share, shuffled, value)
    std, mean = torch.std_mean(value, correction=0)
    noise = torch.randn(value.shape, generator=generator)
    return mean + (1 - share) ** 0.5 * (value - mean) + share**0.5 * std * noise
