"""Handle tokens of modalities that differ in number, or in which samples have them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor, nn

from snn_fusion.modality_dict import modality_dict
from snn_fusion.presence import Presence, may_run_absent_rows, run_on_rows

TokenKey = tuple[str, int]
"""A modality and the number of tokens N to which its tokens are pooled."""


def pool_tokens(x: Tensor, count: int) -> Tensor:
    """Pool tokens [T, B, M, C] to [T, B, count, C].

    Adaptive average pooling along the token axis (tokens of a map are in row-major order): each output is the mean of
    the tokens in its range; with fewer tokens than `count` the nearest is repeated. If the counts are equal, `x` itself
    is returned.
    """
    if x.shape[2] == count:
        return x
    pooled = F.adaptive_avg_pool1d(rearrange(x, "t b m c -> (t b) c m"), count)
    return rearrange(pooled, "(t b) c n -> t b n c", t=x.shape[0])


def zero_absent(tokens: Mapping[str, Tensor], presence: Presence) -> dict[str, Tensor]:
    """Return tokens [T, B, N, C] with zeros in the rows of absent samples; these rows get no gradient."""
    return {
        name: torch.where(presence[name][None, :, None, None], x, 0.0) if name in presence else x
        for name, x in tokens.items()
    }


def any_present(presence: Presence, names: Iterable[str]) -> Tensor | None:
    """Return which samples [B] have at least one of these modalities; None means all."""
    masks: list[Tensor] = []
    for name in names:
        if name not in presence:
            return None
        masks.append(presence[name])
    return torch.stack(masks).any(0)


def active_samples(sources_of: Mapping[str, Sequence[str]], presence: Presence) -> tuple[Presence, Presence]:
    """Return the samples [B] in which each target has a source to read, and those in which each source has a target."""
    targets_of: dict[str, list[str]] = {}
    for target, sources in sources_of.items():
        for source in sources:
            targets_of.setdefault(source, []).append(target)
    return _with_any(sources_of, presence), _with_any(targets_of, presence)


def _with_any(others_of: Mapping[str, Sequence[str]], presence: Presence) -> Presence:
    result: dict[str, Tensor] = {}
    for name, others in others_of.items():
        masks = [mask for mask in (presence.get(name), any_present(presence, others)) if mask is not None]
        if masks:
            result[name] = torch.stack(masks).all(0)
    return result


def count_present(names: Sequence[str], presence: Presence) -> int | Tensor:
    """Count how many of these modalities each sample has, at least 1: [1, B, 1, 1], or an int if all samples agree."""
    masks = [presence[name] for name in names if name in presence]
    if not masks:
        return len(names)
    return (torch.stack(masks).sum(0) + len(names) - len(masks)).clamp_min(1)[None, :, None, None]


def read_on_rows(module: nn.Module, mask: Tensor | None, target: Tensor, *others: Tensor) -> Tensor:
    """Call `run_on_rows` for a module whose output has the shape of `target`, or return zeros if `mask` is empty."""
    if mask is not None and not may_run_absent_rows(module) and not bool(mask.any()):
        return torch.zeros_like(target)
    return run_on_rows(module, mask, target, *others)


class ModalityLayers(nn.ModuleDict):
    """One layer per modality, or one layer that all modalities share.

    All inputs of a layer are run in one call, whatever modalities and grids share it: batch norm sees them as one
    batch, and its running statistics are updated once per forward pass.

    Args:
        layers: by modality, all of one kind, each from [T, ..., C] to [T, ..., C'].
        shared: use only the first layer, for all modalities.
    """

    def __init__(self, layers: Mapping[str, nn.Module], *, shared: bool = False) -> None:
        stored = {"shared": next(iter(layers.values()))} if shared and layers else layers
        super().__init__(dict(modality_dict(stored)))
        self.is_shared = shared

    def forward(self, inputs: Mapping[TokenKey, Tensor], masks: Presence) -> dict[TokenKey, Tensor]:
        """Map tokens [T, B, N, C] by grid to [T, B, N, C'], with zeros in the rows that `masks` excludes."""
        outputs: dict[TokenKey, Tensor] = {}
        for name, layer in self.items():
            grids = [grid for grid in inputs if self.is_shared or grid[0] == name]
            results = _run_together(layer, [inputs[grid] for grid in grids], [masks.get(grid[0]) for grid in grids])
            outputs.update(zip(grids, results, strict=True))
        return outputs


def _run_together(layer: nn.Module, inputs: Sequence[Tensor], masks: Sequence[Tensor | None]) -> list[Tensor]:
    if not inputs:
        return []
    if len(inputs) == 1 and masks[0] is None:
        return [layer(inputs[0])]
    if may_run_absent_rows(layer):
        return [run_on_rows(layer, mask, x) for x, mask in zip(inputs, masks, strict=True)]
    rows = [None if mask is None else mask.nonzero().squeeze(1) for mask in masks]
    selected = [x if row is None else x.index_select(1, row) for x, row in zip(inputs, rows, strict=True)]
    together = torch.cat([x.flatten(1, 2) for x in selected], 1)
    if together.shape[1] == 0:
        return [torch.zeros_like(x) for x in inputs]
    outputs = layer(together).split([x.shape[1] * x.shape[2] for x in selected], 1)
    return [
        _scatter_rows(output.unflatten(1, x.shape[1:3]), row, full.shape[1])
        for output, x, row, full in zip(outputs, selected, rows, inputs, strict=True)
    ]


def _scatter_rows(x: Tensor, rows: Tensor | None, batch: int) -> Tensor:
    if rows is None:
        return x
    return torch.index_copy(x.new_zeros(x.shape[0], batch, *x.shape[2:]), 1, rows, x)
