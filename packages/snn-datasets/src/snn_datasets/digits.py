"""The embedded digits: handwriting from scikit-learn, each image beside an utterance and a touch of the same digit.

The images are the 1,797 of the "Optical Recognition of Handwritten Digits" test set (Alpaydin and Kaynak, UCI machine
learning repository, 1998) that ship with scikit-learn. The utterances are synthetic, see `speech`; so are the touches:
a finger follows a path that may have left the ink (`pen_path`) on a simulated pad (`touch`).
"""

# torch leaves some of its own signatures open, and scikit-learn has no stubs.
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

from snn_datasets import encoding, pen_path, spectrogram, speech, touch
from snn_datasets.cache import FORMAT, CacheOptions, open_or_fill
from snn_datasets.cache_folder import default_folder
from snn_datasets.dataset import SPLITS, DatasetInfo, DatasetSplits, ModalityInfo, Progress, Split
from snn_datasets.encoding import EventFrames
from snn_datasets.in_memory import InMemoryDataset
from snn_datasets.pen_path import pen_paths
from snn_datasets.single_thread import single_thread
from snn_datasets.spectrogram import mel_spectrogram
from snn_datasets.speech import SAMPLE_RATE, Speaker, render, spell
from snn_datasets.stage import Draw, Value
from snn_datasets.touch import TAXELS, write_on_pad

if TYPE_CHECKING:
    from snn_datasets.datasets.digits import DigitsSpec

SIZE = 16
"""Height and width in pixels of what is seen; also the number of mel bands and of time frames."""

IMAGES = 1797
VAL_PER_CLASS = 20
TEST_PER_CLASS = 50
SPEAKERS: dict[Split, range] = {"train": range(60), "val": range(60, 72), "test": range(72, 96)}

WINDOW_SAMPLES = round(0.8 * SAMPLE_RATE)
"""Every utterance is heard within a window of 0.8 s."""
LATEST_ONSET = round(0.08 * SAMPLE_RATE)
"""It starts within the first 80 ms."""

CHUNK = 128
"""Samples prepared at once: the working set stays within a processor's cache, and progress is seen."""


@dataclass(frozen=True)
class Digits:
    """N digits about to be sensed."""

    images: Tensor
    """Clean handwriting, [N, 8, 8] in [0, 1]."""
    digits: Sequence[int]
    speakers: Sequence[Speaker]


class Sense(Value):
    """How one modality is made from digits; its fields say how hard it is."""

    @property
    @abstractmethod
    def info(self) -> ModalityInfo:
        """What comes out."""

    @abstractmethod
    def __call__(self, digits: Digits, generator: Generator) -> Tensor:
        """Sense N digits.

        Shape: N digits -> [N, *info.shape], or [N, T, *info.shape] where there is time
        """


class Hearing(Sense):
    """Speak each digit into noise and take its log-mel spectrogram.

    Shape: N digits -> [N, 1, mel band, frame], mean 0 and variance 1 a clip; low bands and early frames first
    """

    snr: float
    """Speech power over noise power in dB."""

    @property
    def info(self) -> ModalityInfo:
        """A picture of sound."""
        return ModalityInfo("waveform", (1, SIZE, SIZE), unit="log mel power, standardized", synthetic=True)

    def __call__(self, digits: Digits, generator: Generator) -> Tensor:
        """Hear N digits."""
        waves, lengths = render([spell(digit) for digit in digits.digits], digits.speakers, generator)
        N = len(lengths)
        onsets = cast("list[int]", torch.randint(LATEST_ONSET, (N,), generator=generator).tolist())
        heard = torch.randn(N, WINDOW_SAMPLES, generator=generator)
        for clip, wave, length, onset in zip(heard, waves, lengths, onsets, strict=True):
            # An utterance that does not fit loses its end, as it would in a recorder.
            spoken = wave[: min(length, WINDOW_SAMPLES - onset)]
            clip *= spoken.square().mean().sqrt() * 10 ** (-self.snr / 20)
            clip[onset : onset + len(spoken)] += spoken
        # Windows of 32 ms every 10 ms; five frames are then averaged into one of 50 ms.
        hop = WINDOW_SAMPLES // (5 * SIZE)
        mel = mel_spectrogram(
            heard, rate=SAMPLE_RATE, window=256, hop=hop, bands=SIZE, lowest_hz=50.0, padding="reflect"
        )  # [N, band, 1 + samples // hop]
        frames = cast(Tensor, mel[..., :-1].unflatten(-1, (SIZE, -1))).mean(-1)
        # A floor 60 dB under the loudest spot keeps digital silence, which says nothing, from filling the range.
        floor = frames.amax((1, 2), keepdim=True) * 1e-6
        log = frames.maximum(floor).log()
        std, mean = torch.std_mean(log, dim=(1, 2), keepdim=True, correction=0)
        return ((log - mean) / std)[:, None]


