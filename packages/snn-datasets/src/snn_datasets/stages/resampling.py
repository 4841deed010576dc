"""Resampling of sound: band-limited interpolation with a windowed sinc.

An output sample is a weighted sum of the input samples around its time. The weights are a sinc with cutoff at 99 % of
the lower Nyquist frequency, under a Hann window over six of its zeros to each side, the filter of torchaudio's
`resample`. torchaudio stores one long row of mostly zero weights for each phase of an output sample between two input
samples, which takes gigabytes for rates with a small common divisor (22,051 Hz and 16 kHz). Here a row holds only the
nonzero weights.
"""

# Some signatures of torch are untyped.
# pyright: reportUnknownMemberType=false
from __future__ import annotations

import math
from functools import lru_cache

import torch
import torch.nn.functional as F
from torch import Tensor

ZEROS = 6
"""Zeros of the sinc within the window, to each side."""
ROLLOFF = 0.99
"""Cutoff, as a fraction of the lower Nyquist frequency."""
TABLE_WEIGHTS = 2**22
"""A filter with more weights is not cached; its weights are computed when needed."""
CHUNK_WEIGHTS = 2**21
"""Weights in memory at once."""


def resampled_length(length: int, source: int, target: int) -> int:
    """Return the length of a recording of `length` samples at `source` Hz after resampling to `target` Hz."""
    return -(-length * target // source)


def resample(wave: Tensor, source: int, target: int) -> Tensor:
    """Resample sound with an anti-aliasing filter.

    Shape: wave float32 [channels, L] -> [channels, ceil(L * target / source)]

    Args:
        wave: the sound.
        source: its rate in Hz.
        target: the target rate in Hz.
    """
    channels, length = wave.shape
    if source == target or not length:
        return wave
    common = math.gcd(source, target)
    source, target = source // common, target // common
    # Input samples to each side of an output sample; the recording is padded with silence.
    reach = min(math.ceil(ZEROS / _cutoff(source, target)), length)
    padded = F.pad(wave, (reach - 1, reach + 1))
    windows = padded.unfold(1, 2 * reach, 1)  # [channels, start, 2 * reach], a view
    is_cached = target * 2 * reach <= TABLE_WEIGHTS and reach < length
    chunk = max(1, CHUNK_WEIGHTS // (2 * reach * channels))
    parts: list[Tensor] = []
    end = resampled_length(length, source, target)
    for first in range(0, end, chunk):
        # In units of input samples, an output sample is at `before` + `phase` / target.
        time = torch.arange(first, min(first + chunk, end)) * source
        before, phase = time // target, time % target
        weights = _table(source, target, reach)[phase] if is_cached else _weights(phase, source, target, reach)
        parts.append((windows[:, before] * weights).sum(2))
    return torch.cat(parts, 1)


def _cutoff(source: int, target: int) -> float:
    """Return the cutoff as a fraction of the input's Nyquist frequency."""
    return ROLLOFF * min(source, target) / source


@lru_cache(maxsize=16)
def _table(source: int, target: int, reach: int) -> Tensor:
    """Return the weights of every phase, float32 [target, 2 * reach]; cached, since computing them is expensive."""
    return _weights(torch.arange(target), source, target, reach)


def _weights(phase: Tensor, source: int, target: int, reach: int) -> Tensor:
    """Return the weights of the input samples around output samples `phase` / target after an input sample.

    Shape: int64 [P] -> float32 [P, 2 * reach]
    """
    cutoff = _cutoff(source, target)
    around = torch.arange(1 - reach, 1 + reach, dtype=torch.float64)
    t = (cutoff * (around - phase[:, None].double() / target)).clamp(-ZEROS, ZEROS)
    window = torch.cos(t * (math.pi / ZEROS / 2)).square()
    return (cutoff * window * torch.sinc(t)).float()
