"""Order samples in an epoch as a function of seed and epoch, so that a resumed run continues exactly."""

# Some of torch's signatures are partially untyped.
# pyright: reportUnknownMemberType=false
from __future__ import annotations

from collections.abc import Iterator
from typing import cast

import torch
from torch.utils.data import Sampler


class EpochOrder(Sampler[tuple[int, int]]):
    """Sampler of one epoch, or of one rank's part of it; pass it to a `DataLoader` as `sampler`.

    Yields (epoch, index). The dataset draws augmentation from the epoch, so worker processes need no other signal. A
    run interrupted after `first` samples of an epoch continues with the same samples as an uninterrupted one.

    Args:
        length: number of samples in the dataset.
        seed: determines the order together with the epoch.
        epoch: epoch number, from 0.
        shuffle: shuffle, or keep the order of the dataset.
        rank: rank of this process; it takes every `world_size`-th sample.
        world_size: number of processes that share the epoch.
        first: number of this rank's samples to skip, because they were processed before.

    Raises:
        ValueError: an argument is out of range.
    """

    def __init__(
        self,
        length: int,
        *,
        seed: int = 0,
        epoch: int = 0,
        shuffle: bool = True,
        rank: int = 0,
        world_size: int = 1,
        first: int = 0,
    ) -> None:
        if length < 0 or epoch < 0 or first < 0 or not 0 <= rank < world_size:
            raise ValueError(
                f"length {length}, epoch {epoch} and first {first} must not be negative, and rank {rank} must be below "
                f"world_size {world_size}"
            )
        self.length, self.seed, self.epoch, self.shuffle = length, seed, epoch, shuffle
        self.rank, self.world_size, self.first = rank, world_size, first

    def __len__(self) -> int:
        """Return the number of samples that this rank has left in the epoch."""
        return max(0, len(range(self.rank, self.length, self.world_size)) - self.first)

    def __iter__(self) -> Iterator[tuple[int, int]]:
        if self.shuffle:
            generator = torch.Generator().manual_seed(self.seed * 1_000_003 + self.epoch)
            order = cast("list[int]", torch.randperm(self.length, generator=generator).tolist())
        else:
            order = list(range(self.length))
        return ((self.epoch, index) for index in order[self.rank :: self.world_size][self.first :])