class Seeing(Sense):
    """Enlarge each image, cover a square of it, and add pixel noise.

    Shape: N digits -> [N, 1, row, column], ink near 1 on paper near 0; noise is not clipped
    """

    noise: float
    """Standard deviation of the pixel noise."""
    occlusion: int
    """Side of the covered square in pixels."""

    @property
    def info(self) -> ModalityInfo:
        """A noisy image."""
        return ModalityInfo("image", (1, SIZE, SIZE), unit="ink, 0 to 1 before noise")

    def __call__(self, digits: Digits, generator: Generator) -> Tensor:
        """See N digits."""
        images = F.interpolate(digits.images[:, None], size=(SIZE, SIZE), mode="bilinear", align_corners=False)
        N, side = len(images), self.occlusion
        # Drawn whether used or not, so that changing one kind of noise leaves the other as it was.
        grain = torch.randn(images.shape, generator=generator)
        corner = (torch.rand(2, N, 1, generator=generator) * (SIZE - side + 1)).floor()  # top, left
        place = torch.arange(SIZE)
        rows, columns = (place >= corner) & (place < corner + side)  # each [N, 16]
        covered = rows[:, None, :, None] & columns[:, None, None, :]
        return images.masked_fill(covered, 0.0) + self.noise * grain


class Touching(Sense):
    """Write each digit on a pad with a fingertip and count the events of its taxels.

    Shape: N digits -> [N, T, 2, row, column]; first releases, then presses, as polarities are counted everywhere
    """

    missed: float
    """Chance of a press to go unnoticed."""
    stray: float
    """Presses a second at each taxel that nobody made."""
    time_steps: int
    """T."""

    @property
    def info(self) -> ModalityInfo:
        """Event frames."""
        shape = (2, TAXELS, TAXELS)
        return ModalityInfo("events", shape, self.time_steps, unit="events by taxel and step", synthetic=True)

    def __call__(self, digits: Digits, generator: Generator) -> Tensor:
        """Touch N digits."""
        paths = pen_paths(digits.images, digits.digits)
        recordings = write_on_pad(paths, missed=self.missed, stray=self.stray, generator=generator)
        count, no_draw = EventFrames(steps=self.time_steps), Draw(0, "", "touch", allowed=False)
        return torch.stack([count(recording, no_draw) for recording in recordings])


def senses_of(spec: DigitsSpec) -> dict[str, Sense]:
    """The senses that a specification asks for."""
    every: dict[str, Sense] = {
        "audio": Hearing(snr=spec.audio_snr),
        "visual": Seeing(noise=spec.image_noise, occlusion=spec.image_occlusion),
        "touch": Touching(missed=spec.touch_missed, stray=spec.touch_noise, time_steps=spec.time_steps),
    }
    return {name: every[name] for name in spec.selected_modalities()}


@single_thread()
def build_digits(spec: DigitsSpec, progress: Progress | None = None) -> DatasetSplits:
    """Prepare all 1,797 samples, or take them from the cache."""
    senses = senses_of(spec)
    labels = cast("list[int]", _kept(spec, "labels", [], _labels).tolist())
    N = len(labels)
    splits = split_indices(labels)
    speakers: dict[Split, list[int]] = {split: _speakers(spec.seed, split, len(splits[split])) for split in SPLITS}

    inputs: dict[str, Tensor] = {}
    for number, (name, sense) in enumerate(senses.items()):
        report = partial(_report, progress, number * N, len(senses) * N)
        make = partial(_sensed, name, sense, spec.seed, splits, speakers, report)
        inputs[name] = _kept(spec, name, [spec.seed, sense.fingerprint()], make)
        report(N)

    info = DatasetInfo("digits", tuple("0123456789"), {name: sense.info for name, sense in senses.items()})
    timed = [name for name, modality in info.modalities.items() if modality.time_steps is not None]
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
    """Cut each class, in file order, into a front part for training, then validation, then test.

    The file names no writers, but neighboring images look as if they came from one hand. Cutting each class in pieces,
    rather than shuffling it, should keep most writers of the test images out of training.
    """
    splits: dict[Split, list[int]] = {split: [] for split in SPLITS}
    for digit in range(10):
        places = [index for index, label in enumerate(labels) if label == digit]
        first_test = len(places) - TEST_PER_CLASS
        first_val = first_test - VAL_PER_CLASS
        splits["train"] += places[:first_val]
        splits["val"] += places[first_val:first_test]
        splits["test"] += places[first_test:]
    return {split: sorted(indices) for split, indices in splits.items()}


