"""The dataset specifications of this package, free of torch: `build` imports the loader when it is needed."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from pydantic import AfterValidator, BeforeValidator, Field, field_validator

from snn_datasets.dataset import DATASETS, DatasetSplits, DataSpec, Progress

DIGITS_MODALITIES = ("audio", "visual")
"""What the embedded digits can be seen or heard through."""


def _split_names(value: object) -> object:
    """Let "image,audio" stand for ("image", "audio"), as one writes it on a command line."""
    if isinstance(value, str):
        return tuple(name.strip() for name in value.split(",")) if value.strip() else ()
    return value


def _refuse_repeats(names: tuple[str, ...]) -> tuple[str, ...]:
    if "" in names:
        raise ValueError(f"a modality name is empty in {names}; remove the stray comma")
    repeated = sorted({name for name in names if names.count(name) > 1})
    if repeated:
        raise ValueError(f"modalities {repeated} are listed more than once in {names}; list each of them once")
    return names


Modalities = Annotated[tuple[str, ...], BeforeValidator(_split_names), AfterValidator(_refuse_repeats)]
"""Modality names in order; also read from one comma separated string."""


@DATASETS.register
class DigitsSpec(DataSpec):
    """Handwritten digits, each with a synthetic utterance of the same digit; embedded, so nothing is downloaded."""

    kind: Literal["digits"] = "digits"

    modalities: Modalities = DIGITS_MODALITIES
    """Which of "audio" and "visual" to build, in this order. What a sense shows does not depend on the others."""

    seed: int = Field(default=0, ge=0, lt=2**32)
    """Draws speakers, utterances and noise. The images of each split are the same for every seed."""

    image_noise: float = Field(default=0.5, ge=0.0, le=10.0)
    """Standard deviation of the Gaussian pixel noise, where 0 is paper and 1 is full ink; 0 switches it off."""

    image_occlusion: int = Field(default=0, ge=0, le=16)
    """Side in pixels (of 16) of a blank square put at a random place over each image; 0 switches it off."""

    audio_snr: float = Field(default=-9.0, ge=-60.0, le=100.0)
    """Speech power over noise power in dB, measured over each utterance; 100 is practically clean."""

    @field_validator("modalities")
    @classmethod
    def _known_modalities(cls, names: tuple[str, ...]) -> tuple[str, ...]:
        unknown = [name for name in names if name not in DIGITS_MODALITIES]
        if unknown or not names:
            problem = f"unknown digits modality {unknown[0]!r}" if unknown else "no digits modality given"
            raise ValueError(f"{problem}; choose among {', '.join(DIGITS_MODALITIES)}")
        return names

    def build(self, progress: Progress | None = None) -> DatasetSplits:
        """Draw the 1,797 samples; takes a few seconds."""
        from snn_datasets.digits import build_digits

        return build_digits(
            modalities=self.modalities,
            seed=self.seed,
            image_noise=self.image_noise,
            image_occlusion=self.image_occlusion,
            audio_snr=self.audio_snr,
            progress=progress,
        )


@DATASETS.register
class ManifestSpec(DataSpec):
    """Your own pictures and recordings, listed in a CSV file with one row a sample and one column a modality."""

    kind: Literal["manifest"] = "manifest"

    root: Path
    """Folder that relative file names of the manifest start from."""

    manifest: Path = Path("manifest.csv")
    """The CSV file, relative to `root` unless absolute."""

    modalities: Modalities = ()
    """Columns to read, in this order; empty means every column that is not split, label, sample_id or group."""

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

    seed: int = Field(default=0, ge=0, lt=2**32)
    """Chooses which rows or groups are carved out for validation, and draws noise and squares."""

    memory_limit_gb: float = Field(default=4.0, gt=0.0)
    """Largest size in GB (10^9 bytes) of all prepared samples together; a larger dataset is refused before reading."""

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


AnyDataSpec = Annotated[DigitsSpec | ManifestSpec, Field(discriminator="kind")]
"""Any dataset of this package, told apart by `kind`."""
