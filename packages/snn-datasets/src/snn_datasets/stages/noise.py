"""Noise, blanking and dropping on single inputs of a model: one definition for training, studies and demonstrations.

`corruption` has the stages that corrupt recordings: their Gaussian noise and black square are defined on bytes, samples
and float64 statistics of a recording, so their numbers differ.
"""

# PyTorch leaves some of its functions untyped.
# pyright: reportUnknownMemberType=false
from __future__ import annotations

import torch
from torch import Generator, Tensor


def white_noise(x: Tensor, snr_db: float, generator: Generator) -> Tensor:
    """Add white Gaussian noise to an input; zeros stay zero.

    The noise has variance P / 10^(snr_db / 10), where P is the mean square over all elements of the input.

    Args:
        x: the input, of any shape.
        snr_db: signal-to-noise ratio in dB.
        generator: on the CPU; the same state gives the same noise at any ratio, only scaled.
    """
    level = x.square().mean().sqrt() * 10 ** (-snr_db / 20)
    return x + level * torch.randn(x.shape, generator=generator).to(x)


def mix_with_noise(x: Tensor, share: float, kind: str, generator: Generator) -> Tensor:
    """Replace a share of an input by noise; mean and variance are preserved.

    Events are counts: a share of the positions gets the count of a random other position. For all other kinds the share
    is one of power: `mean + sqrt(1 - share) (x - mean) + sqrt(share) std noise` with standard normal noise, a
    signal-to-noise ratio of (1 - share) / share. Generators with the same seed give the same noise for every share, so
    that predictions change smoothly with it.

    Args:
        x: the input, of any shape.
        share: 0 returns the input unchanged, 1 returns noise only.
        kind: of the recording.
        generator: source of the noise.
    """
    if share == 0:
        return x
    if kind == "events":
        shuffled = x.flatten()[torch.randperm(x.numel(), generator=generator)].view_as(x)
        return torch.where(torch.rand(x.shape, generator=generator) < share, shuffled, x)
    std, mean = torch.std_mean(x, correction=0)
    noise = torch.randn(x.shape, generator=generator)
    return mean + (1 - share) ** 0.5 * (x - mean) + share**0.5 * std * noise


def occlude(x: Tensor, share: float, shape: tuple[int, ...], generator: Generator) -> Tensor:
    """Blank a region of an input at a random position, the same in all channels and time steps.

    The region is a rectangle with the plane's proportions in [C, H, W], and a span in [C, L] and [C]. Blank is 0, as
    for absent modalities. Sides are rounded to whole pixels.

    Args:
        x: the input, time first if it has time.
        share: fraction of the plane's area.
        shape: of the input without time.
        generator: on the CPU.
    """
    plane = shape[1:] or shape
    width = plane[-1]
    height = plane[0] if len(plane) == 2 else 1
    rows = round(share**0.5 * height) if height > 1 else 1
    columns = min(width, round(share * height * width / max(1, rows)))
    position = torch.rand(2, generator=generator)
    top = int(position[0] * (height - rows + 1))
    left = int(position[1] * (width - columns + 1))
    covered = torch.zeros(height, width, dtype=torch.bool)
    covered[top : top + rows, left : left + columns] = True
    return x.masked_fill(covered.reshape(plane).to(x.device), 0.0)


def drop_frames(x: Tensor, share: float, generator: Generator) -> Tensor:
    """Blank a fraction of the time steps of an input [T, ...], rounded to a whole number of steps."""
    # With the same generator, a larger share drops further steps.
    dropped = torch.randperm(len(x), generator=generator)[: round(share * len(x))]
    return x.index_fill(0, dropped.to(x.device), 0.0)


def drop_events(counts: Tensor, share: float, generator: Generator) -> Tensor:
    """Drop each event of an input of counts with probability `share` (binomial thinning)."""
    events = torch.arange(counts.numel()).repeat_interleave(counts.flatten().long().cpu())  # flat index of each event
    remaining = events[torch.rand(len(events), generator=generator) >= share]
    return torch.bincount(remaining, minlength=counts.numel()).reshape(counts.shape).to(counts)
