"""What a model says of every sample of one split, and how well that fits the labels."""

# PyTorch leaves the types of some of its own methods open.
# pyright: reportUnknownMemberType=false
from __future__ import annotations

from collections.abc import Sequence
from contextlib import nullcontext
from copy import copy
from dataclasses import dataclass, replace
from itertools import combinations
from pathlib import Path
from typing import Literal, cast

import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, Subset

from scmrl.data_access import DataAccess
from scmrl.engine.open_run import open_run
from scmrl.engine.parallel import Processes
from scmrl.progress import Progress
from snn_core import record_firing_rates
from snn_datasets import Batch, DatasetInfo, RecordedDataset, Sample, SampleDataset, collate
from snn_fusion import FusionModel, FusionOutput

Split = Literal["train", "val", "test"]


@dataclass(frozen=True, eq=False)
class SplitPredictions:
    """What a model said of N samples, in the order of the split."""

    ids: list[str]
    labels: Tensor
    """int64 [N] on the CPU."""
    probabilities: Tensor
    """float32 [N, K] on the CPU; a sample without any modality has the same for every class."""
    loss: float
    """Mean classification loss, with the model's label smoothing."""
    blank: int
    """Samples that had no modality, so that nothing was said of them."""
    non_finite: tuple[str, ...] = ()
    """Inputs that hold NaN or infinity, as `audio of clip7`."""

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


def predict_batch(
    model: FusionModel, batch: Batch, device: torch.device, modalities: Sequence[str] | None = None
) -> tuple[FusionOutput, Tensor, Tensor]:
    """What the model gives for a batch, the probabilities [B, K] in float32, and which samples have no modality [B].

    A sample that lacks every modality has the same probability for every class. Everything is on the device.

    Args:
        model: on that device.
        batch: the samples.
        device: where to compute.
        modalities: the others are taken away; None takes none.
    """
    inputs = {name: x.to(device) for name, x in batch["inputs"].items() if modalities is None or name in modalities}
    present = {name: batch["present"][name].to(device) for name in inputs}
    # A sample that lacks every modality is shown as zeros, and nothing is taken from what the model says of it.
    nothing = ~torch.stack(list(present.values())).any(0)
    shown = next(iter(present))
    present[shown] = present[shown] | nothing
    output = model(inputs, present)
    said = output.logits.float().softmax(1)
    said[nothing] = 1 / said.shape[1]
    return output, said, nothing


@torch.no_grad()
def predict_split(
    model: FusionModel,
    dataset: SampleDataset,
    *,
    batch_size: int,
    processes: Processes,
    modalities: Sequence[str] | None = None,
) -> SplitPredictions:
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
    share = range(processes.rank, len(dataset), processes.world_size)
    ids: list[str] = []
    labels: list[Tensor] = []
    probabilities: list[Tensor] = []
    loss, blank = 0.0, 0
    faulty: list[str] = []
    # Without a generator of its own, a loader draws from the global one, and training would go on differently.
    generator = torch.Generator().manual_seed(0)
    loader: DataLoader[list[Sample]] = DataLoader(
        cast("Dataset[list[Sample]]", Subset(dataset, share)), batch_size, collate_fn=list, generator=generator
    )
    for samples in loader:
        batch = collate(samples)
        faulty += [
            f"{name} of {sample.id}"
            for sample in samples
            for name, x in sample.inputs.items()
            if (modalities is None or name in modalities) and not x.isfinite().all()
        ]
        output, said, nothing = predict_batch(model, batch, processes.device, modalities)
        # A sample with NaN or infinity has no answer; it is named, and counts like one that lacks every modality.
        unanswered = ~output.logits.isfinite().all(1)
        said[unanswered] = 1 / said.shape[1]
        output = _with_logits_of_no_answer(output, unanswered)
        mine = batch["labels"].to(processes.device)
        loss += float(model.total_loss(output, mine).classification) * len(mine)
        blank += int(nothing.sum())
        probabilities.append(said.cpu())
        ids += batch["ids"]
        labels.append(batch["labels"])
    model.train(was_training)
    parts = processes.all_gather((list(share), ids, torch.cat(labels), torch.cat(probabilities), loss, blank, faulty))
    order = torch.tensor([place for part in parts for place in part[0]]).argsort()
    every = [id_ for part in parts for id_ in part[1]]
    return SplitPredictions(
        [every[place] for place in cast("list[int]", order.tolist())],
        torch.cat([part[2] for part in parts])[order],
        torch.cat([part[3] for part in parts])[order],
        sum(part[4] for part in parts) / len(dataset),
        sum(part[5] for part in parts),
        tuple(name for part in parts for name in part[6]),
    )


def _with_logits_of_no_answer(output: FusionOutput, rows: Tensor) -> FusionOutput:
    """The output with logits of 0, the same chance for every class, in these rows [B]."""
    if not rows.any():
        return output
    blank = rows[:, None]
    return replace(
        output,
        logits=output.logits.masked_fill(blank, 0),
        logits_of={name: logits.masked_fill(blank, 0) for name, logits in output.logits_of.items()},
    )


@dataclass(frozen=True, eq=False)
class Evaluation:
    """How a run's model fares on one split."""

    info: DatasetInfo
    predictions: dict[tuple[str, ...], SplitPredictions]
    """Predictions by the modalities it was given; all of them first, in the model's order."""
    rates: dict[str, float]
    """Firing rate of each neuron layer over the split, with all modalities."""


def evaluate(folder: Path, split: Split, progress: Progress, access: DataAccess | None = None) -> Evaluation:
    """Ask the model of a run about every sample of one split, once with each subset of its modalities.

    Args:
        folder: the run's.
        split: the samples.
        progress: told how far it is.
        access: where the data are now, and whether changed ones are accepted.

    Raises:
        ValueError: the run is damaged, or the dataset is no longer the one that it was trained on.
        FileNotFoundError: the folder holds no model, or the dataset is not there.
    """
    run = open_run(folder, access)
    model, processes = run.model, Processes(0, 1, run.device)
    splits = run.data(progress)
    dataset = without_augmentation(getattr(splits, split))
    subsets = modality_subsets(model.modalities)
    said: dict[tuple[str, ...], SplitPredictions] = {}
    batch_size = run.experiment.train.evaluation_batch_size
    rates: dict[str, float] = {}
    with progress.phase(f"evaluating on {split}", len(subsets), "subsets of modalities") as phase:
        for subset in subsets:
            whole = len(subset) == len(model.modalities)
            with record_firing_rates(model) if whole else nullcontext(dict[str, float]()) as seen:
                said[subset] = predict_split(
                    model, dataset, batch_size=batch_size, processes=processes, modalities=subset
                )
            rates |= seen
            phase.advance()
    return Evaluation(splits.info, said, rates)


def without_augmentation(dataset: SampleDataset) -> SampleDataset:
    """Training samples as they are, not as they were shown in training."""
    if isinstance(dataset, RecordedDataset) and dataset.augment:
        dataset = copy(dataset)
        dataset.augment = False
    return dataset


def modality_subsets(modalities: Sequence[str]) -> list[tuple[str, ...]]:
    """Every choice of one or more modalities, the largest first."""
    return [subset for size in range(len(modalities), 0, -1) for subset in combinations(modalities, size)]