def _sensed(
    name: str,
    sense: Sense,
    seed: int,
    splits: dict[Split, list[int]],
    speakers: dict[Split, list[int]],
    report: Callable[[int], None],
) -> Tensor:
    """Sense all splits, one after another.

    Shape: -> [N, ...]
    """
    images, labels = _handwriting()
    voices = [Speaker.random(_generator(seed, f"speaker {number}")) for number in range(SPEAKERS["test"].stop)]
    parts: list[Tensor] = []
    done = 0
    for split, indices in splits.items():
        # A generator of its own for each purpose: asking for fewer modalities or more noise changes nothing else.
        generator = _generator(seed, f"{split} {name}")
        for start in range(0, len(indices), CHUNK):
            report(done)
            chunk = indices[start : start + CHUNK]
            heard_from = [voices[number] for number in speakers[split][start : start + CHUNK]]
            parts.append(sense(Digits(images[chunk], [labels[index] for index in chunk], heard_from), generator))
            done += len(chunk)
    return torch.cat(parts)


def _speakers(seed: int, split: Split, count: int) -> list[int]:
    """Who says each digit of a split."""
    pool = SPEAKERS[split]
    choice = torch.randint(len(pool), (count,), generator=_generator(seed, f"{split} speakers"))
    return [pool[number] for number in cast("list[int]", choice.tolist())]


def _labels() -> Tensor:
    return torch.tensor(_handwriting()[1])


def _handwriting() -> tuple[Tensor, list[int]]:
    """Read handwriting [1797, 8, 8] in [0, 1] and its labels."""
    try:
        from sklearn.datasets import load_digits
    except ImportError as error:
        raise ImportError(
            'the digits dataset takes its images from scikit-learn; install it with: pip install "snn-datasets[digits]"'
        ) from error
    bunch = cast(Any, load_digits())
    return torch.as_tensor(bunch.images).float() / 16, bunch.target.tolist()


def _kept(spec: DigitsSpec, name: str, decided_by: list[Any], make: Callable[[], Tensor]) -> Tensor:
    """What `make` gives, [N, ...], from the cache where it is there."""
    if spec.cache == "off":
        return make()
    folder = spec.cache_folder.expanduser() if spec.cache_folder is not None else default_folder()
    made: list[Tensor] = []

    def row(number: int) -> Tensor:
        if not made:
            made.append(make())
        return made[0][number]

    mark = hashlib.sha256(json.dumps([FORMAT, _code(), decided_by], sort_keys=True).encode()).hexdigest()[:24]
    store = open_or_fill(
        CacheOptions(folder, limit_gb=1.0),
        dataset="digits",
        name=name,
        mark=mark,
        samples=range(IMAGES),
        prepare=row,
        progress=None,
    )
    return made[0] if made else torch.stack([cast(Tensor, store[number]) for number in range(len(store))])


def _code() -> str:
    """A hash of all code that decides samples, so that no cache outlives a change."""
    try:
        sources = [
            inspect.getsource(module)
            for module in (sys.modules[__name__], speech, spectrogram, pen_path, touch, encoding)
        ]
    except OSError as error:
        raise ValueError(
            "the source of snn_datasets cannot be found, so a cache could not tell when it changes; set cache to off"
        ) from error
    return hashlib.sha256("\0".join([torch.__version__, *sources]).encode()).hexdigest()


def _report(progress: Progress | None, before: int, total: int, done: int) -> None:
    """Tell the progress of one of several passes as that of all."""
    if progress is not None:
        progress(before + done, total)


def _generator(seed: int, purpose: str) -> Generator:
    digest = hashlib.sha256(f"{seed} {purpose}".encode()).digest()
    return Generator().manual_seed(int.from_bytes(digest[:7], "big"))
