"""HDF5 files of artificial cochleae: N-TIDIGITS18 and the Spiking Heidelberg Digits."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import h5py
import numpy as np

Spikes = tuple[np.ndarray, np.ndarray]
"""Seconds and channels, [E] each."""


def some_spikes(rng: np.random.Generator, count: int, *, channels: int, seconds: float) -> Spikes:
    """Spikes in order of time."""
    return np.sort(rng.uniform(0.01, seconds, count)), rng.integers(0, channels, count)


def write_ntidigits_file(path: Path, *, train: Mapping[str, Spikes], test: Mapping[str, Spikes]) -> None:
    """Write utterances by label, such as "man-ae-a-1"."""
    with h5py.File(path, "w") as file:
        for split, utterances in (("train", train), ("test", test)):
            file[f"{split}_labels"] = np.array([label.encode() for label in utterances])
            for label, (seconds, channels) in utterances.items():
                file[f"{split}_timestamps/{label}"] = seconds.astype(np.float64)
                file[f"{split}_addresses/{label}"] = channels.astype(np.int64)


def write_shd_file(
    path: Path, utterances: Sequence[Spikes], *, labels: Sequence[int], speakers: Sequence[int], keys: Sequence[str]
) -> None:
    """Write utterances in order; seconds as numbers of 16 bits, as they are published."""
    with h5py.File(path, "w") as file:
        for name, column, dtype in (("times", 0, np.float16), ("units", 1, np.uint16)):
            rows = file.create_dataset(f"spikes/{name}", (len(utterances),), h5py.vlen_dtype(dtype))
            for number, utterance in enumerate(utterances):
                rows[number] = utterance[column].astype(dtype)
        file["labels"] = np.array(labels, np.uint16)
        file["extra/speaker"] = np.array(speakers, np.uint16)
        file["extra/keys"] = np.array([key.encode() for key in keys])
