"""The embedded digits: handwriting from scikit-learn, each image beside an utterance of the same digit.

The images are the 1,797 of the "Optical Recognition of Handwritten Digits" test set (Alpaydin and Kaynak, UCI machine
learning repository, 1998) that ship with scikit-learn. The utterances are synthetic, see `speech`.
"""

# torch leaves some of its own signatures open, and torchaudio has no stubs.
# pyright: reportUnknownMemberType=false, reportMissingTypeStubs=false
from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, cast

import torch
import torch.nn.functional as F
from torch import Generator, Tensor
from torchaudio.transforms import MelSpectrogram

from snn_datasets.dataset import DatasetInfo, DatasetSplits, ModalityInfo, Progress
from snn_datasets.in_memory import InMemoryDataset
from snn_datasets.single_thread import single_thread
from snn_datasets.speech import SAMPLE_RATE, Speaker, render, spell

SIZE = 16
"""Height and width in pixels of every input; also the number of mel bands and of time frames."""

VAL_PER_CLASS = 20
TEST_PER_CLASS = 50
SPEAKERS = {"train": range(60), "val": range(60, 72), "test": range(72, 96)}

WINDOW_SAMPLES = round(0.8 * SAMPLE_RATE)
"""Every utterance is heard within a window of 0.8 s."""
LATEST_ONSET = round(0.08 * SAMPLE_RATE)
"""It starts within the first 80 ms."""

CHUNK = 128
"""Samples prepared at once: the working set stays within a processor's cache, and progress is seen."""


@dataclass(frozen=True)
class Events:
    """N digits about to be seen and heard."""

    images: Tensor
    """Clean handwriting, [N, 8, 8] in [0, 1]."""
    digits: Sequence[int]
    speakers: Sequence[Speaker]


@dataclass(frozen=True)
class Noise:
    """How hard the senses are, in the units of `DigitsSpec`."""

    image_noise: float
    image_occlusion: int
    audio_snr: float


def hear(events: Events, noise: Noise, generator: Generator) -> Tensor:
    """Speak each digit into noise and take its log-mel spectrogram.

    Shape: N events -> [N, 1, mel band, frame], mean 0 and variance 1 a clip; low bands and early frames first
    """
    waves, lengths = render([spell(digit) for digit in events.digits], events.speakers, generator)
    N = len(lengths)
    onsets = cast("list[int]", torch.randint(LATEST_ONSET, (N,), generator=generator).tolist())
    heard = torch.randn(N, WINDOW_SAMPLES, generator=generator)
    for clip, wave, length, onset in zip(heard, waves, lengths, onsets, strict=True):
        # An utterance that does not fit loses its end, as it would in a recorder.
        speech = wave[: min(length, WINDOW_SAMPLES - onset)]
        clip *= speech.square().mean().sqrt() * 10 ** (-noise.audio_snr / 20)
        clip[onset : onset + len(speech)] += speech
    mel = _MEL(heard)  # [N, band, 1 + samples // hop]
    frames = mel[..., :-1].unflatten(-1, (SIZE, -1)).mean(-1)
    # A floor 60 dB under the loudest spot keeps digital silence, which holds no information, from filling the range.
    floor = frames.amax((1, 2), keepdim=True) * 1e-6
    log = frames.maximum(floor).log()
    std, mean = torch.std_mean(log, dim=(1, 2), keepdim=True, correction=0)
    return ((log - mean) / std)[:, None]


def see(events: Events, noise: Noise, generator: Generator) -> Tensor:
    """Enlarge each image, cover a square of it, and add pixel noise.

    Shape: N events -> [N, 1, row, column], ink near 1 on paper near 0; noise is not clipped
    """
    images = F.interpolate(events.images[:, None], size=(SIZE, SIZE), mode="bilinear", align_corners=False)
    N, side = len(images), noise.image_occlusion
    # Drawn whether used or not, so that changing one kind of noise leaves the other as it was.
    grain = torch.randn(images.shape, generator=generator)
    corner = (torch.rand(2, N, 1, generator=generator) * (SIZE - side + 1)).floor()  # top, left
    place = torch.arange(SIZE)
    rows, columns = (place >= corner) & (place < corner + side)  # each [N, 16]
    covered = rows[:, None, :, None] & columns[:, None, None, :]
    return images.masked_fill(covered, 0.0) + noise.image_noise * grain


