"""Which samples have which modality, and running a module on those rows only.

An absent modality must change nothing, whatever its tensor holds, and must not enter batch statistics. Zeros would do
neither, because batch norm sees them; so modules get the rows that are there, and what they give is put back in place.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import torch
from torch import Tensor

Presence = Mapping[str, Tensor]
"""For each modality whose rows are not all there, which samples have it: bool [B]. A modality without an entry is there
for all of them."""


def both(presence: Presence, first: str, second: str) -> Tensor | None:
    """Samples that have both modalities, bool [B]; None means all."""
    masks = [presence[name] for name in (first, second) if name in presence]
    if not masks:
        return None
    return masks[0] if len(masks) == 1 else masks[0] & masks[1]


def all_rows(module: object) -> bool:
    """Whether a module may see absent rows, too: under a compiler, which needs shapes that no mask decides.

    In training it may not, because of batch statistics.
    """
    return torch.compiler.is_compiling() and not getattr(module, "training", True)


def run_where(module: Callable[..., Tensor], mask: Tensor | None, *inputs: Tensor, axis: int = 1) -> Tensor:
    """Run `module` on the rows of the batch that `mask` [B] names; all other rows of the result are 0.

    Args:
        module: from tensors with the batch at `axis` to a tensor [T, B, ...].
        mask: bool [B], with at least one row unless a compiler looks on; None means all rows.
        inputs: what the module takes, each with the batch at `axis`.
        axis: where inputs have their batch; in the result it is axis 1.
    """
    if mask is None:
        return module(*inputs)
    if all_rows(module):
        outputs = module(*inputs)
        return torch.where(mask.reshape(1, -1, *[1] * (outputs.dim() - 2)), outputs, 0.0)
    rows = mask.nonzero().squeeze(1)
    outputs = module(*(x.index_select(axis, rows) for x in inputs))
    result = outputs.new_zeros(outputs.shape[0], len(mask), *outputs.shape[2:])
    return torch.index_copy(result, 1, rows, outputs)
