"""From the samples of a split to what a training step takes, and the sums that it adds to."""

# PyTorch leaves the types of some of its own methods open.
# pyright: reportUnknownMemberType=false
from __future__ import annotations

import hashlib
import random
from collections.abc import Iterator, Sequence
from typing import cast

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from scmrl.engine.parallel import Processes
from snn_datasets import Batch, DatasetSplits, EpochOrder, Sample, SampleDataset, collate
from snn_fusion import Loss


class ReproducibleSamples(Dataset[Sample | Exception]):
    """A dataset whose random draws depend on the seed, the epoch and the sample alone.

    The global generators of Python, NumPy and PyTorch are seeded before each sample and put back after it. So a dataset
    that draws from them gives the same samples with any number of workers and after a resume, and the draws of the
    forward pass do not depend on how samples are read.
    """

    def __init__(self, dataset: SampleDataset, seed: int) -> None:
        self.dataset, self.seed = dataset, seed

    def __len__(self) -> int:
        """Return the number of samples."""
        return len(self.dataset)

    def __getitem__(self, index: tuple[int, int]) -> Sample | Exception:
        """Sample (epoch, index), as `EpochOrder` yields it, or what was wrong with it."""
        key = f"{self.seed} {index[0]} {index[1]}".encode()
        seed = int.from_bytes(hashlib.blake2b(key, digest_size=7).digest())
        before = random.getstate(), np.random.get_state(), torch.get_rng_state()
        random.seed(seed)
        np.random.seed(seed % 2**32)
        torch.default_generator.manual_seed(seed)
        try:
            return self.dataset[index]
        except (ValueError, OSError) as error:
            # A worker would raise it with its own traceback in the text: it is raised in the process that trains.
            return error
        finally:
            random.setstate(before[0])
            np.random.set_state(before[1])
            torch.set_rng_state(before[2])


def training_batches(
    dataset: SampleDataset, batch_size: int, *, seed: int, epoch: int, first: int, workers: int, processes: Processes
) -> Iterator[Batch]:
    """Batches of one epoch, those of this process.

    Args:
        dataset: the training split.
        batch_size: samples at a time in this process; an incomplete last batch is left out.
        seed: decides the order of the samples, with the epoch, and whatever the dataset draws.
        epoch: from 1.
        first: samples of this process that were seen in the epoch already.
        workers: processes that read; 0 reads in this one.
        processes: who trains.
    """
    order = EpochOrder(
        len(dataset), seed=seed, epoch=epoch - 1, rank=processes.rank, world_size=processes.world_size, first=first
    )
    loader: DataLoader[Batch | Exception] = DataLoader(
        cast("Dataset[Batch | Exception]", ReproducibleSamples(dataset, seed)),
        batch_size,
        sampler=order,
        drop_last=True,
        collate_fn=_collated,
        num_workers=workers,
        # Without a generator of its own, a loader draws from the global one whenever an epoch is begun or resumed.
        generator=torch.Generator().manual_seed(seed),
    )
    for batch in loader:
        if isinstance(batch, Exception):
            raise batch
        yield batch


def _collated(samples: Sequence[Sample | Exception]) -> Batch | Exception:
    """A batch, or why there is none."""
    read: list[Sample] = []
    for sample in samples:
        if isinstance(sample, Exception):
            return sample
        read.append(sample)
    try:
        return collate(read)
    except ValueError as error:
        return error


def to_device(batch: Batch, processes: Processes) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """A batch's inputs on this process's device, and the masks of the modalities that some sample lacks."""
    inputs = {name: x.to(processes.device, non_blocking=True) for name, x in batch["inputs"].items()}
    return inputs, {name: mask.to(processes.device) for name, mask in batch["present"].items() if not mask.all()}


def calibration_batch(splits: DatasetSplits, count: int) -> Batch:
    """Training samples for calibration, spread evenly over the split because it may be ordered by class."""
    count = min(count, len(splits.train))
    return collate([splits.train[index * len(splits.train) // count] for index in range(count)])


def class_weights(splits: DatasetSplits, processes: Processes) -> Tensor:
    """How much a sample of each class counts [K], 1 on average over the training samples."""
    counts = torch.bincount(torch.tensor(splits.train.labels), minlength=len(splits.info.classes)).clamp(min=1).float()
    return (counts.sum() / (len(counts) * counts)).to(processes.device)


def accumulate_totals(totals: dict[str, float], loss: Loss, logits: Tensor, labels: Tensor) -> None:
    """Add a batch to an epoch's sums."""
    size = len(labels)
    # The device is waited for once, not at every number.
    told = torch.stack([loss.classification.detach(), loss.alignment.detach(), (logits.argmax(1) == labels).sum()])
    classification, alignment, right = cast("list[float]", told.tolist())
    values = {"n": size, "loss": classification * size, "alignment": alignment * size, "right": right}
    totals.update({name: totals.get(name, 0.0) + value for name, value in values.items()})
