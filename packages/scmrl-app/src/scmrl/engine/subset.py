"""A stratified subset of the training samples."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import replace

from snn_datasets import DatasetSplits, Sample, SampleDataset


class TrainingSubset(SampleDataset):
    """Some samples of a dataset.

    Args:
        dataset: the whole dataset.
        indices: of the selected samples, in this order.
    """

    def __init__(self, dataset: SampleDataset, indices: Sequence[int]) -> None:
        self.dataset, self.indices = dataset, tuple(indices)
        self.labels = tuple(dataset.labels[index] for index in self.indices)
        self.has_absences = dataset.has_absences

    def __len__(self) -> int:
        """Return the number of samples."""
        return len(self.indices)

    def __getitem__(self, index: int | tuple[int, int]) -> Sample:
        """Return one sample; (epoch, index) draws the augmentation of that epoch."""
        if isinstance(index, tuple):
            return self.dataset[index[0], self.indices[index[1]]]
        return self.dataset[self.indices[index]]


def take_fraction(splits: DatasetSplits, fraction: float, *, seed: int) -> DatasetSplits:
    """Return the splits with a fraction of the training samples; validation and test stay whole.

    Args:
        splits: of a dataset.
        fraction: more than 0, at most 1.
        seed: selects the samples.
    """
    if fraction == 1:
        return splits
    return replace(
        splits, train=TrainingSubset(splits.train, stratified_indices(splits.train.labels, fraction, seed=seed))
    )


def stratified_indices(labels: Sequence[int], fraction: float, *, seed: int) -> list[int]:
    """Indices of a fraction of N samples, in ascending order.

    Class frequencies are those of the whole up to rounding, no class is empty, and with the same seed a larger fraction
    contains a smaller one.
    """
    rng = random.Random(seed)
    by_class: dict[int, list[int]] = {}
    for index, label in enumerate(labels):
        by_class.setdefault(label, []).append(index)
    rank: dict[int, tuple[float, float]] = {}
    for _, indices in sorted(by_class.items()):
        shuffled = sorted(indices, key=lambda _: rng.random())
        # The quantile of a sample in its shuffled class; the first sample is in every fraction. Ties are broken at
        # random, not by the order of classes.
        quantiles = [0.0, *((number + 0.5) / len(indices) for number in range(1, len(indices)))]
        rank.update({index: (quantile, rng.random()) for index, quantile in zip(shuffled, quantiles, strict=True)})
    count = max(len(by_class), round(fraction * len(labels)))
    return sorted(sorted(rank, key=lambda index: rank[index])[:count])
