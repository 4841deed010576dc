"""What the published protocols of CREMA-D and UrbanSound8K-AV have in common."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, TypeVar

from snn_datasets.loading.splits import carve_by_sample

if TYPE_CHECKING:
    from snn_datasets.base.modality import Modality
    from snn_datasets.base.reader import Reader
    from snn_datasets.base.stage import Stage

T = TypeVar("T")


def published_modalities(reader: Reader, to_image: tuple[Stage, ...], *, size: int = 128) -> dict[str, Modality]:
    """Return the inputs of the audio-visual literature since Peng et al. 2022 (arXiv:2203.15332), both static.

    Sound: one channel at 22,050 Hz, clipped to full scale, log(|STFT| + 1e-7) with windows of 512 and hops of 353
    samples, resized to [1, size, size], not normalized. Image: [3, size, size] with ImageNet's mean and standard
    deviation; in training a random crop of 8 to 100 % of the area, flipped with probability 0.5; otherwise a center
    crop after resizing to twice the size. Crops are drawn again in every epoch; the published code fixed three of each.

    Args:
        reader: the reader of the images.
        to_image: stages from its recordings to an `Image`.
        size: height and width of both.
    """
    from snn_datasets.base.dataset import ModalityInfo
    from snn_datasets.base.modality import Modality
    from snn_datasets.modalities.audio import Clamp, Mono, Resample, WaveformReader
    from snn_datasets.modalities.images import IMAGENET, CenterCrop, RandomFlip, RandomResizedCrop
    from snn_datasets.stages.codings import LogMagnitude, Pixels

    per_ms = 22_050 / 1000
    spectrogram = LogMagnitude(rows=size, columns=size, window_ms=512 / per_ms, hop_ms=353 / per_ms, floor=1e-7)
    return {
        "audio": Modality(
            WaveformReader(),
            ModalityInfo("waveform", (1, size, size), None, "log magnitude"),
            cached=(Mono(), Resample(rate=22_050), Clamp(), spectrogram),
        ),
        "visual": Modality(
            reader,
            ModalityInfo("image", (3, size, size), None, "standardized as ImageNet"),
            cached=to_image,
            augment=(RandomResizedCrop(size=size), RandomFlip()),
            per_read=(CenterCrop(size=size, shorter=2 * size), Pixels(), IMAGENET),
        ),
    }


def carve_validation(
    train: Sequence[T], *, id_of: Callable[[T], str], label_of: Callable[[T], str], fraction: float, seed: int
) -> tuple[list[T], list[T]]:
    """Divide the published training clips into those for training and those for validation, stratified by class."""
    ids = [id_of(clip) for clip in train]
    chosen = carve_by_sample(ids, [label_of(clip) for clip in train], fraction=fraction, seed=seed)
    return [clip for clip in train if id_of(clip) not in chosen], [clip for clip in train if id_of(clip) in chosen]


def validation_note(val_fraction: float) -> str:
    """Return what to know about validation in a published split."""
    if val_fraction == 0:
        return "Validation is the test split, as in the literature: an epoch selected on it is selected on test data."
    return (
        f"Validation is {val_fraction:.0%} of the published training clips, so training has fewer clips than in the "
        "literature; val_fraction 0 selects on the test clips, as the literature does."
    )


def check_fractions(val: float, test: float, groups: str) -> None:
    """Check the fractions of groups, such as "actors", for validation and testing.

    Raises:
        ValueError: one is 0, or they leave nothing for training.
    """
    if val == 0 or val + test >= 1:
        raise ValueError(
            f"val_fraction {val} and test_fraction {test} are fractions of the {groups}: both must be above 0, and "
            "their sum below 1"
        )
