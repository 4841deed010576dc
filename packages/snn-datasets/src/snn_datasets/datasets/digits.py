"""The embedded digits."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from snn_datasets.card import DatasetCard, ModalityCard
from snn_datasets.dataset import DatasetSplits, DataSpec, Progress

CARD = DatasetCard(
    kind="digits",
    title="Handwritten digits with synthetic utterances",
    version="1",
    licence="CC-BY-4.0",
    licence_note="of the images (UCI machine learning repository); the utterances are this project's, Apache-2.0",
    citation="Alpaydin and Kaynak 1998, Optical Recognition of Handwritten Digits, UCI machine learning repository",
    sources=("embedded: the images ship with scikit-learn",),
    classes=tuple("0123456789"),
    modalities={
        "audio": ModalityCard(kind="waveform", shape="[1, 16, 16]", unit="log mel power, standardised", synthetic=True),
        "visual": ModalityCard(kind="image", shape="[1, 16, 16]", unit="ink, 0 to 1 before noise"),
    },
    splits=(
        "1,097 training, 200 validation and 500 test images, cut from each class in file order; no synthetic speaker "
        "is in two of them"
    ),
    synthetic="The utterances come from a formant synthesiser.",
    notes=("To try things out; not comparable with published results.",),
)


class DigitsSpec(DataSpec):
    """Handwritten digits, each with a synthetic utterance of the same digit; embedded, so nothing is downloaded."""

    kind: Literal["digits"] = "digits"

    seed: int = Field(default=0, ge=0, lt=2**32)
    """Draws speakers, utterances and noise. The images of each split are the same for every seed."""

    image_noise: float = Field(default=0.5, ge=0.0, le=10.0)
    """Standard deviation of the Gaussian pixel noise, where 0 is paper and 1 is full ink; 0 switches it off."""

    image_occlusion: int = Field(default=0, ge=0, le=16)
    """Side in pixels (of 16) of a blank square put at a random place over each image; 0 switches it off."""

    audio_snr: float = Field(default=-9.0, ge=-60.0, le=100.0)
    """Speech power over noise power in dB, measured over each utterance; 100 is practically clean."""

    @classmethod
    def card(cls) -> DatasetCard:
        """What there is to know about this dataset."""
        return CARD

    def build(self, progress: Progress | None = None) -> DatasetSplits:
        """Draw the 1,797 samples; takes a few seconds."""
        from snn_datasets.digits import build_digits

        return build_digits(
            modalities=self.chosen(),
            seed=self.seed,
            image_noise=self.image_noise,
            image_occlusion=self.image_occlusion,
            audio_snr=self.audio_snr,
            progress=progress,
        )
