"""Small random moves and stretches of training pictures, decided by seed, epoch and sample alone."""

# PyTorch leaves the types of some of its own methods open.
# pyright: reportUnknownMemberType=false
from __future__ import annotations

import torch
from torch import Tensor

from scmrl.experiment import TrainSpec
from snn_datasets import Batch, DatasetInfo, Draw, move_and_stretch


def augment(batch: Batch, info: DatasetInfo, options: TrainSpec, *, seed: int, epoch: int) -> dict[str, Tensor]:
    """The inputs of a batch with every picture [C, H, W] moved and stretched, all time steps of a sample alike.

    Other inputs, and all if neither is asked for, stay as they are. What a sample gets does not depend on the batch or
    the process that it is in.
    """
    inputs = dict(batch["inputs"])
    if not (options.augment_shift or options.augment_scale):
        return inputs
    for name, modality in info.modalities.items():
        if len(modality.shape) != 3:
            continue
        amounts = torch.stack(
            [torch.rand(2, 2, generator=Draw(seed, id_, name, epoch, "augment").generator()) for id_ in batch["ids"]]
        )
        x = inputs[name]
        timed = modality.time_steps is not None
        moved = move_and_stretch(
            x.transpose(0, 1).flatten(1, 2) if timed else x,
            amounts * 2 - 1,
            shift=options.augment_shift,
            scale=options.augment_scale,
        )
        inputs[name] = moved.unflatten(1, (x.shape[0], -1)).transpose(0, 1) if timed else moved
    return inputs
