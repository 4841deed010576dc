"""Predict every sample of a split, with all modalities and with each subset of them."""

# PyTorch leaves the types of some of its own methods open.
# pyright: reportUnknownMemberType=false
from __future__ import annotations

from collections.abc import Sequence
from contextlib import nullcontext
from copy import copy
from dataclasses import dataclass, replace
from itertools import combinations
from pathlib import Path
from typing import cast

import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, Subset

from scmrl.config.data_access import DataAccess
from scmrl.console.progress import Progress
from scmrl.engine.parallel import Processes
from scmrl.run_folder.open import open_run
from snn_core import record_firing_rates
from snn_datasets import Batch, DatasetInfo, RecordedDataset, Sample, SampleDataset, collate
from snn_datasets.base.dataset import Split
from snn_fusion import FusionModel, FusionOutput


@dataclass(frozen=True, eq=False)
class SplitPredictions:
    """Predictions for the N samples of a split, in the order of the split."""

    ids: list[str]
    labels: Tensor
    """int64 [N] on the CPU."""
    probabilities: Tensor
    """float32 [N, K] on the CPU; uniform for a sample without any modality."""
    loss: float
    """Mean classification loss, with the model's label smoothing."""
    blank: int
    """Number of samples without any modality, for which the model predicts nothing."""
    non_finite: tuple[str, ...] = ()
    """Inputs that hold inf or NaN, each as `audio of clip7`."""

    @property
    def n(self) -> int:
        """Number of samples N."""
        return len(self.ids)

    @property
    def accuracy(self) -> float:
        """Accuracy, 0 to 1."""
        return float((self.probabilities.argmax(1) == self.labels).double().mean())

    @property
    def confusion(self) -> list[list[int]]:
        """Confusion matrix [K, K]: counts by true class (rows) and predicted class (columns)."""
        K = self.probabilities.shape[1]
        pairs = self.labels * K + self.probabilities.argmax(1)
        return cast("list[list[int]]", torch.bincount(pairs, minlength=K * K).view(K, K).tolist())


def predict_batch(
    model: FusionModel, batch: Batch, device: torch.device, modalities: Sequence[str] | None = None
) -> tuple[FusionOutput, Tensor, Tensor]:
    """Return the model's output, probabilities float32 [B, K], and a mask [B] of samples without any modality.

    A sample that lacks every modality gets a uniform distribution. Results stay on the device.

    Args:
        model: on that device.
        batch: the samples.
        device: where to compute.
        modalities: modalities to use; the others are removed. None uses all.
    """
    inputs = {name: x.to(device) for name, x in batch["inputs"].items() if modalities is None or name in modalities}
    present = {name: batch["present"][name].to(device) for name in inputs}
    # The model needs one modality: a sample that lacks all is run on zeros, and its prediction is replaced.
    blank = ~torch.stack(list(present.values())).any(0)
    substitute = next(iter(present))
    present[substitute] = present[substitute] | blank
    output = model(inputs, present)
    probabilities = output.logits.float().softmax(1)
    probabilities[blank] = 1 / probabilities.shape[1]
    return output, probabilities, blank


