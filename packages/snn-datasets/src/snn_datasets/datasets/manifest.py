"""Your own files."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

from snn_datasets.card import DatasetCard
from snn_datasets.dataset import DatasetSplits, FileDataSpec, Progress
from snn_datasets.reader import Reader
from snn_datasets.registries import CODINGS, READERS, Stages
from snn_datasets.stage import Stage

CARD = DatasetCard(
    kind="manifest",
    title="Your own files, listed in a table",
    version="1",
    license="LicenseRef-yours",
    citation="",
    sources=("your own files; `scmrl data init` writes a first table of a folder",),
    classes=(),
    modalities={},
    splits="as the column split says; validation is carved out of training where no row says val",
    notes=(
        "The table is a CSV file (commas, semicolons or tabs) or a Parquet table, with a row a sample: columns split "
        "(train, val, test) and label, if you like sample_id and group, and one column of file names for each sense. "
        "An empty cell means that the sample lacks that sense.",
        "Rows that belong together, such as those of one speaker, need a column group: groups stay whole where "
        "validation is carved out. What splits share, groups or files, is told when the dataset is opened.",
    ),
)


class ColumnSpec(BaseModel):
    """How one column of a manifest is read, where the defaults do not suit it."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

    reader: Annotated[Reader, READERS] | None = None
    """What reads its files; none guesses by the endings of their names."""

    encode: Annotated[Stage, CODINGS] | None = None
    """What makes an input of a recording; none does what is usual for its kind. One that has steps makes [T, ...], all
    others a static input. Before a window of a series its channels are standardized."""

    size: int | None = Field(default=None, ge=4, le=1024)
    """Height and width in pixels of pictures, videos, spectrograms and event frames; none takes image_size, and leaves
    event frames as large as the sensor."""

    prepare: Stages = ()
    """Stages for every sample before it is encoded, on recordings as they are read (sound as one channel at its final
    rate); what they make is cached. Transforms of torchaudio and torchvision go by kind and transform."""

    augment: Stages = ()
    """Stages for training samples, drawn anew each epoch, on what is cached: pictures and videos of their final size,
    spectrograms, events and series."""


class ManifestSpec(FileDataSpec):
    """Your own files of any senses, listed in a CSV file or Parquet table: a row a sample, a column a modality."""

    kind: Literal["manifest"] = "manifest"
    """Names this dataset."""

    root: Path
    """Folder that relative file names of the manifest start from."""

    manifest: Path = Path("manifest.csv")
    """The CSV file or Parquet table, relative to `root` unless absolute."""

    columns: dict[str, ColumnSpec] = Field(default={})
    """How columns are read that need more than the defaults."""

    image_size: int = Field(default=32, ge=4, le=1024)
    """Height and width in pixels that images, videos and spectrograms are stretched to."""

    time_steps: int = Field(default=4, ge=1, le=1024)
    """Time steps T that videos, events and series of few rows are dealt to; images, spectrograms and longer series are
    static."""

    sample_rate: int | None = Field(default=None, ge=1000, le=384_000)
    """Rate in Hz that recordings are resampled to; none takes the rate of the first training recording."""

    mel_bands: int = Field(default=64, ge=4, le=512)
    """Number of mel bands of the spectrogram before it is resized."""

    window_ms: float = Field(default=25.0, gt=0.0, le=1000.0)
    """Length of the analysis window in milliseconds."""

    hop_ms: float = Field(default=10.0, gt=0.0, le=1000.0)
    """Step from one analysis window to the next in milliseconds."""

    dynamic_range_db: float = Field(default=50.0, ge=10.0, le=120.0)
    """Sound more than this many dB under a clip's loudest spot counts as silence."""

    val_fraction: float = Field(default=0.15, gt=0.0, lt=1.0)
    """Share of the training rows carved out for validation when the manifest has no val split."""

    image_noise: float = Field(default=0.0, ge=0.0, le=10.0)
    """Standard deviation of Gaussian noise on pixels in [0, 1], drawn once a sample, to make a clean set hard."""

    image_occlusion: int = Field(default=0, ge=0, le=4096)
    """Side in pixels of the file of one black square put at a random place over each image; 0 switches it off."""

    audio_snr: float | None = Field(default=None, ge=-60.0, le=100.0)
    """Recording's power over that of added white noise in dB, drawn once a sample; none adds no noise."""

    @classmethod
    def card(cls) -> DatasetCard:
        """What there is to know about this dataset."""
        return CARD

    def check_tables(self) -> tuple[str, ...]:
        """Check the manifest by row and column; what its splits share, and rows that are left out."""
        from snn_datasets.manifest import read_manifest

        return read_manifest(self).notes

    def build(self, progress: Progress | None = None) -> DatasetSplits:
        """Check the table, then read every file once into the cache, so that a broken one is found before training."""
        from snn_datasets.manifest import build_manifest

        return build_manifest(self, progress)
