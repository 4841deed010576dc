"""A small MNIST-DVS and a small N-TIDIGITS18."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from datasets.writers.aedat import some_events, write_aedat2
from datasets.writers.hdf5 import Spikes, some_spikes, write_ntidigits_file

TRAINING, TESTING = ("man-ae", "man-bb", "woman-ac", "woman-zz"), ("man-cc", "woman-fd")


def write_mnist_dvs(
    root: Path, *, scales: Sequence[int] = (4, 8), per_digit: int = 20, events: int = 60
) -> dict[str, np.ndarray]:
    """Write the recordings of each digit at each scale; return the events [E, 4] of t, x, y, p by file name."""
    rng = np.random.default_rng(3)
    written: dict[str, np.ndarray] = {}
    for digit in range(10):
        for scale in scales:
            for number in range(1, per_digit + 1):
                name = f"mnist_{digit}_scale{scale:02d}_{number:04d}"
                recording = some_events(rng, events, duration=90_000)
                recording[:, 0] -= recording[0, 0]  # a recording begins with its first event
                path = root / f"grabbed_data{digit}" / f"scale{scale}" / f"{name}.aedat"
                write_aedat2(path, recording, first_stamp=int(rng.integers(2**32)))
                written[name] = recording
    return written


def write_ntidigits(root: Path, *, spikes: int = 40) -> dict[str, Spikes]:
    """Write `n-tidigits.hdf5`: every speaker says each digit twice, both zeros, and two numbers of several digits.

    Returns seconds and channels by split and label, such as "train/man-ae-a-1".
    """
    rng = np.random.default_rng(4)
    words = (*"123456789zo", "z12", "9o")
    parts: dict[str, dict[str, Spikes]] = {}
    for part, speakers in (("train", TRAINING), ("test", TESTING)):
        parts[part] = {
            f"{speaker}-{take}-{digits}": some_spikes(rng, spikes, channels=64, seconds=0.4)
            for speaker in speakers
            for digits in words
            for take in "ab"
        }
    root.mkdir(parents=True, exist_ok=True)
    write_ntidigits_file(root / "n-tidigits.hdf5", train=parts["train"], test=parts["test"])
    return {f"{part}/{label}": spikes for part, utterances in parts.items() for label, spikes in utterances.items()}


def write_mnistdvs_ntidigits(
    root: Path, *, scales: Sequence[int] = (4, 8), per_digit: int = 20
) -> tuple[dict[str, np.ndarray], dict[str, Spikes]]:
    """Write both modalities; return what `write_mnist_dvs` and `write_ntidigits` return."""
    return write_mnist_dvs(root, scales=scales, per_digit=per_digit), write_ntidigits(root)
