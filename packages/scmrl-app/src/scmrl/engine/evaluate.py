"""Measure a model on one split: loss, accuracy, confusion."""

# PyTorch leaves the types of some of its own methods open.
# pyright: reportUnknownMemberType=false
from __future__ import annotations

from dataclasses import dataclass

import torch
from torch.utils.data import DataLoader

from snn_datasets import SampleDataset, collate
from snn_fusion import FusionModel


@dataclass(frozen=True)
class Evaluation:
    """How a model did on one split."""

    loss: float
    """Mean classification loss, with the model's label smoothing."""
    accuracy: float
    """Share of samples classified rightly, 0 to 1."""
    n: int
    """Samples."""
    confusion: list[list[int]]
    """Counts by true class (rows) and predicted class (columns)."""


@torch.no_grad()
def evaluate(
    model: FusionModel, dataset: SampleDataset, *, num_classes: int, batch_size: int, device: torch.device
) -> Evaluation:
    """Run the model over every sample once, in evaluation mode, and put it back into the mode it was in."""
    was_training = model.training
    model.eval()
    loss = 0.0
    confusion = torch.zeros(num_classes, num_classes, dtype=torch.int64)
    for batch in DataLoader(dataset, batch_size=batch_size, collate_fn=collate):
        labels = batch["labels"].to(device)
        output = model({name: x.to(device) for name, x in batch["inputs"].items()})
        loss += float(model.total_loss(output, labels).classification) * len(labels)
        pairs = labels.cpu() * num_classes + output.logits.argmax(1).cpu()
        confusion += torch.bincount(pairs, minlength=num_classes**2).view(num_classes, num_classes)
    model.train(was_training)
    n = int(confusion.sum())
    return Evaluation(loss / n, float(confusion.trace()) / n, n, [[int(count) for count in row] for row in confusion])