MODALITIES: dict[str, Callable[[Events, Noise, Generator], Tensor]] = {"audio": hear, "visual": see}
"""How each modality is made from the same events."""

SYNTHETIC = ("audio",)

# Windows of 32 ms every 10 ms; five frames are then averaged into one of 50 ms.
_MEL = MelSpectrogram(SAMPLE_RATE, n_fft=256, hop_length=WINDOW_SAMPLES // (5 * SIZE), f_min=50.0, n_mels=SIZE)


@single_thread()
def build_digits(
    *,
    modalities: Sequence[str],
    seed: int,
    image_noise: float,
    image_occlusion: int,
    audio_snr: float,
    progress: Progress | None = None,
) -> DatasetSplits:
    """Prepare all 1,797 samples; see `DigitsSpec` for the arguments."""
    images, labels = _load_images()
    noise = Noise(image_noise, image_occlusion, audio_snr)
    # A generator of its own for each purpose: asking for fewer modalities or more noise changes nothing else.
    voices = [Speaker.random(_generator(seed, f"speaker {number}")) for number in range(SPEAKERS["test"].stop)]
    done = 0
    splits: dict[str, InMemoryDataset] = {}
    for split, indices in split_indices(labels).items():
        pool = SPEAKERS[split]
        choice = torch.randint(len(pool), (len(indices),), generator=_generator(seed, f"{split} speakers"))
        picked = cast("list[int]", choice.tolist())
        speakers = [pool[number] for number in picked]
        digits = [labels[index] for index in indices]
        generators = {name: _generator(seed, f"{split} {name}") for name in modalities}
        parts: dict[str, list[Tensor]] = {name: [] for name in modalities}
        for start in range(0, len(indices), CHUNK):
            chunk = slice(start, start + CHUNK)
            events = Events(images[indices[chunk]], digits[chunk], [voices[number] for number in speakers[chunk]])
            for name in modalities:
                parts[name].append(MODALITIES[name](events, noise, generators[name]))
            done += len(events.digits)
            if progress is not None:
                progress(done, len(labels))
        splits[split] = InMemoryDataset(
            {name: torch.cat(tensors) for name, tensors in parts.items()},
            labels=digits,
            ids=[
                f"{split}-{position:04d}-image{index:04d}-speaker{speaker:02d}"
                for position, (index, speaker) in enumerate(zip(indices, speakers, strict=True))
            ],
        )
    info = DatasetInfo(
        name="digits",
        classes=tuple(str(digit) for digit in range(10)),
        modalities={
            name: ModalityInfo(
                kind="image" if name == "visual" else "waveform", shape=(1, SIZE, SIZE), synthetic=name in SYNTHETIC
            )
            for name in modalities
        },
    )
    return DatasetSplits(info=info, **splits)


def split_indices(labels: Sequence[int]) -> dict[str, list[int]]:
    """Cut each class, in file order, into a front part for training, then validation, then test.

    The file names no writers, but neighbouring images look as if they came from one hand. Cutting each class in pieces,
    rather than shuffling it, should keep most writers of the test images out of training.
    """
    splits: dict[str, list[int]] = {"train": [], "val": [], "test": []}
    for digit in range(10):
        places = [index for index, label in enumerate(labels) if label == digit]
        first_test = len(places) - TEST_PER_CLASS
        first_val = first_test - VAL_PER_CLASS
        splits["train"] += places[:first_val]
        splits["val"] += places[first_val:first_test]
        splits["test"] += places[first_test:]
    return {split: sorted(indices) for split, indices in splits.items()}


def _load_images() -> tuple[Tensor, list[int]]:
    """Read handwriting [1797, 8, 8] in [0, 1] and its labels."""
    try:
        from sklearn.datasets import load_digits
    except ImportError as error:
        raise ImportError(
            'the digits dataset takes its images from scikit-learn; install it with: pip install "snn-datasets[digits]"'
        ) from error
    bunch = cast(Any, load_digits())
    return torch.as_tensor(bunch.images).float() / 16, bunch.target.tolist()


def _generator(seed: int, purpose: str) -> Generator:
    digest = hashlib.sha256(f"{seed} {purpose}".encode()).digest()
    return Generator().manual_seed(int.from_bytes(digest[:7], "big"))
