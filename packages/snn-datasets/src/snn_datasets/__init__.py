"""Multimodal datasets for spiking networks: files on disk become batches by modality.

Names load on first use, so that specs can be read and checked without importing torch.
"""

from importlib import import_module
from importlib.metadata import version
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from snn_datasets.aedat import Aedat2Reader, Aedat3Reader
    from snn_datasets.audio import Clamp, FitLength, Mono, Resample, WaveformReader
    from snn_datasets.augment import move_and_stretch
    from snn_datasets.cache_folder import CacheEntry
    from snn_datasets.card import DatasetCard, FileSet, ModalityCard
    from snn_datasets.card_text import describe
    from snn_datasets.corruption import (
        AudioNoise,
        EventDrop,
        EventNoise,
        FrameDrop,
        ImageNoise,
        ImageOcclusion,
        SeriesNoise,
    )
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
    from snn_datasets.datasets.crema_d import CremaDSpec
    from snn_datasets.datasets.digits import DigitsSpec
    from snn_datasets.datasets.dvs128_gesture import Dvs128GestureSpec
    from snn_datasets.datasets.gas import GasDriftSpec, GasMixturesSpec
    from snn_datasets.datasets.hand_gestures import HandGesturesSpec, convert_davis
    from snn_datasets.datasets.manifest import ColumnSpec, ManifestSpec
    from snn_datasets.datasets.mnistdvs_ntidigits import MnistDvsNTidigitsSpec
    from snn_datasets.datasets.mnistdvs_ntidigits_stmnist import MnistDvsNTidigitsStMnistSpec
    from snn_datasets.datasets.shd import ShdSpec
    from snn_datasets.datasets.st_mnist import StMnistSpec
    from snn_datasets.datasets.urbansound8k_av import UrbanSound8KAVSpec
    from snn_datasets.datasets.video_folders import AveSpec, KineticsSoundsSpec
    from snn_datasets.encoding import (
        Bernoulli,
        EventFrames,
        Frames,
        Latency,
        LogMagnitude,
        LogMel,
        Picture,
        SendOnDelta,
        Steps,
    )
    from snn_datasets.events import EventsReader, FitDuration, FlattenFrames, Fold, ScalePlane, Shift, StretchFrames
    from snn_datasets.hdf5 import NTidigitsReader, ShdReader
    from snn_datasets.images import CenterCrop, ImageReader, Normalize, RandomFlip, RandomResizedCrop, Resize
    from snn_datasets.in_memory import InMemoryDataset
    from snn_datasets.manifest_init import Guess, init_manifest
    from snn_datasets.modality import Modality
    from snn_datasets.order import EpochOrder
    from snn_datasets.pairing import Item, pair_by_label
    from snn_datasets.reader import Reader, ReadError, Source
    from snn_datasets.recorded import RecordedDataset, Row, build_splits
    from snn_datasets.recordings import Events, Image, Recording, Series, Video, Waveform
    from snn_datasets.registries import CODINGS, READERS
    from snn_datasets.registry import Registry
    from snn_datasets.sample import Batch, Sample, SampleDataset, collate
    from snn_datasets.series import Rectify, ResampleSeries, SeriesReader, Standardize, SubtractBaseline, Window
    from snn_datasets.splits import split_of
    from snn_datasets.stage import Draw, Stage
    from snn_datasets.taxels import StMnistReader
    from snn_datasets.video import FirstFrame, SoundtrackReader, VideoReader
    from snn_datasets.windows import SeriesWindows

__version__ = version("snn-datasets")

