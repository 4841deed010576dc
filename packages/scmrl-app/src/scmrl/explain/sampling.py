"""Select the samples of a split to explain."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from scmrl.config.overlay.faults import did_you_mean
from scmrl.engine.evaluate import predict_split
from scmrl.engine.parallel import Processes
from snn_datasets import Sample, SampleDataset
from snn_fusion import FusionModel


def draw_samples(dataset: SampleDataset, candidates: Sequence[int], count: int, *, seed: int) -> list[Sample]:
    """Draw at most `count` samples from these indices at random, in the order of the split; skip blank samples.

    Raises:
        ValueError: no candidate has a modality.
    """
    order = np.random.default_rng(seed).permutation(len(candidates))
    samples: dict[int, Sample] = {}
    for position in order:
        index = candidates[int(position)]
        sample = dataset[index]
        if len(sample.absent) < len(sample.inputs):
            samples[index] = sample
        if len(samples) == count:
            break
    if not samples:
        raise ValueError(f"none of {len(candidates)} samples has any modality; there is nothing to explain")
    return [samples[index] for index in sorted(samples)]


def samples_by_id(dataset: SampleDataset, ids: Sequence[str], split: str) -> list[Sample]:
    """Return the samples with these ids, in their order.

    Raises:
        ValueError: no sample has an id, or a sample has no modality.
    """
    indices = {id_: index for index, id_ in enumerate(_ids(dataset))}
    for id_ in ids:
        if id_ not in indices:
            hint = did_you_mean(id_, indices) or f"; ids look like {', '.join(list(indices)[:3])}, ..."
            raise ValueError(f"--ids {id_}: no sample of the {split} split has this id{hint}")
    samples = [dataset[indices[id_]] for id_ in ids]
    for sample in samples:
        if len(sample.absent) == len(sample.inputs):
            raise ValueError(f"--ids {sample.id}: this sample has no modality; there is nothing to explain")
    return samples


def misclassified(model: FusionModel, dataset: SampleDataset, *, batch_size: int, split: str) -> list[int]:
    """Return the indices of the misclassified samples.

    Raises:
        ValueError: all predictions are correct.
    """
    processes = Processes.single(next(model.parameters()).device)
    predictions = predict_split(model, dataset, batch_size=batch_size, processes=processes)
    wrong = (predictions.probabilities.argmax(1) != predictions.labels).numpy().nonzero()[0]
    if not len(wrong):
        raise ValueError(f"all {predictions.n} predictions on the {split} split are correct; omit --wrong")
    return [int(index) for index in wrong]


def _ids(dataset: SampleDataset) -> Iterator[str]:
    """Yield ids in order, without reading the samples if the dataset knows the ids."""
    known: Sequence[str] | None = getattr(dataset, "ids", None)
    yield from known if known is not None else (sample.id for sample in dataset)
