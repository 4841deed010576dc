"""Views of the arrays that PyTorch implementations process: flat [T, N], in tiles of neurons that fit a CPU's cache."""

from __future__ import annotations

import torch
from torch import Tensor

from snn_core.ops.common.arguments import state_dtype

TILE = 1 << 15
"""Neurons processed at once by each thread of a CPU."""


def flat(x: Tensor) -> Tensor:
    """Return [T, ...] as [T, N], without a copy where the memory of a step is dense."""
    return x.flatten(1) if x.dim() > 1 else x[:, None]


def flat_state(state: Tensor | None, x: Tensor) -> Tensor:
    """Return a state [...] of currents x [T, ...] as [N]; one expanded zero if it is None."""
    if state is not None:
        return state.reshape(-1)
    return torch.zeros((), dtype=state_dtype(x), device=x.device).expand(x[0].numel())


def tiles(x: Tensor) -> list[slice]:
    """Return slices of the N neurons of x [T, N]: one on a GPU, cache-sized tiles on a CPU."""
    N = x.shape[1]
    width = TILE * torch.get_num_threads() if x.device.type == "cpu" else N
    return [slice(start, min(start + width, N)) for start in range(0, N, max(1, width))]


def select(x: Tensor, tile: slice) -> Tensor:
    """Return the neurons of a tile of x [..., N]; x itself if that is all of them, which avoids creating a view."""
    return x if tile.stop - tile.start == x.shape[-1] else x[..., tile]


def steps_of(lengths: Tensor, N: int, tile: slice) -> Tensor:
    """Return the number of steps [tile] of the sample of each neuron."""
    sample = torch.arange(tile.start, tile.stop, device=lengths.device).div_(N // len(lengths), rounding_mode="floor")
    return lengths[sample]
