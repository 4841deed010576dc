"""A part of the training samples, with every class as frequent as in the whole."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import replace

from snn_datasets import DatasetSplits, Sample, SampleDataset


class TrainingSubset(SampleDataset):
    """Some samples of a dataset.

    Args:
        whole: the dataset.
        places: which of its samples, in this order.
    """

    def __init__(self, whole: SampleDataset, places: Sequence[int]) -> None:
        self.whole, self.places = whole, tuple(places)
        self.labels = tuple(whole.labels[place] for place in self.places)
        self.has_absences = whole.has_absences

    def __len__(self) -> int:
        """Return the number of samples."""
        return len(self.places)

    def __getitem__(self, index: int | tuple[int, int]) -> Sample:
        """One sample; (epoch, index) draws the augmentation of that epoch."""
        if isinstance(index, tuple):
            return self.whole[index[0], self.places[index[1]]]
        return self.whole[self.places[index]]


def take_fraction(splits: DatasetSplits, share: float, *, seed: int) -> DatasetSplits:
    """The splits with a share of the training samples; validation and test stay whole.

    Args:
        splits: of a dataset.
        share: more than 0, at most 1.
        seed: decides which.
    """
    if share == 1:
        return splits
    return replace(
        splits, train=TrainingSubset(splits.train, stratified_indices(splits.train.labels, share, seed=seed))
    )


def stratified_indices(labels: Sequence[int], share: float, *, seed: int) -> list[int]:
    """Places of a share of N samples, in ascending order.

    Classes are as frequent as in the whole but for rounding, none is empty, and with the same seed a larger share
    holds a smaller one.
    """
    draw = random.Random(seed)
    of_class: dict[int, list[int]] = {}
    for place, label in enumerate(labels):
        of_class.setdefault(label, []).append(place)
    rank: dict[int, tuple[float, float]] = {}
    for _, places in sorted(of_class.items()):
        shuffled = sorted(places, key=lambda _: draw.random())
        # Which share of its class a sample is in the middle of, but the first is in every share. Among equals chance
        # decides, not the order of classes.
        middles = [0.0, *((number + 0.5) / len(places) for number in range(1, len(places)))]
        rank.update({place: (middle, draw.random()) for place, middle in zip(shuffled, middles, strict=True)})
    count = max(len(of_class), round(share * len(labels)))
    return sorted(sorted(rank, key=lambda place: rank[place])[:count])
