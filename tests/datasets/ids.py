"""The ids of the samples of a split, without reading them."""

from snn_datasets.base.sample import SampleDataset
from snn_datasets.loading.recorded import RecordedDataset


def ids_of(split: SampleDataset) -> tuple[str, ...]:
    assert isinstance(split, RecordedDataset)
    return split.ids
