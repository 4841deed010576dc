"""A labeled multimodal sample, and batches of samples."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TypedDict

import torch
from torch import Tensor
from torch.utils.data import Dataset


# Compared by identity: `==` between tensors has no single truth value.
@dataclass(frozen=True, slots=True, eq=False)
class Sample:
    """One labeled sample with an input per modality.

    Shape: each entry of `inputs` as stated in `DatasetInfo.modalities`, without a batch axis.
    """

    id: str
    """Unique within its dataset, and the same in every run."""

    inputs: dict[str, Tensor]
    """Modality -> float tensor. Treat it as read-only: datasets in memory return views."""

    label: int
    """Index into `DatasetInfo.classes`."""

    absent: frozenset[str] = frozenset()
    """Modalities that this sample lacks; their inputs are zeros."""

    timed: frozenset[str] = frozenset()
    """Modalities whose first axis is time; the others are static."""


class Batch(TypedDict):
    """B samples, stacked by modality."""

    inputs: dict[str, Tensor]
    """Modality -> [B, ...] if static, [T, B, ...] with time."""

    present: dict[str, Tensor]
    """Modality -> bool [B]: whether each sample has it. Absent inputs are zeros."""

    labels: Tensor
    """int64 [B]."""

    ids: list[str]
    """B sample ids, in batch order."""


class SampleDataset(Dataset[Sample], ABC):
    """A map-style dataset with a length, which torch's base class does not require."""

    labels: tuple[int, ...]
    """The label of every sample, in order."""

    has_absences: bool = False
    """Whether some sample may lack a modality."""

    @abstractmethod
    def __len__(self) -> int: ...

    @abstractmethod
    def __getitem__(self, index: int | tuple[int, int]) -> Sample:
        """Return one sample; (epoch, index), as from `EpochOrder`, draws the augmentation of that epoch."""

    def __iter__(self) -> Iterator[Sample]:
        """Yield every sample once, in order."""
        return (self[index] for index in range(len(self)))


def collate(samples: Sequence[Sample]) -> Batch:
    """Stack samples into a batch; pass it to a `DataLoader` as `collate_fn`.

    Shape: B samples with inputs [...] -> inputs [B, ...], or [T, ...] -> [T, B, ...] with time;
    present bool [B], labels int64 [B]

    Raises:
        ValueError: no samples, or samples with different modalities or shapes.
    """
    if not samples:
        raise ValueError("cannot collate an empty list of samples; pass at least one")
    first = samples[0]
    for sample in samples[1:]:
        if sample.inputs.keys() != first.inputs.keys() or sample.timed != first.timed:
            raise ValueError(
                f"sample {sample.id!r} has modalities {sorted(sample.inputs)}, but sample {first.id!r} of the same "
                f"batch has {sorted(first.inputs)}; give every sample the same modalities, absent ones as zeros"
            )
        for modality, value in sample.inputs.items():
            if value.shape != first.inputs[modality].shape:
                raise ValueError(
                    f"sample {sample.id!r}, modality {modality!r}: shape {tuple(value.shape)} differs from "
                    f"{tuple(first.inputs[modality].shape)} of sample {first.id!r} in the same batch; "
                    "resize or pad the samples to one shape"
                )
    return {
        "inputs": {
            modality: torch.stack([s.inputs[modality] for s in samples], dim=1 if modality in first.timed else 0)
            for modality in first.inputs
        },
        "present": {modality: torch.tensor([modality not in s.absent for s in samples]) for modality in first.inputs},
        "labels": torch.tensor([sample.label for sample in samples], dtype=torch.int64),
        "ids": [sample.id for sample in samples],
    }