__all__ = [
    "CODINGS",
    "DATASETS",
    "READERS",
    "Aedat2Reader",
    "Aedat3Reader",
    "AnyDataSpec",
    "AudioNoise",
    "AveSpec",
    "Batch",
    "Bernoulli",
    "CacheEntry",
    "CenterCrop",
    "Clamp",
    "ColumnSpec",
    "CremaDSpec",
    "DataSpec",
    "DatasetCard",
    "DatasetInfo",
    "DatasetSplits",
    "DigitsSpec",
    "Draw",
    "Dvs128GestureSpec",
    "EpochOrder",
    "EventDrop",
    "EventFrames",
    "EventNoise",
    "Events",
    "EventsReader",
    "FileDataSpec",
    "FileSet",
    "FirstFrame",
    "FitDuration",
    "FitLength",
    "FlattenFrames",
    "Fold",
    "FrameDrop",
    "Frames",
    "GasDriftSpec",
    "GasMixturesSpec",
    "Guess",
    "HandGesturesSpec",
    "Image",
    "ImageNoise",
    "ImageOcclusion",
    "ImageReader",
    "InMemoryDataset",
    "Item",
    "KineticsSoundsSpec",
    "Latency",
    "LogMagnitude",
    "LogMel",
    "ManifestSpec",
    "MnistDvsNTidigitsSpec",
    "MnistDvsNTidigitsStMnistSpec",
    "Modality",
    "ModalityCard",
    "ModalityInfo",
    "Mono",
    "NTidigitsReader",
    "Normalize",
    "Picture",
    "Progress",
    "RandomFlip",
    "RandomResizedCrop",
    "ReadError",
    "Reader",
    "RecordedDataset",
    "Recording",
    "Rectify",
    "Registry",
    "Resample",
    "ResampleSeries",
    "Resize",
    "Row",
    "Sample",
    "SampleDataset",
    "ScalePlane",
    "SendOnDelta",
    "Series",
    "SeriesNoise",
    "SeriesReader",
    "SeriesWindows",
    "ShdReader",
    "ShdSpec",
    "Shift",
    "SoundtrackReader",
    "Source",
    "StMnistReader",
    "StMnistSpec",
    "Stage",
    "Standardize",
    "Steps",
    "StretchFrames",
    "SubtractBaseline",
    "UrbanSound8KAVSpec",
    "Video",
    "VideoReader",
    "Waveform",
    "WaveformReader",
    "Window",
    "build_splits",
    "collate",
    "convert_davis",
    "describe",
    "init_manifest",
    "move_and_stretch",
    "pair_by_label",
    "split_of",
]

_HOMES = {
    "aedat": (
        "Aedat2Reader",
        "Aedat3Reader",
    ),
    "audio": (
        "Clamp",
        "FitLength",
        "Mono",
        "Resample",
        "WaveformReader",
    ),
    "augment": ("move_and_stretch",),
    "cache_folder": ("CacheEntry",),
    "card": (
        "DatasetCard",
        "FileSet",
        "ModalityCard",
    ),
    "card_text": ("describe",),
    "corruption": (
        "AudioNoise",
        "EventDrop",
        "EventNoise",
        "FrameDrop",
        "ImageNoise",
        "ImageOcclusion",
        "SeriesNoise",
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
    "datasets.crema_d": ("CremaDSpec",),
    "datasets.digits": ("DigitsSpec",),
    "datasets.dvs128_gesture": ("Dvs128GestureSpec",),
    "datasets.gas": (
        "GasDriftSpec",
        "GasMixturesSpec",
    ),
    "datasets.hand_gestures": (
        "HandGesturesSpec",
        "convert_davis",
    ),
    "datasets.manifest": (
        "ColumnSpec",
        "ManifestSpec",
    ),
    "datasets.mnistdvs_ntidigits": ("MnistDvsNTidigitsSpec",),
    "datasets.mnistdvs_ntidigits_stmnist": ("MnistDvsNTidigitsStMnistSpec",),
    "datasets.shd": ("ShdSpec",),
    "datasets.st_mnist": ("StMnistSpec",),
    "datasets.urbansound8k_av": ("UrbanSound8KAVSpec",),
    "datasets.video_folders": (
        "AveSpec",
        "KineticsSoundsSpec",
    ),
    "encoding": (
        "Bernoulli",
        "EventFrames",
        "Frames",
        "Latency",
        "LogMagnitude",
        "LogMel",
        "Picture",
        "SendOnDelta",
        "Steps",
    ),
    "events": (
        "EventsReader",
        "FitDuration",
        "FlattenFrames",
        "Fold",
        "ScalePlane",
        "Shift",
        "StretchFrames",
    ),
    "hdf5": (
        "NTidigitsReader",
        "ShdReader",
    ),
    "images": (
        "CenterCrop",
        "ImageReader",
        "Normalize",
        "RandomFlip",
        "RandomResizedCrop",
        "Resize",
    ),
    "in_memory": ("InMemoryDataset",),
    "manifest_init": (
        "Guess",
        "init_manifest",
    ),
    "modality": ("Modality",),
    "order": ("EpochOrder",),
    "pairing": (
        "Item",
        "pair_by_label",
    ),
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
    "registries": (
        "CODINGS",
        "READERS",
    ),
    "registry": ("Registry",),
    "sample": (
        "Batch",
        "Sample",
        "SampleDataset",
        "collate",
    ),
    "series": (
        "Rectify",
        "ResampleSeries",
        "SeriesReader",
        "Standardize",
        "SubtractBaseline",
        "Window",
    ),
    "splits": ("split_of",),
    "stage": (
        "Draw",
        "Stage",
    ),
    "taxels": ("StMnistReader",),
    "video": (
        "SoundtrackReader",
        "FirstFrame",
        "VideoReader",
    ),
    "windows": ("SeriesWindows",),
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