@torch.no_grad()
def predict_split(
    model: FusionModel,
    dataset: SampleDataset,
    *,
    batch_size: int,
    processes: Processes,
    modalities: Sequence[str] | None = None,
) -> SplitPredictions:
    """Run the model over every sample once, in evaluation mode, and restore its mode.

    Args:
        model: unwrapped, on this rank's device.
        dataset: the split; each rank predicts a part of it and gets all predictions.
        batch_size: samples at a time on one rank; affects speed only.
        processes: the process group.
        modalities: modalities to use; the others are removed. None uses all.
    """
    was_training = model.training
    model.eval()
    indices = range(processes.rank, len(dataset), processes.world_size)
    ids: list[str] = []
    labels: list[Tensor] = []
    probabilities: list[Tensor] = []
    loss, num_blank = 0.0, 0
    non_finite: list[str] = []
    # Without this generator the loader would draw from the global one and change the training that follows.
    generator = torch.Generator().manual_seed(0)
    loader: DataLoader[list[Sample]] = DataLoader(
        cast("Dataset[list[Sample]]", Subset(dataset, indices)), batch_size, collate_fn=list, generator=generator
    )
    for samples in loader:
        batch = collate(samples)
        non_finite += [
            f"{name} of {sample.id}"
            for sample in samples
            for name, x in sample.inputs.items()
            if (modalities is None or name in modalities) and not x.isfinite().all()
        ]
        output, batch_probabilities, blank = predict_batch(model, batch, processes.device, modalities)
        # A sample whose logits are inf or NaN counts like one that lacks every modality; its inputs are named.
        diverged = ~output.logits.isfinite().all(1)
        batch_probabilities[diverged] = 1 / batch_probabilities.shape[1]
        output = _with_uniform_logits(output, diverged)
        batch_labels = batch["labels"].to(processes.device)
        loss += float(model.total_loss(output, batch_labels).classification) * len(batch_labels)
        num_blank += int(blank.sum())
        probabilities.append(batch_probabilities.cpu())
        ids += batch["ids"]
        labels.append(batch["labels"])
    model.train(was_training)
    parts = processes.all_gather(
        (list(indices), ids, torch.cat(labels), torch.cat(probabilities), loss, num_blank, non_finite)
    )
    order = torch.tensor([index for part in parts for index in part[0]]).argsort()
    all_ids = [id_ for part in parts for id_ in part[1]]
    return SplitPredictions(
        [all_ids[index] for index in cast("list[int]", order.tolist())],
        torch.cat([part[2] for part in parts])[order],
        torch.cat([part[3] for part in parts])[order],
        sum(part[4] for part in parts) / len(dataset),
        sum(part[5] for part in parts),
        tuple(name for part in parts for name in part[6]),
    )


def _with_uniform_logits(output: FusionOutput, rows: Tensor) -> FusionOutput:
    """Set the logits to 0 in the rows of a mask [B], which makes all classes equally probable."""
    if not rows.any():
        return output
    mask = rows[:, None]
    return replace(
        output,
        logits=output.logits.masked_fill(mask, 0),
        logits_of={name: logits.masked_fill(mask, 0) for name, logits in output.logits_of.items()},
    )


@dataclass(frozen=True, eq=False)
class Evaluation:
    """Evaluation of a run's model on one split."""

    info: DatasetInfo
    predictions: dict[tuple[str, ...], SplitPredictions]
    """Predictions by subset of modalities; the full set first, in the model's order."""
    rates: dict[str, float]
    """Firing rate of each neuron layer over the split, with all modalities."""


def evaluate(folder: Path, split: Split, progress: Progress, access: DataAccess | None = None) -> Evaluation:
    """Predict every sample of one split with a run's model, once with each subset of its modalities.

    Args:
        folder: of the run.
        split: which samples.
        progress: the display.
        access: where the data are now, and whether changed data are accepted.

    Raises:
        ValueError: the run is damaged, or the dataset is not the one that it was trained on.
        FileNotFoundError: the model or the dataset is missing.
    """
    run = open_run(folder, access)
    model, processes = run.model, Processes.single(run.device)
    splits = run.data(progress)
    dataset = without_augmentation(getattr(splits, split))
    subsets = modality_subsets(model.modalities)
    predictions: dict[tuple[str, ...], SplitPredictions] = {}
    batch_size = run.experiment.train.evaluation_batch_size
    rates: dict[str, float] = {}
    with progress.phase(f"evaluating on {split}", len(subsets), "subsets of modalities") as phase:
        for subset in subsets:
            is_full = len(subset) == len(model.modalities)
            with record_firing_rates(model) if is_full else nullcontext(dict[str, float]()) as subset_rates:
                predictions[subset] = predict_split(
                    model, dataset, batch_size=batch_size, processes=processes, modalities=subset
                )
            rates |= subset_rates
            phase.advance()
    return Evaluation(splits.info, predictions, rates)


def without_augmentation(dataset: SampleDataset) -> SampleDataset:
    """Return the dataset without augmentation."""
    if isinstance(dataset, RecordedDataset) and dataset.augment:
        dataset = copy(dataset)
        dataset.augment = False
    return dataset


def modality_subsets(modalities: Sequence[str]) -> list[tuple[str, ...]]:
    """Every non-empty subset of the modalities, the largest first."""
    return [subset for size in range(len(modalities), 0, -1) for subset in combinations(modalities, size)]
