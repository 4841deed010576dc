"""Spectrograms of sound: short-time Fourier transforms, and their power in mel bands.

Uses PyTorch only. With the same arguments the results equal torchaudio's `Spectrogram` and `MelSpectrogram`.
"""

# Some signatures of torch are untyped.
# pyright: reportUnknownMemberType=false
from __future__ import annotations

import math
from functools import lru_cache
from typing import Literal

import torch
from torch import Tensor

LARGEST_SPECTROGRAM = 2**27
"""Values of the largest spectrogram before mel filtering: 1 GB of complex numbers."""
Padding = Literal["constant", "reflect"]
"""Padding of a clip: silence, or its reflection, which needs more than half a window of sound."""


def magnitude_spectrogram(
    wave: Tensor, *, window: int, hop: int, fft_length: int | None = None, padding: Padding = "constant"
) -> Tensor:
    """Compute the magnitude of each frequency at each time, under a Hann window.

    Frame k is centered on sample k * hop.

    Shape: wave [..., L] -> [..., 1 + fft_length // 2, 1 + L // hop]

    Args:
        wave: the sound.
        window: length of the window in samples.
        hop: samples from one frame to the next.
        fft_length: length of the Fourier transform; None is the length of the window.
        padding: padding of both ends.

    Raises:
        ValueError: the spectrogram does not fit into memory.
    """
    frequencies, frames = (fft_length or window) // 2 + 1, 1 + wave.shape[-1] // hop
    if wave.shape[:-1].numel() * frequencies * frames > LARGEST_SPECTROGRAM:
        raise ValueError(
            f"a spectrogram of {frequencies:,} frequencies and {frames:,} frames is larger than "
            f"{LARGEST_SPECTROGRAM:,} values; choose a longer hop, a shorter window, fewer mel bands or shorter clips"
        )
    spectrum = torch.stft(
        wave.reshape(-1, wave.shape[-1]),
        n_fft=fft_length or window,
        hop_length=hop,
        win_length=window,
        window=_hann(window),
        center=True,
        pad_mode=padding,
        return_complex=True,
    )
    return spectrum.abs().reshape(*wave.shape[:-1], *spectrum.shape[1:])


def mel_spectrogram(
    wave: Tensor,
    *,
    rate: int,
    window: int,
    hop: int,
    bands: int,
    lowest_hz: float = 0.0,
    fft_length: int | None = None,
    padding: Padding = "constant",
) -> Tensor:
    """Compute the power in each mel band at each time.

    Shape: wave [..., L] -> [..., bands, 1 + L // hop]

    Args:
        wave: the sound.
        rate: samples per second.
        window: length of the Hann window in samples.
        hop: samples from one frame to the next.
        bands: number of mel bands between `lowest_hz` and half the rate.
        lowest_hz: start of the lowest band.
        fft_length: length of the Fourier transform; None is the length of the window.
        padding: padding of both ends.
    """
    magnitude = magnitude_spectrogram(wave, window=window, hop=hop, fft_length=fft_length, padding=padding)
    filters = mel_filters(rate, frequencies=magnitude.shape[-2], bands=bands, lowest_hz=lowest_hz)
    return torch.matmul(magnitude.square().transpose(-1, -2), filters).transpose(-1, -2)


@lru_cache(maxsize=16)
def mel_filters(rate: int, *, frequencies: int, bands: int, lowest_hz: float = 0.0) -> Tensor:
    """Return the weight of each frequency in each mel band: triangles of height 1, evenly spaced on the mel scale.

    The HTK mel scale is used, 2595 log10(1 + f / 700). The result is cached; treat it as read-only.

    Shape: -> [frequencies, bands]

    Args:
        rate: samples per second; the top band ends at half of it.
        frequencies: number of frequencies, from 0 Hz to half the rate.
        bands: number of mel bands.
        lowest_hz: start of the lowest band.

    Raises:
        ValueError: there is no frequency between `lowest_hz` and half the rate, or too many bands.
    """
    highest = rate // 2
    if highest <= lowest_hz:
        raise ValueError(f"sound at {rate} Hz has no frequencies above {lowest_hz:g} Hz; correct the rate of the file")
    if frequencies * bands > LARGEST_SPECTROGRAM:
        raise ValueError(f"{bands:,} mel bands of {frequencies:,} frequencies are too many; choose fewer bands")
    frequency = torch.linspace(0, highest, frequencies)[:, None]
    mel = torch.linspace(_mel(lowest_hz), _mel(highest), bands + 2)
    corners = 700.0 * (10.0 ** (mel / 2595.0) - 1.0)
    width = corners.diff()
    rising = (frequency - corners[:-2]) / width[:-1]
    falling = (corners[2:] - frequency) / width[1:]
    return torch.minimum(rising, falling).clamp(min=0)


def mel_fft_length(rate: int, *, window: int, bands: int) -> int:
    """Return the smallest power of two, at least 256, that holds the window and leaves no mel band empty."""
    # The lowest triangle is the narrowest; it contains a frequency if it is wider than their spacing.
    narrowest = 700 * (10 ** (2 * _mel(rate / 2) / (bands + 1) / 2595) - 1)
    length = 256
    while length < window or rate / length >= narrowest:
        length *= 2
    return length


def _mel(hertz: float) -> float:
    return 2595.0 * math.log10(1.0 + hertz / 700.0)


@lru_cache(maxsize=16)
def _hann(length: int) -> Tensor:
    return torch.hann_window(length)
