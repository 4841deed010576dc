"""A split held in memory."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from torch import Tensor

from snn_datasets.base.sample import Sample, SampleDataset


class InMemoryDataset(SampleDataset):
    """N samples as one tensor per modality; a sample is a view of one row.

    Args:
        inputs: modality -> [N, ...], or [N, T, ...] with time.
        labels: N class indices.
        ids: N sample ids.
        timed: modalities with a time axis.
    """

    def __init__(
        self, inputs: dict[str, Tensor], *, labels: Sequence[int], ids: Sequence[str], timed: Iterable[str] = ()
    ) -> None:
        assert len(labels) == len(ids)
        assert all(len(values) == len(ids) for values in inputs.values())
        self.inputs = inputs
        self.labels = tuple(labels)
        self.ids = tuple(ids)
        self.timed = frozenset(timed)
        assert self.timed <= inputs.keys()

    def __len__(self) -> int:
        """Return the number of samples N."""
        return len(self.ids)

    def __getitem__(self, index: int | tuple[int, int]) -> Sample:
        """Return one sample, the same in every epoch; negative indices count from the end."""
        if isinstance(index, tuple):
            index = index[1]
        inputs = {modality: values[index] for modality, values in self.inputs.items()}
        return Sample(id=self.ids[index], inputs=inputs, label=self.labels[index], timed=self.timed)
