"""Your own files."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from pydantic import Field

from snn_datasets.card import DatasetCard
from snn_datasets.dataset import DatasetSplits, DataSpec, Progress

CARD = DatasetCard(
    kind="manifest",
    title="Your own files, listed in a table",
    version="1",
    licence="LicenseRef-yours",
    citation="",
    sources=("your own files",),
    classes=(),
    modalities={},
    splits="as the column split says; validation is carved out of training where no row says val",
)


class ManifestSpec(DataSpec):
    """Your own pictures and recordings, listed in a CSV file with one row a sample and one column a modality."""

    kind: Literal["manifest"] = "manifest"

    root: Path
    """Folder that relative file names of the manifest start from."""

    manifest: Path = Path("manifest.csv")
    """The CSV file, relative to `root` unless absolute."""

    image_size: int = Field(default=32, ge=4, le=1024)
    """Height and width in pixels of every input, images and spectrograms alike."""

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

    memory_limit_gb: float = Field(default=4.0, gt=0.0)
    """Largest size in GB (10^9 bytes) of all prepared samples together; a larger dataset is refused before reading."""

    @classmethod
    def card(cls) -> DatasetCard:
        """What there is to know about this dataset."""
        return CARD

    def build(self, progress: Progress | None = None) -> DatasetSplits:
        """Read every file once, so that a broken one is found before training starts."""
        from snn_datasets.corruption import Corruption
        from snn_datasets.manifest import build_manifest

        return build_manifest(
            root=self.root,
            manifest=self.manifest,
            modalities=self.modalities,
            image_size=self.image_size,
            sample_rate=self.sample_rate,
            mel_bands=self.mel_bands,
            window_ms=self.window_ms,
            hop_ms=self.hop_ms,
            dynamic_range_db=self.dynamic_range_db,
            val_fraction=self.val_fraction,
            seed=self.seed,
            memory_limit_gb=self.memory_limit_gb,
            corruption=Corruption(self.image_noise, self.image_occlusion, self.audio_snr, self.seed),
            progress=progress,
        )
