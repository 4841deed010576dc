"""What a model says of every sample of one split, and how well that fits the labels."""

# PyTorch leaves the types of some of its own methods open.
# pyright: reportUnknownMemberType=false
from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import cast

import torch
from torch import Tensor
from torch.utils.data import DataLoader, Subset

from scmrl.engine.parallel import Processes
from snn_datasets import SampleDataset, collate
from snn_fusion import FusionModel


@dataclass(frozen=True, eq=False)
class Predictions:
    """What a model said of N samples, in the order of the split."""

    ids: list[str]
    labels: Tensor
    """int64 [N] on the CPU."""
    probabilities: Tensor
    """float32 [N, K] on the CPU; a sample without any modality has the same for every class."""
    loss: float
    """Mean classification loss, with the model's label smoothing."""

    @property
    def n(self) -> int:
        """Number of samples N."""
        return len(self.ids)

    @property
    def accuracy(self) -> float:
        """Share of samples whose most probable class is theirs, 0 to 1."""
        return float((self.probabilities.argmax(1) == self.labels).double().mean())

    @property
    def confusion(self) -> list[list[int]]:
        """Counts by true class (rows) and predicted class (columns)."""
        K = self.probabilities.shape[1]
        pairs = self.labels * K + self.probabilities.argmax(1)
        return cast("list[list[int]]", torch.bincount(pairs, minlength=K * K).view(K, K).tolist())


@torch.no_grad()
def predict(
    model: FusionModel,
    dataset: SampleDataset,
    *,
    batch_size: int,
    processes: Processes,
    modalities: Sequence[str] | None = None,
) -> Predictions:
    """Run the model over every sample once, in evaluation mode, and put it back into the mode it was in.

    Args:
        model: on the processes' device, without anything around it.
        dataset: the split; every process takes a share of it and gets the predictions of all.
        batch_size: samples at a time in one process; it changes nothing but speed.
        processes: who shares the work.
        modalities: the others are taken away; None takes none.
    """
    was_training = model.training
    model.eval()
    share = range(processes.rank, len(dataset), processes.world)
    ids: list[str] = []
    labels: list[Tensor] = []
    probabilities: list[Tensor] = []
    loss = 0.0
    for batch in DataLoader(Subset(dataset, share), batch_size=batch_size, collate_fn=collate):
        inputs = {
            name: x.to(processes.device)
            for name, x in batch["inputs"].items()
            if modalities is None or name in modalities
        }
        present = {name: batch["present"][name].to(processes.device) for name in inputs}
        mine = batch["labels"].to(processes.device)
        # A sample that lacks every modality is shown as zeros, and nothing is taken from what the model says of it.
        nothing = ~torch.stack(list(present.values())).any(0)
        shown = next(iter(present))
        present[shown] = present[shown] | nothing
        output = model(inputs, present)
        said = output.logits.float().softmax(1)
        said[nothing] = 1 / said.shape[1]
        loss += float(model.total_loss(output, mine).classification) * len(mine)
        probabilities.append(said.cpu())
        ids += batch["ids"]
        labels.append(batch["labels"])
    model.train(was_training)
    parts = processes.collect((list(share), ids, torch.cat(labels), torch.cat(probabilities), loss))
    order = torch.tensor([place for part in parts for place in part[0]]).argsort()
    every = [id_ for part in parts for id_ in part[1]]
    return Predictions(
        [every[place] for place in cast("list[int]", order.tolist())],
        torch.cat([part[2] for part in parts])[order],
        torch.cat([part[3] for part in parts])[order],
        sum(part[4] for part in parts) / len(dataset),
    )
