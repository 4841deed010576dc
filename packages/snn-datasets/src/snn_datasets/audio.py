"""Sound files to log-mel spectrograms."""

# torch leaves some of its own signatures open, and soundfile has no stubs.
# pyright: reportUnknownMemberType=false, reportMissingTypeStubs=false
from __future__ import annotations

import math
from functools import lru_cache
from pathlib import Path

import soundfile
import torch
from torch import Tensor
from torchaudio.transforms import MelSpectrogram, Resample
from torchvision.transforms.v2 import functional as v2

AUDIO_SUFFIXES = frozenset({".wav", ".flac", ".ogg", ".mp3", ".aif", ".aiff"})


def read_rate(path: Path) -> int:
    """Return the sample rate of a sound file in Hz. Raises ValueError when it cannot be read."""
    try:
        return int(soundfile.info(path).samplerate)
    except (RuntimeError, OSError) as error:
        raise ValueError(f"cannot read recording {path}: {error}; replace or convert the file") from error


def read_waveform(path: Path, *, sample_rate: int) -> Tensor:
    """Read a recording, mix its channels down to one, and resample it.

    Shape: -> [samples] at `sample_rate` Hz, full scale is 1
    """
    try:
        frames, rate = soundfile.read(path, dtype="float32", always_2d=True)
    except (RuntimeError, OSError) as error:
        raise ValueError(f"cannot read recording {path}: {error}; replace or convert the file") from error
    wave = torch.as_tensor(frames).mean(1)
    if not len(wave):
        raise ValueError(f"recording {path} has no samples; replace the file or remove its row")
    if not wave.isfinite().all():
        raise ValueError(f"recording {path} has samples that are not finite numbers; replace the file")
    return _resampler(int(rate), sample_rate)(wave)


class LogMelSpectrogram:
    """Turn a recording of any length into one square picture of its sound.

    The log-mel spectrogram is stretched to `size` x `size`, so clips of different length get the same number of columns
    and tempo is lost; then each clip is standardised to mean 0 and variance 1, so loudness is lost.

    Args:
        sample_rate: of the waveforms, in Hz.
        size: height and width of the result in pixels.
        mel_bands: bands between 0 Hz and half the sample rate.
        window_ms: length of the Hann window in milliseconds.
        hop_ms: step between windows in milliseconds.
        dynamic_range_db: what lies more than this many dB under a clip's loudest spot is not told apart.

    Shape: [samples] -> [1, size, size], low bands and early frames first; all zero for a silent clip
    """

    def __init__(
        self,
        *,
        sample_rate: int,
        size: int,
        mel_bands: int,
        window_ms: float,
        hop_ms: float,
        dynamic_range_db: float,
    ) -> None:
        self.size = size
        self.floor = 10 ** (-dynamic_range_db / 10)
        window = max(1, round(sample_rate * window_ms / 1000))
        self.mel = MelSpectrogram(
            sample_rate,
            n_fft=_fft_length(sample_rate, window=window, mel_bands=mel_bands),
            win_length=window,
            hop_length=max(1, round(sample_rate * hop_ms / 1000)),
            n_mels=mel_bands,
            # Mirror images, the usual padding, do not exist for a clip shorter than half a window.
            pad_mode="constant",
        )

    def __call__(self, wave: Tensor) -> Tensor:
        """Return the picture [1, size, size] of a waveform [samples]."""
        mel: Tensor = self.mel(wave)  # [band, frame]
        loudest = mel.max()
        if loudest < 1e-28:  # far below one bit of any format; its logarithm would leave the range of floats
            return torch.zeros(1, self.size, self.size)
        log = mel.maximum(loudest * self.floor).log()
        picture = v2.resize(log[None], [self.size, self.size], antialias=True)
        std, mean = torch.std_mean(picture, correction=0)
        # A picture of one value throughout has no contrast to scale up.
        return (picture - mean) / std if std > 1e-4 else torch.zeros_like(picture)


def _fft_length(sample_rate: int, *, window: int, mel_bands: int) -> int:
    """Smallest power of two, at least 256, that holds the window and puts a frequency into every mel band."""
    top = _hertz_to_mel(sample_rate / 2)
    # The lowest triangle is the narrowest; a bin falls inside when it is wider than the distance of two bins.
    narrowest = _mel_to_hertz(2 * top / (mel_bands + 1))
    length = 256
    while length < window or sample_rate / length >= narrowest:
        length *= 2
    return length


def _hertz_to_mel(hertz: float) -> float:
    return 2595 * math.log10(1 + hertz / 700)


def _mel_to_hertz(mel: float) -> float:
    return 700 * (10 ** (mel / 2595) - 1)


@lru_cache(maxsize=16)
def _resampler(source: int, target: int) -> Resample:
    """Build the filter between two rates once; many files share it."""
    return Resample(source, target)
