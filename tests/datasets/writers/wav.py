"""WAV files with a known tone."""

from pathlib import Path

import numpy as np
import soundfile
from numpy.typing import NDArray


def tone(hertz: float, *, rate: int, seconds: float, loudness: float = 0.5) -> NDArray[np.float32]:
    """A sine [L]."""
    return (loudness * np.sin(2 * np.pi * hertz * np.arange(round(rate * seconds)) / rate)).astype(np.float32)


def write_wav(
    path: Path, *, hertz: float, rate: int, seconds: float, channels: int = 1, subtype: str = "PCM_16"
) -> None:
    """A tone that is half as loud in each channel as in the one before."""
    wave = tone(hertz, rate=rate, seconds=seconds)
    path.parent.mkdir(parents=True, exist_ok=True)
    soundfile.write(path, np.stack([wave / 2**channel for channel in range(channels)], 1), rate, subtype=subtype)
