"""Which samples of a split to explain."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from scmrl.config.overlay.faults import did_you_mean
from scmrl.engine.evaluate import predict_split
from scmrl.engine.parallel import Processes
from snn_datasets import Sample, SampleDataset
from snn_fusion import FusionModel


def drawn(dataset: SampleDataset, candidates: Sequence[int], count: int, *, seed: int) -> list[Sample]:
    """At most `count` samples among these indices, at random and in the order of the split; blank ones are passed over.

    Raises:
        ValueError: none of them has a modality.
    """
    order = np.random.default_rng(seed).permutation(len(candidates))
    found: dict[int, Sample] = {}
    for place in order:
        index = candidates[int(place)]
        sample = dataset[index]
        if len(sample.absent) < len(sample.inputs):
            found[index] = sample
        if len(found) == count:
            break
    if not found:
        raise ValueError(f"none of {len(candidates)} samples has any of its senses: there is nothing to explain")
    return [found[index] for index in sorted(found)]


def named(dataset: SampleDataset, ids: Sequence[str], split: str) -> list[Sample]:
    """The samples of these ids, in their order.

    Raises:
        ValueError: an id that no sample has, or a sample without any modality.
    """
    places = {id_: index for index, id_ in enumerate(_ids(dataset))}
    for id_ in ids:
        if id_ not in places:
            examples = ", ".join(list(places)[:3])
            hint = did_you_mean(id_, places) or f"; they are called {examples}, ..."
            raise ValueError(f"--ids {id_}: no sample of the {split} split has this id{hint}")
    samples = [dataset[places[id_]] for id_ in ids]
    for sample in samples:
        if len(sample.absent) == len(sample.inputs):
            raise ValueError(f"--ids {sample.id}: this sample has none of its senses; there is nothing to explain")
    return samples


def mistaken(model: FusionModel, dataset: SampleDataset, *, batch_size: int, split: str) -> list[int]:
    """Indices of the samples that the model gets wrong.

    Raises:
        ValueError: there are none.
    """
    processes = Processes(0, 1, next(model.parameters()).device)
    said = predict_split(model, dataset, batch_size=batch_size, processes=processes)
    wrong = (said.probabilities.argmax(1) != said.labels).numpy().nonzero()[0]
    if not len(wrong):
        raise ValueError(f"the model is right about all {said.n} samples of the {split} split; leave out --wrong")
    return [int(index) for index in wrong]


def _ids(dataset: SampleDataset) -> Iterator[str]:
    """Ids in order, without reading the samples where the dataset knows them."""
    known: Sequence[str] | None = getattr(dataset, "ids", None)
    yield from known if known is not None else (sample.id for sample in dataset)
