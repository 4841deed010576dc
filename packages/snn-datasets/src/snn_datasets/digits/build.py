"""Build the embedded digits: each handwritten image with an utterance and a touch of the same digit.

The images are the 1,797 of the "Optical Recognition of Handwritten Digits" test set (Alpaydin and Kaynak, UCI machine
learning repository, 1998) that ship with scikit-learn. Utterances are synthetic (`speech`). So are touches: a fingertip
follows a pen path estimated from the ink (`pen_path`) on a simulated pad (`touch`).
"""

# Some of torch's signatures are partially untyped, and scikit-learn has no stubs.
# pyright: reportUnknownMemberType=false, reportMissingTypeStubs=false
from __future__ import annotations

import hashlib
import inspect
import json
import sys
from abc import abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, cast

import torch
import torch.nn.functional as F
from torch import Generator, Tensor

from snn_datasets.base.dataset import (
    SPLITS,
    DatasetInfo,
    DatasetSplits,
    ModalityInfo,
    ReportProgress,
    Split,
    pass_progress,
)
from snn_datasets.base.single_thread import single_thread
from snn_datasets.base.stage import Draw, Fingerprinted
from snn_datasets.cache.fill import FORMAT, CacheOptions, open_or_fill
from snn_datasets.cache.folder import cache_folder
from snn_datasets.digits import pen_path, speech, touch
from snn_datasets.digits.pen_path import pen_paths
from snn_datasets.digits.speech import SAMPLE_RATE, Speaker, render, spell
from snn_datasets.digits.touch import TAXELS, write_on_pad
from snn_datasets.loading.in_memory import InMemoryDataset
from snn_datasets.stages import codings, spectrogram
from snn_datasets.stages.codings import EventFrames
from snn_datasets.stages.spectrogram import mel_spectrogram

if TYPE_CHECKING:
    from snn_datasets.digits.spec import DigitsSpec

SIZE = 16
"""Height and width of images in pixels; also the number of mel bands and of spectrogram frames."""

IMAGES = 1797
VAL_PER_CLASS = 20
TEST_PER_CLASS = 50
SPEAKERS: dict[Split, range] = {"train": range(60), "val": range(60, 72), "test": range(72, 96)}

WINDOW_SAMPLES = round(0.8 * SAMPLE_RATE)
"""Length of a clip: 0.8 s."""
LATEST_ONSET = round(0.08 * SAMPLE_RATE)
"""Utterances start within the first 80 ms of a clip."""

CHUNK = 128
"""Samples prepared at once; few enough to fit the CPU cache and to report progress often."""


@dataclass(frozen=True)
class Digits:
    """N digits from which the modalities are made."""

    images: Tensor
    """Clean handwriting, [N, 8, 8] in [0, 1]."""
    digits: Sequence[int]
    speakers: Sequence[Speaker]


class Simulator(Fingerprinted):
    """Make one modality from digits; the fields set its difficulty."""

    @property
    @abstractmethod
    def info(self) -> ModalityInfo:
        """Kind, shape and unit of the result."""

    @abstractmethod
    def __call__(self, digits: Digits, generator: Generator) -> Tensor:
        """Simulate N digits.

        Shape: N digits -> [N, *info.shape], or [N, T, *info.shape] with time
        """


class AudioSimulator(Simulator):
    """Speak each digit in noise and compute its log-mel spectrogram.

    Shape: N digits -> [N, 1, mel band, frame], mean 0 and variance 1 per clip; low bands and early frames first
    """

    snr: float
    """Speech power over noise power in dB."""

    @property
    def info(self) -> ModalityInfo:
        """Static spectrogram."""
        return ModalityInfo("waveform", (1, SIZE, SIZE), unit="log mel power, standardized", synthetic=True)

    def __call__(self, digits: Digits, generator: Generator) -> Tensor:
        """Speak N digits."""
        waves, lengths = render([spell(digit) for digit in digits.digits], digits.speakers, generator)
        N = len(lengths)
        onsets = cast("list[int]", torch.randint(LATEST_ONSET, (N,), generator=generator).tolist())
        clips = torch.randn(N, WINDOW_SAMPLES, generator=generator)
        for clip, wave, length, onset in zip(clips, waves, lengths, onsets, strict=True):
            # An utterance longer than the clip is cut off at the end.
            utterance = wave[: min(length, WINDOW_SAMPLES - onset)]
            clip *= utterance.square().mean().sqrt() * 10 ** (-self.snr / 20)
            clip[onset : onset + len(utterance)] += utterance
        # Windows of 32 ms every 10 ms; five frames are then averaged into one of 50 ms.
        hop = WINDOW_SAMPLES // (5 * SIZE)
        mel = mel_spectrogram(
            clips, rate=SAMPLE_RATE, window=256, hop=hop, bands=SIZE, lowest_hz=50.0, padding="reflect"
        )  # [N, band, 1 + samples // hop]
        frames = cast(Tensor, mel[..., :-1].unflatten(-1, (SIZE, -1))).mean(-1)
        # A floor 60 dB below the maximum keeps digital silence from dominating the range.
        floor = frames.amax((1, 2), keepdim=True) * 1e-6
        log = frames.maximum(floor).log()
        std, mean = torch.std_mean(log, dim=(1, 2), keepdim=True, correction=0)
        return ((log - mean) / std)[:, None]


