"""A manifest of the user's own files: the card, the spec and the options of a column."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, ClassVar, Literal

from pydantic import BaseModel, ConfigDict, Field

from snn_datasets.base.card import DatasetCard
from snn_datasets.base.dataset import DatasetSplits, FileDataSpec, ReportProgress
from snn_datasets.base.reader import Reader
from snn_datasets.base.registries import CODINGS, READERS, Stages
from snn_datasets.base.stage import Stage

CARD = DatasetCard(
    kind="manifest",
    title="Your own files, listed in a table",
    version="1",
    license="LicenseRef-yours",
    citation="",
    sources=("your own files; `scmrl data init` writes a table of a folder",),
    classes=(),
    modalities={},
    splits="from the column split; if no row is val, validation is taken from training",
    notes=(
        "The table is a CSV file (commas, semicolons or tabs) or a Parquet table with one row per sample: columns "
        "split (train, val, test) and label, optionally sample_id and group, and one column of file names per "
        "modality. An empty cell means that the sample lacks that modality.",
        "Rows that belong together, such as those of one speaker, need a column group: groups are not divided when "
        "validation is taken from training. Groups and files shared by splits are reported when the dataset is opened.",
    ),
)


class ColumnSpec(BaseModel):
    """How one column of a manifest is read, if not by the defaults."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

    reader: Annotated[Reader, READERS] | None = None
    """Reader of its files; None: by the file extension."""

    coding: Annotated[Stage, CODINGS] | None = None
    """Coding of a recording as an input; None: the default of its kind. With steps the input is [T, ...], otherwise
    static. The channels of a series are standardized before a window."""

    size: int | None = Field(default=None, ge=4, le=1024)
    """Height and width in pixels of images, videos, spectrograms and event frames; None: the `size` of the
    spec, but that of the sensor for event frames."""

    cached: Stages = ()
    """Stages for every sample before its coding, on recordings as read (sound as one channel at its final rate); their
    results are cached. Transforms of torchaudio and torchvision are given by kind and transform."""

    augment: Stages = ()
    """Stages for training samples, drawn again in each epoch, on the cached values: images and videos of their final
    size, spectrograms, events and series."""


class ManifestSpec(FileDataSpec):
    """Your own files of any modalities, in a CSV or Parquet table with a row per sample and a column per modality."""

    kind: Literal["manifest"] = "manifest"
    """Your own files."""

    root: Path
    """Folder to which file names in the manifest are relative."""

    manifest: Path = Path("manifest.csv")
    """The CSV file or Parquet table, relative to `root` unless absolute."""

    columns: dict[str, ColumnSpec] = Field(default={})
    """Options of single columns, by name."""

    size: int = Field(default=32, ge=4, le=1024)
    """Height and width in pixels to which images, videos and spectrograms are resized."""

    time_steps: int = Field(default=4, ge=1, le=1024)
    """Time steps T of videos, events and series of few rows; images, spectrograms and longer series are static."""

    sample_rate: int | None = Field(default=None, ge=1000, le=384_000)
    """Rate in Hz to which sound is resampled; None: the rate of the first training recording."""

    mel_bands: int = Field(default=64, ge=4, le=512)
    """Number of mel bands of the spectrogram before it is resized."""

    window_ms: float = Field(default=25.0, gt=0.0, le=1000.0)
    """Length of the analysis window in milliseconds."""

    hop_ms: float = Field(default=10.0, gt=0.0, le=1000.0)
    """Hop between analysis windows in milliseconds."""

    dynamic_range_db: float = Field(default=50.0, ge=10.0, le=120.0)
    """Sound more than this many dB below the maximum of a clip counts as silence."""

    val_fraction: float = Field(default=0.15, gt=0.0, lt=1.0)
    """Fraction of the training rows used for validation if the manifest has no val split."""

    image_noise: float = Field(default=0.0, ge=0.0, le=10.0)
    """Standard deviation of Gaussian noise on pixels in [0, 1], drawn once per sample; 0 disables it."""

    image_occlusion: int = Field(default=0, ge=0, le=4096)
    """Side, in pixels of the file, of a black square at a random position in each image; 0 disables it."""

    audio_snr: float | None = Field(default=None, ge=-60.0, le=100.0)
    """Signal-to-noise ratio in dB of white noise added to sound, drawn once per sample; None adds no noise."""

    card: ClassVar[DatasetCard] = CARD

    def check_tables(self) -> tuple[str, ...]:
        """Validate the manifest by row and column; return notes on what its splits share and on rows left out."""
        from snn_datasets.manifest.build import read_manifest

        return read_manifest(self).notes

    def build(self, progress: ReportProgress | None = None) -> DatasetSplits:
        """Validate the table, then read every file into the cache, so that damage is reported before training."""
        from snn_datasets.manifest.build import build_manifest

        return build_manifest(self, progress)
