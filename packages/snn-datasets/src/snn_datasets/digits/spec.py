"""Digits, the embedded dataset: its card and its spec."""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar, Literal

from pydantic import Field

from snn_datasets.base.card import DatasetCard, ModalityCard
from snn_datasets.base.dataset import DatasetSplits, DataSpec, ReportProgress

CARD = DatasetCard(
    kind="digits",
    title="Handwritten digits with synthetic utterances and touches",
    version="2",
    license="CC-BY-4.0",
    license_note=(
        "of the images (UCI machine learning repository); the utterances and touches are this project's, Apache-2.0"
    ),
    citation="Alpaydin and Kaynak 1998, Optical Recognition of Handwritten Digits, UCI machine learning repository",
    sources=("embedded: the images ship with scikit-learn",),
    classes=tuple("0123456789"),
    modalities={
        "audio": ModalityCard(kind="waveform", shape="[1, 16, 16]", unit="log mel power, standardized", synthetic=True),
        "visual": ModalityCard(kind="image", shape="[1, 16, 16]", unit="ink, 0 to 1 before noise"),
        "touch": ModalityCard(kind="events", shape="[T, 2, 10, 10]", unit="events by taxel and step", synthetic=True),
    },
    splits=(
        "1,097 training, 200 validation and 500 test images, cut from each class in file order; no synthetic speaker "
        "is in two of them"
    ),
    synthetic=(
        "Utterances come from a formant synthesizer, touches from a simulated pad on which a finger follows a path "
        "fitted to the ink of the image."
    ),
    notes=(
        "For first experiments; not comparable with published results.",
        "By default audio and visual are read; touch must be named in modalities.",
    ),
)


class DigitsSpec(DataSpec):
    """Handwritten digits, each with a synthetic utterance of the same digit and a synthetic touch of its writing.

    Embedded: nothing is downloaded. By default audio and visual are read.
    """

    kind: Literal["digits"] = "digits"

    seed: int = Field(default=0, ge=0, lt=2**32)
    """Seed of speakers, utterances, touches and noise. The images of each split do not depend on it."""

    image_noise: float = Field(default=0.5, ge=0.0, le=10.0)
    """Standard deviation of the Gaussian pixel noise, with paper 0 and full ink 1; 0 disables it."""

    image_occlusion: int = Field(default=0, ge=0, le=16)
    """Side in pixels (of 16) of a blank square at a random position in each image; 0 disables it."""

    audio_snr: float = Field(default=-9.0, ge=-60.0, le=100.0)
    """Signal-to-noise ratio of each utterance in dB; 100 is practically clean."""

    touch_missed: float = Field(default=0.5, ge=0.0, le=1.0)
    """Probability that a press of a taxel is missed; 0 disables it."""

    touch_noise: float = Field(default=0.2, ge=0.0, le=2.0)
    """Rate of stray presses per second at each of the 100 taxels; 0 disables them."""

    time_steps: int = Field(default=4, ge=1, le=2000)
    """Time steps T of touch, equal parts of its 2 s; the other modalities are static."""

    cache: Literal["auto", "off"] = "auto"
    """Whether samples are stored on disk and read from there the next time."""

    cache_folder: Path | None = None
    """Folder of the caches of all datasets; None: $SNN_DATASETS_CACHE, or snn-datasets in the user's cache folder."""

    card: ClassVar[DatasetCard] = CARD

    def selected_modalities(self) -> tuple[str, ...]:
        """Return the modalities to read: the requested ones, or audio and visual.

        Raises:
            ValueError: the dataset does not have one of them.
        """
        return super().selected_modalities() if self.modalities else ("audio", "visual")

    def build(self, progress: ReportProgress | None = None) -> DatasetSplits:
        """Generate the 1,797 samples, which takes a few seconds, or read them from the cache."""
        from snn_datasets.digits.build import build_digits

        return build_digits(self, progress)
