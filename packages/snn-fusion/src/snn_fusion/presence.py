"""Run modules only on the samples that have a modality.

An absent modality must change nothing, whatever its tensor holds, and must not enter batch statistics. Zeros are not
enough, because batch norm would see them. Modules therefore get only the rows that are present, and their outputs are
scattered back into the batch.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType

import torch
from torch import Tensor

Presence = Mapping[str, Tensor]
"""By modality, which samples have it: bool [B]. A modality without an entry is present in every sample."""
ALL_PRESENT: Presence = MappingProxyType({})
"""Every sample has every modality."""


def both_present(presence: Presence, first: str, second: str) -> Tensor | None:
    """Return which samples have both modalities, bool [B]; None means all."""
    masks = [presence[name] for name in (first, second) if name in presence]
    if not masks:
        return None
    return masks[0] if len(masks) == 1 else masks[0] & masks[1]


def may_run_absent_rows(module: object) -> bool:
    """Return whether a module may also run on absent rows: in evaluation under a compiler.

    A compiler needs shapes that do not depend on a mask. In training, absent rows would enter batch statistics.
    """
    return torch.compiler.is_compiling() and not getattr(module, "training", True)


def run_on_rows(module: Callable[..., Tensor], mask: Tensor | None, *inputs: Tensor, axis: int = 1) -> Tensor:
    """Run `module` on the samples in `mask` [B]; all other rows of the result are 0.

    Args:
        module: maps tensors with the batch at `axis` to a tensor [T, B, ...].
        mask: bool [B], with at least one row unless tracing; None means all rows.
        inputs: the module's arguments, each with the batch at `axis`.
        axis: batch axis of the inputs; in the result it is axis 1.
    """
    if mask is None:
        return module(*inputs)
    if may_run_absent_rows(module):
        outputs = module(*inputs)
        return torch.where(mask.reshape(1, -1, *[1] * (outputs.dim() - 2)), outputs, 0.0)
    rows = mask.nonzero().squeeze(1)
    outputs = module(*(x.index_select(axis, rows) for x in inputs))
    result = outputs.new_zeros(outputs.shape[0], len(mask), *outputs.shape[2:])
    return torch.index_copy(result, 1, rows, outputs)
