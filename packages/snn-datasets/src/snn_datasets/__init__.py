"""Multimodal datasets for spiking networks: files as they lie on disk become batches by modality.

Names load on first use, so that specifications can be read and checked without importing torch.
"""

from importlib import import_module
from importlib.metadata import version
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from snn_datasets.augment import random_affine
    from snn_datasets.dataset import DATASETS, DatasetInfo, DatasetRegistry, DatasetSplits, DataSpec, Progress
    from snn_datasets.in_memory import InMemoryDataset
    from snn_datasets.sample import Batch, Sample, SampleDataset, collate
    from snn_datasets.specs import AnyDataSpec, DigitsSpec, ManifestSpec

__version__ = version("snn-datasets")

__all__ = [
    "DATASETS",
    "AnyDataSpec",
    "Batch",
    "DataSpec",
    "DatasetInfo",
    "DatasetRegistry",
    "DatasetSplits",
    "DigitsSpec",
    "InMemoryDataset",
    "ManifestSpec",
    "Progress",
    "Sample",
    "SampleDataset",
    "collate",
    "random_affine",
]

_HOMES = {
    "augment": ("random_affine",),
    # specs, not dataset: importing it is what fills the registry.
    "specs": ("AnyDataSpec", "DATASETS", "DigitsSpec", "ManifestSpec"),
    "dataset": ("DataSpec", "DatasetInfo", "DatasetRegistry", "DatasetSplits", "Progress"),
    "in_memory": ("InMemoryDataset",),
    "sample": ("Batch", "Sample", "SampleDataset", "collate"),
}
_HOME_OF = {name: module for module, names in _HOMES.items() for name in names}


def __getattr__(name: str) -> object:
    if name not in _HOME_OF:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value: object = getattr(import_module(f".{_HOME_OF[name]}", __name__), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
