"""Multimodal datasets for spiking networks: files as they lie on disk become batches by modality.

Names load on first use, so that specifications can be read and checked without importing torch.
"""

from importlib import import_module
from importlib.metadata import version
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from snn_datasets.augment import move_and_stretch
    from snn_datasets.card import DatasetCard, FileSet, ModalityCard
    from snn_datasets.dataset import (
        DATASETS,
        AnyDataSpec,
        DatasetInfo,
        DatasetSplits,
        DataSpec,
        FileDataSpec,
        ModalityInfo,
        Progress,
    )
    from snn_datasets.datasets.digits import DigitsSpec
    from snn_datasets.datasets.manifest import ManifestSpec
    from snn_datasets.in_memory import InMemoryDataset
    from snn_datasets.modality import Modality
    from snn_datasets.order import EpochOrder
    from snn_datasets.reader import Reader, ReadError, Source
    from snn_datasets.recorded import RecordedDataset, Row, build_splits
    from snn_datasets.recordings import Events, Image, Recording, Series, Video, Waveform
    from snn_datasets.registry import Registry
    from snn_datasets.sample import Batch, Sample, SampleDataset, collate
    from snn_datasets.stage import Draw, Stage

__version__ = version("snn-datasets")

__all__ = [
    "DATASETS",
    "AnyDataSpec",
    "Batch",
    "DataSpec",
    "DatasetCard",
    "DatasetInfo",
    "DatasetSplits",
    "DigitsSpec",
    "Draw",
    "EpochOrder",
    "Events",
    "FileDataSpec",
    "FileSet",
    "Image",
    "InMemoryDataset",
    "ManifestSpec",
    "Modality",
    "ModalityCard",
    "ModalityInfo",
    "Progress",
    "ReadError",
    "Reader",
    "RecordedDataset",
    "Recording",
    "Registry",
    "Row",
    "Sample",
    "SampleDataset",
    "Series",
    "Source",
    "Stage",
    "Video",
    "Waveform",
    "build_splits",
    "collate",
    "move_and_stretch",
]

_HOMES = {
    "augment": ("move_and_stretch",),
    "card": (
        "DatasetCard",
        "FileSet",
        "ModalityCard",
    ),
    "dataset": (
        "DATASETS",
        "AnyDataSpec",
        "DataSpec",
        "DatasetInfo",
        "DatasetSplits",
        "FileDataSpec",
        "ModalityInfo",
        "Progress",
    ),
    "datasets.digits": ("DigitsSpec",),
    "datasets.manifest": ("ManifestSpec",),
    "in_memory": ("InMemoryDataset",),
    "modality": ("Modality",),
    "order": ("EpochOrder",),
    "reader": (
        "ReadError",
        "Reader",
        "Source",
    ),
    "recorded": (
        "RecordedDataset",
        "Row",
        "build_splits",
    ),
    "recordings": (
        "Events",
        "Image",
        "Recording",
        "Series",
        "Video",
        "Waveform",
    ),
    "registry": ("Registry",),
    "sample": (
        "Batch",
        "Sample",
        "SampleDataset",
        "collate",
    ),
    "stage": (
        "Draw",
        "Stage",
    ),
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
