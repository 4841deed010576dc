"""Noise on what a model gets, as strong as a slider says."""

# torch leaves the types of some of its own functions open.
# pyright: reportUnknownMemberType=false
from __future__ import annotations

import torch
from torch import Generator, Tensor


def disturbed(value: Tensor, share: float, kind: str, generator: Generator) -> Tensor:
    """Replace a share of an input by noise that keeps its mean and its strength.

    Of events, which are counts, a share of all places gets the count of another place. Of everything else, the share
    is one of power: `mean + sqrt(1 - share) (value - mean) + sqrt(share) std noise` with normal noise, which is a
    signal-to-noise ratio of (1 - share) / share. Generators with the same seed make the same noise for every share, so
    that an answer moves as steadily as a slider.

    Args:
        value: the input, of any shape.
        share: 0 leaves it as it is, 1 leaves nothing of it.
        kind: what it was recorded as.
        generator: where the noise is drawn from.
    """
    if share == 0:
        return value
    if kind == "events":
        elsewhere = value.flatten()[torch.randperm(value.numel(), generator=generator)].view_as(value)
        return torch.where(torch.rand(value.shape, generator=generator) < share, elsewhere, value)
    std, mean = torch.std_mean(value, correction=0)
    noise = torch.randn(value.shape, generator=generator)
    return mean + (1 - share) ** 0.5 * (value - mean) + share**0.5 * std * noise
