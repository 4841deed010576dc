"""Training batches: reproducible loading, device transfer, class weights, running totals."""

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
    """A dataset whose random draws depend only on the seed, the epoch and the sample.

    The global generators of Python, NumPy and PyTorch are seeded before each sample and restored after it. So a dataset
    that draws from them yields the same samples with any number of workers and after a resume, and the draws of the
    forward pass do not depend on how samples are read.
    """

    def __init__(self, dataset: SampleDataset, seed: int) -> None:
        self.dataset, self.seed = dataset, seed

    def __len__(self) -> int:
        """Return the number of samples."""
        return len(self.dataset)

    def __getitem__(self, index: tuple[int, int]) -> Sample | Exception:
        """Return sample (epoch, index), as `EpochOrder` yields it, or the error that reading it raised."""
        key = f"{self.seed} {index[0]} {index[1]}".encode()
        seed = int.from_bytes(hashlib.blake2b(key, digest_size=7).digest())
        states = random.getstate(), np.random.get_state(), torch.get_rng_state()
        random.seed(seed)
        np.random.seed(seed % 2**32)
        torch.default_generator.manual_seed(seed)
        try:
            return self.dataset[index]
        except (ValueError, OSError) as error:
            # Raised later in the training process: a worker would add its traceback to the message.
            return error
        finally:
            random.setstate(states[0])
            np.random.set_state(states[1])
            torch.set_rng_state(states[2])


def training_batches(
    dataset: SampleDataset, batch_size: int, *, seed: int, epoch: int, first: int, workers: int, processes: Processes
) -> Iterator[Batch]:
    """Yield this rank's batches of one epoch.

    Args:
        dataset: the training split.
        batch_size: samples per batch on this rank; an incomplete last batch is dropped.
        seed: determines, with the epoch, the order of samples and the dataset's random draws.
        epoch: from 1.
        first: number of this rank's samples to skip, already seen in the epoch.
        workers: reader processes; 0 reads in this one.
        processes: the process group.
    """
    order = EpochOrder(
        len(dataset), seed=seed, epoch=epoch - 1, rank=processes.rank, world_size=processes.world_size, first=first
    )
    loader: DataLoader[Batch | Exception] = DataLoader(
        cast("Dataset[Batch | Exception]", ReproducibleSamples(dataset, seed)),
        batch_size,
        sampler=order,
        drop_last=True,
        collate_fn=_collate,
        num_workers=workers,
        # Without this generator the loader would draw from the global one whenever an epoch starts or resumes.
        generator=torch.Generator().manual_seed(seed),
    )
    for batch in loader:
        if isinstance(batch, Exception):
            raise batch
        yield batch


def _collate(samples: Sequence[Sample | Exception]) -> Batch | Exception:
    """Collate samples into a batch, or return the first error."""
    valid: list[Sample] = []
    for sample in samples:
        if isinstance(sample, Exception):
            return sample
        valid.append(sample)
    try:
        return collate(valid)
    except ValueError as error:
        return error


def to_device(batch: Batch, processes: Processes) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """Move a batch's inputs to this rank's device, with the presence masks of modalities that some sample lacks."""
    inputs = {name: x.to(processes.device, non_blocking=True) for name, x in batch["inputs"].items()}
    return inputs, {name: mask.to(processes.device) for name, mask in batch["present"].items() if not mask.all()}


def calibration_batch(splits: DatasetSplits, count: int) -> Batch:
    """Training samples for calibration, evenly spaced over the split, which may be ordered by class."""
    count = min(count, len(splits.train))
    return collate([splits.train[index * len(splits.train) // count] for index in range(count)])


def class_weights(splits: DatasetSplits, processes: Processes) -> Tensor:
    """Loss weights of the classes [K], inverse to their frequency, with mean 1 over the training samples."""
    counts = torch.bincount(torch.tensor(splits.train.labels), minlength=len(splits.info.classes)).clamp(min=1).float()
    return (counts.sum() / (len(counts) * counts)).to(processes.device)


def accumulate_totals(totals: dict[str, float], loss: Loss, logits: Tensor, labels: Tensor) -> None:
    """Add a batch to an epoch's totals."""
    size = len(labels)
    # Stacked, so that the device is synchronized once.
    stacked = torch.stack([loss.classification.detach(), loss.alignment.detach(), (logits.argmax(1) == labels).sum()])
    classification, alignment, correct = cast("list[float]", stacked.tolist())
    values = {"n": size, "loss": classification * size, "alignment": alignment * size, "correct": correct}
    totals.update({name: totals.get(name, 0.0) + value for name, value in values.items()})
