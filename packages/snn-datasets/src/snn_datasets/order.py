"""In which order samples are visited: a function of seed and epoch, not of what was visited before."""

# torch leaves some of its own signatures open.
# pyright: reportUnknownMemberType=false
from __future__ import annotations

from collections.abc import Iterator
from typing import cast

import torch
from torch.utils.data import Sampler


class EpochOrder(Sampler[tuple[int, int]]):
    """The samples of one epoch, or one process's share of them; give it to a `DataLoader` as `sampler`.

    It yields (epoch, index): a dataset draws its augmentation from the epoch, so workers need not be told. A run that
    stopped after `first` samples of an epoch goes on with the same ones as if it had not.

    Args:
        length: samples in the dataset.
        seed: decides the order, with the epoch.
        epoch: which pass over the data, from 0 on.
        shuffle: whether the order is random; otherwise it is that of the dataset.
        rank: number of this process among `world_size`; it takes every `world_size`-th sample.
        world_size: processes that share the epoch.
        first: samples of this process to leave out, because they were visited before.

    Raises:
        ValueError: a number is out of range.
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
                f"length {length}, epoch {epoch} and first {first} may not be negative, and rank {rank} has to be "
                f"below world_size {world_size}"
            )
        self.length, self.seed, self.epoch, self.shuffle = length, seed, epoch, shuffle
        self.rank, self.world_size, self.first = rank, world_size, first

    def __len__(self) -> int:
        """Return how many samples this process has left in the epoch."""
        return max(0, len(range(self.rank, self.length, self.world_size)) - self.first)

    def __iter__(self) -> Iterator[tuple[int, int]]:
        if self.shuffle:
            generator = torch.Generator().manual_seed(self.seed * 1_000_003 + self.epoch)
            order = cast("list[int]", torch.randperm(self.length, generator=generator).tolist())
        else:
            order = list(range(self.length))
        return ((self.epoch, index) for index in order[self.rank :: self.world_size][self.first :])