class ImageSimulator(Simulator):
    """Enlarge each image, occlude a square of it, and add pixel noise.

    Shape: N digits -> [N, 1, row, column], ink near 1 on paper near 0; noise is not clipped
    """

    noise: float
    """Standard deviation of the pixel noise."""
    occlusion: int
    """Side of the occluded square in pixels."""

    @property
    def info(self) -> ModalityInfo:
        """Noisy image."""
        return ModalityInfo("image", (1, SIZE, SIZE), unit="ink, 0 to 1 before noise")

    def __call__(self, digits: Digits, generator: Generator) -> Tensor:
        """Draw noise and occlusion for N digits."""
        images = F.interpolate(digits.images[:, None], size=(SIZE, SIZE), mode="bilinear", align_corners=False)
        N, side = len(images), self.occlusion
        # Both are drawn even if unused, so that changing one leaves the other unchanged.
        noise = torch.randn(images.shape, generator=generator)
        corner = (torch.rand(2, N, 1, generator=generator) * (SIZE - side + 1)).floor()  # top, left
        index = torch.arange(SIZE)
        rows, columns = (index >= corner) & (index < corner + side)  # each [N, 16]
        occluded = rows[:, None, :, None] & columns[:, None, None, :]
        return images.masked_fill(occluded, 0.0) + self.noise * noise


class TouchSimulator(Simulator):
    """Write each digit on a pad with a fingertip and count the events of its taxels.

    Shape: N digits -> [N, T, 2, row, column]; polarity 0 is release, 1 is press
    """

    missed: float
    """Probability that a press is missed."""
    stray: float
    """Rate of spurious presses per taxel in Hz."""
    time_steps: int
    """T."""

    @property
    def info(self) -> ModalityInfo:
        """Event frames."""
        shape = (2, TAXELS, TAXELS)
        return ModalityInfo("events", shape, self.time_steps, unit="events by taxel and step", synthetic=True)

    def __call__(self, digits: Digits, generator: Generator) -> Tensor:
        """Write N digits."""
        paths = pen_paths(digits.images, digits.digits)
        recordings = write_on_pad(paths, missed=self.missed, stray=self.stray, generator=generator)
        count, no_draw = EventFrames(steps=self.time_steps), Draw(0, "", "touch", may_draw=False)
        return torch.stack([count(recording, no_draw) for recording in recordings])


def build_simulators(spec: DigitsSpec) -> dict[str, Simulator]:
    """Return a simulator for each selected modality."""
    simulators: dict[str, Simulator] = {
        "audio": AudioSimulator(snr=spec.audio_snr),
        "visual": ImageSimulator(noise=spec.image_noise, occlusion=spec.image_occlusion),
        "touch": TouchSimulator(missed=spec.touch_missed, stray=spec.touch_noise, time_steps=spec.time_steps),
    }
    return {name: simulators[name] for name in spec.selected_modalities()}


@single_thread()
def build_digits(spec: DigitsSpec, progress: ReportProgress | None = None) -> DatasetSplits:
    """Simulate all 1,797 samples, or load them from the cache."""
    simulators = build_simulators(spec)
    labels = cast("list[int]", _cached(spec, "labels", [], _labels).tolist())
    N = len(labels)
    splits = split_indices(labels)
    speakers: dict[Split, list[int]] = {split: _speakers(spec.seed, split, len(splits[split])) for split in SPLITS}

    inputs: dict[str, Tensor] = {}
    for number, (name, simulator) in enumerate(simulators.items()):
        report = pass_progress(progress, number, len(simulators), N)
        simulate = partial(_simulate, name, simulator, spec.seed, splits, speakers, report)
        inputs[name] = _cached(spec, name, [spec.seed, simulator.fingerprint()], simulate)
        if report is not None:
            report(N, N)

    info = DatasetInfo("digits", tuple("0123456789"), {name: each.info for name, each in simulators.items()})
    timed = [name for name, modality in info.modalities.items() if modality.is_timed]
    datasets: dict[Split, InMemoryDataset] = {}
    end = 0
    for split, indices in splits.items():
        rows = slice(end, end := end + len(indices))
        datasets[split] = InMemoryDataset(
            {name: values[rows] for name, values in inputs.items()},
            labels=[labels[index] for index in indices],
            ids=[
                f"{split}-{position:04d}-image{index:04d}-speaker{speaker:02d}"
                for position, (index, speaker) in enumerate(zip(indices, speakers[split], strict=True))
            ],
            timed=timed,
        )
    return DatasetSplits(info, datasets["train"], datasets["val"], datasets["test"])


