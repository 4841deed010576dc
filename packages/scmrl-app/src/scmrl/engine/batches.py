"""From the samples of a split to what a training step takes, and the sums that it adds to."""

# PyTorch leaves the types of some of its own methods open.
# pyright: reportUnknownMemberType=false
from __future__ import annotations

from typing import cast

import torch
from torch import Tensor

from scmrl.engine.parallel import Processes
from snn_datasets import Batch, DatasetSplits, collate
from snn_fusion import Loss


def to_device(batch: Batch, processes: Processes) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """A batch's inputs on this process's device, and the masks of the modalities that some sample lacks."""
    inputs = {name: x.to(processes.device, non_blocking=True) for name, x in batch["inputs"].items()}
    return inputs, {name: mask.to(processes.device) for name, mask in batch["present"].items() if not mask.all()}


def first_samples(splits: DatasetSplits, count: int) -> Batch:
    """Training samples for calibration, spread evenly over the split because it may be ordered by class."""
    count = min(count, len(splits.train))
    return collate([splits.train[index * len(splits.train) // count] for index in range(count)])


def class_weights(splits: DatasetSplits, processes: Processes) -> Tensor:
    """How much a sample of each class counts [K], 1 on average over the training samples."""
    counts = torch.bincount(torch.tensor(splits.train.labels), minlength=len(splits.info.classes)).clamp(min=1).float()
    return (counts.sum() / (len(counts) * counts)).to(processes.device)


def add_up(totals: dict[str, float], loss: Loss, logits: Tensor, labels: Tensor) -> None:
    """Add a batch to an epoch's sums."""
    size = len(labels)
    # The device is waited for once, not at every number.
    told = torch.stack([loss.classification.detach(), loss.alignment.detach(), (logits.argmax(1) == labels).sum()])
    classification, alignment, right = cast("list[float]", told.tolist())
    values = {"n": size, "loss": classification * size, "alignment": alignment * size, "right": right}
    totals.update({name: totals.get(name, 0.0) + value for name, value in values.items()})
