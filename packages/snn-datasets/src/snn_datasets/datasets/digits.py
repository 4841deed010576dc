"""The embedded digits."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from pydantic import Field

from snn_datasets.card import DatasetCard, ModalityCard
from snn_datasets.dataset import DatasetSplits, DataSpec, Progress

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
        "The utterances come from a formant synthesizer; the touches from a simulated pad, on which a finger follows a "
        "path fitted to the ink of the image."
    ),
    notes=(
        "To try things out; not comparable with published results.",
        "Audio and visual are read unless modalities says otherwise; touch is asked for by name.",
    ),
)


class DigitsSpec(DataSpec):
    """Handwritten digits, each with a synthetic utterance of the same digit, and a synthetic touch of its writing.

    Embedded, so nothing is downloaded. Without `modalities`, audio and visual are read.
    """

    kind: Literal["digits"] = "digits"

    seed: int = Field(default=0, ge=0, lt=2**32)
    """Draws speakers, utterances, the way digits are touched, and noise. The images of each split are the same for
    every seed."""

    image_noise: float = Field(default=0.5, ge=0.0, le=10.0)
    """Standard deviation of the Gaussian pixel noise, where 0 is paper and 1 is full ink; 0 switches it off."""

    image_occlusion: int = Field(default=0, ge=0, le=16)
    """Side in pixels (of 16) of a blank square put at a random place over each image; 0 switches it off."""

    audio_snr: float = Field(default=-9.0, ge=-60.0, le=100.0)
    """Speech power over noise power in dB, measured over each utterance; 100 is practically clean."""

    touch_missed: float = Field(default=0.5, ge=0.0, le=1.0)
    """Chance of each press of a taxel to go unnoticed; 0 switches it off."""

    touch_noise: float = Field(default=0.2, ge=0.0, le=2.0)
    """Presses a second at each of the 100 taxels that nobody made; 0 switches it off."""

    time_steps: int = Field(default=4, ge=1, le=2000)
    """Time steps T of touch, equal parts of its 2 s; the other senses are static."""

    cache: Literal["auto", "off"] = "auto"
    """Whether samples are kept on disk once they are made, and taken from there next time."""

    cache_folder: Path | None = None
    """Folder of the caches of all datasets; none: $SNN_DATASETS_CACHE, or snn-datasets in the user's cache folder."""

    @classmethod
    def card(cls) -> DatasetCard:
        """What there is to know about this dataset."""
        return CARD

    def selected_modalities(self) -> tuple[str, ...]:
        """The senses to read: those asked for, or audio and visual.

        Raises:
            ValueError: one that the dataset does not have.
        """
        return super().selected_modalities() if self.modalities else ("audio", "visual")

    def build(self, progress: Progress | None = None) -> DatasetSplits:
        """Make the 1,797 samples, which takes a few seconds, or take them from the cache."""
        from snn_datasets.digits import build_digits

        return build_digits(self, progress)
