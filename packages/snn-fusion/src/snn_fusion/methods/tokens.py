"""Tokens of modalities that differ: in number, or in which samples have them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor, nn

from snn_fusion.modality_dict import modality_dict
from snn_fusion.presence import Presence, all_rows, run_where

Placed = tuple[str, int]
"""A modality's tokens on a grid: its name and the number of tokens there."""


def pool_tokens(x: Tensor, count: int) -> Tensor:
    """Tokens [T, B, M, C] on a grid of `count` places -> [T, B, count, C].

    Adaptive average pooling over the token axis in its order, so each place takes the mean of the tokens that lie
    there along that axis (tokens of a map follow each other row by row), or repeats the nearest where there are fewer.
    Equal counts: the very same tensor.
    """
    if x.shape[2] == count:
        return x
    pooled = F.adaptive_avg_pool1d(rearrange(x, "t b m c -> (t b) c m"), count)
    return rearrange(pooled, "(t b) c n -> t b n c", t=x.shape[0])


def blank_absent(tokens: Mapping[str, Tensor], presence: Presence) -> dict[str, Tensor]:
    """Tokens [T, B, N, C] with zeros in the rows of absent samples, whatever was there; no gradient goes to them."""
    return {
        name: torch.where(presence[name][None, :, None, None], x, 0.0) if name in presence else x
        for name, x in tokens.items()
    }


def any_present(presence: Presence, names: Iterable[str]) -> Tensor | None:
    """Samples [B] that have at least one of these modalities; None means all."""
    masks: list[Tensor] = []
    for name in names:
        if name not in presence:
            return None
        masks.append(presence[name])
    return torch.stack(masks).any(0)


def reading_and_read(sources_of: Mapping[str, Sequence[str]], presence: Presence) -> tuple[Presence, Presence]:
    """Samples [B] in which each target has something to read, and in which each source has someone to read it."""
    targets_of: dict[str, list[str]] = {}
    for target, sources in sources_of.items():
        for source in sources:
            targets_of.setdefault(source, []).append(target)
    return _with_any(sources_of, presence), _with_any(targets_of, presence)


def _with_any(others_of: Mapping[str, Sequence[str]], presence: Presence) -> Presence:
    masks: dict[str, Tensor] = {}
    for name, others in others_of.items():
        given = [mask for mask in (presence.get(name), any_present(presence, others)) if mask is not None]
        if given:
            masks[name] = torch.stack(given).all(0)
    return masks


def number_present(names: Sequence[str], presence: Presence) -> int | Tensor:
    """How many of these modalities a sample has, at least 1: [1, B, 1, 1], or a number where it is the same for all."""
    some = [presence[name] for name in names if name in presence]
    if not some:
        return len(names)
    return (torch.stack(some).sum(0) + len(names) - len(some)).clamp_min(1)[None, :, None, None]


def read_where(module: nn.Module, mask: Tensor | None, target: Tensor, *others: Tensor) -> Tensor:
    """`run_where` for a module whose result is shaped like `target`, also where no sample is left to run."""
    if mask is not None and not all_rows(module) and not bool(mask.any()):
        return torch.zeros_like(target)
    return run_where(module, mask, target, *others)


class ByModality(nn.ModuleDict):
    """A layer for each modality, or one that all share.

    What one layer has to do is done in one call, however many modalities and grids share it: batch norm sees them as
    one batch, and its running statistics move once a forward pass.

    Args:
        layers: the layers by modality, of one kind each from [T, ..., C] to [T, ..., C'].
        shared: keep the first alone and let it serve all.
    """

    def __init__(self, layers: Mapping[str, nn.Module], *, shared: bool = False) -> None:
        kept = {"shared": next(iter(layers.values()))} if shared and layers else layers
        super().__init__(dict(modality_dict(kept)))
        self.is_shared = shared

    def forward(self, inputs: Mapping[Placed, Tensor], masks: Presence) -> dict[Placed, Tensor]:
        """Tokens [T, B, N, C] by modality and grid -> [T, B, N, C'], zeros in rows that `masks` leaves out."""
        found: dict[Placed, Tensor] = {}
        for name, layer in self.items():
            placed = [place for place in inputs if self.is_shared or place[0] == name]
            results = _run_together(layer, [inputs[p] for p in placed], [masks.get(p[0]) for p in placed])
            found.update(zip(placed, results, strict=True))
        return found


def _run_together(layer: nn.Module, inputs: Sequence[Tensor], masks: Sequence[Tensor | None]) -> list[Tensor]:
    if not inputs:
        return []
    if len(inputs) == 1 and masks[0] is None:
        return [layer(inputs[0])]
    if all_rows(layer):
        return [run_where(layer, mask, x) for x, mask in zip(inputs, masks, strict=True)]
    rows = [None if mask is None else mask.nonzero().squeeze(1) for mask in masks]
    kept = [x if row is None else x.index_select(1, row) for x, row in zip(inputs, rows, strict=True)]
    together = torch.cat([x.flatten(1, 2) for x in kept], 1)
    if together.shape[1] == 0:
        return [torch.zeros_like(x) for x in inputs]
    found = layer(together).split([x.shape[1] * x.shape[2] for x in kept], 1)
    return [
        _put_back(part.unflatten(1, x.shape[1:3]), row, full.shape[1])
        for part, x, row, full in zip(found, kept, rows, inputs, strict=True)
    ]


def _put_back(found: Tensor, rows: Tensor | None, batch: int) -> Tensor:
    if rows is None:
        return found
    return torch.index_copy(found.new_zeros(found.shape[0], batch, *found.shape[2:]), 1, rows, found)