def split_indices(labels: Sequence[int]) -> dict[Split, list[int]]:
    """Split each class in file order: training, then validation, then test.

    The file does not name writers, but neighboring images appear to share one. Splitting without shuffling should keep
    most writers of test images out of training.
    """
    splits: dict[Split, list[int]] = {split: [] for split in SPLITS}
    for digit in range(10):
        of_digit = [index for index, label in enumerate(labels) if label == digit]
        first_test = len(of_digit) - TEST_PER_CLASS
        first_val = first_test - VAL_PER_CLASS
        splits["train"] += of_digit[:first_val]
        splits["val"] += of_digit[first_val:first_test]
        splits["test"] += of_digit[first_test:]
    return {split: sorted(indices) for split, indices in splits.items()}


def _simulate(
    name: str,
    simulator: Simulator,
    seed: int,
    splits: dict[Split, list[int]],
    speakers: dict[Split, list[int]],
    progress: ReportProgress | None,
) -> Tensor:
    """Simulate all splits in order.

    Shape: -> [N, ...]
    """
    images, labels = _handwriting()
    voices = [Speaker.random(_generator(seed, f"speaker {number}")) for number in range(SPEAKERS["test"].stop)]
    parts: list[Tensor] = []
    done = 0
    for split, indices in splits.items():
        # One generator per split and modality: fewer modalities or more noise leave the others unchanged.
        generator = _generator(seed, f"{split} {name}")
        for start in range(0, len(indices), CHUNK):
            if progress is not None:
                progress(done, len(labels))
            chunk = indices[start : start + CHUNK]
            digits = Digits(
                images[chunk],
                [labels[index] for index in chunk],
                [voices[number] for number in speakers[split][start : start + CHUNK]],
            )
            parts.append(simulator(digits, generator))
            done += len(chunk)
    return torch.cat(parts)


def _speakers(seed: int, split: Split, count: int) -> list[int]:
    """Draw the speaker of each digit of a split."""
    pool = SPEAKERS[split]
    indices = torch.randint(len(pool), (count,), generator=_generator(seed, f"{split} speakers"))
    return [pool[index] for index in cast("list[int]", indices.tolist())]


def _labels() -> Tensor:
    return torch.tensor(_handwriting()[1])


def _handwriting() -> tuple[Tensor, list[int]]:
    """Load the images [1797, 8, 8] in [0, 1] and their labels."""
    try:
        from sklearn.datasets import load_digits
    except ImportError as error:
        raise ImportError(
            'the digits dataset takes its images from scikit-learn; install it with: pip install "snn-datasets[digits]"'
        ) from error
    bunch = cast(Any, load_digits())
    return torch.as_tensor(bunch.images).float() / 16, bunch.target.tolist()


def _cached(spec: DigitsSpec, name: str, inputs: list[Any], compute: Callable[[], Tensor]) -> Tensor:
    """Return `compute()`, [N, ...], from the cache if present; `inputs` are what it depends on besides the code."""
    if spec.cache == "off":
        return compute()
    values: list[Tensor] = []

    def row(number: int) -> Tensor:
        if not values:
            values.append(compute())
        return values[0][number]

    key = hashlib.sha256(json.dumps([FORMAT, _code(), inputs], sort_keys=True).encode()).hexdigest()[:24]
    store = open_or_fill(
        CacheOptions(cache_folder(spec.cache_folder), limit_gb=1.0),
        dataset="digits",
        name=name,
        key=key,
        samples=range(IMAGES),
        prepare=row,
        progress=None,
    )
    return values[0] if values else torch.stack([cast(Tensor, store[number]) for number in range(len(store))])


def _code() -> str:
    """Hash all code that determines samples, so that a change invalidates the cache."""
    try:
        sources = [
            inspect.getsource(module)
            for module in (sys.modules[__name__], speech, spectrogram, pen_path, touch, codings)
        ]
    except OSError as error:
        raise ValueError(
            "cannot find the source of snn_datasets, so changes to it cannot invalidate the cache; set cache to off"
        ) from error
    return hashlib.sha256("\0".join([torch.__version__, *sources]).encode()).hexdigest()


def _generator(seed: int, purpose: str) -> Generator:
    digest = hashlib.sha256(f"{seed} {purpose}".encode()).digest()
    return Generator().manual_seed(int.from_bytes(digest[:7], "big"))
