"""Bringing sound to another sample rate: band-limited interpolation by a windowed sinc.

An output sample is a weighted sum of the input samples around its time. The weights are a sinc, cut at 99 % of the
lower of the two Nyquist frequencies, under a Hann window that spans six of its zeros to each side; torchaudio's
`resample` has the same filter. It keeps one long row of mostly zero weights for each place between two input samples
at which an output sample can lie, which for rates with little in common (22,051 Hz and 16 kHz) takes gigabytes. Here a
row holds only the weights that matter.
"""

# torch leaves some of its own signatures open.
# pyright: reportUnknownMemberType=false
from __future__ import annotations

import math
from functools import lru_cache

import torch
import torch.nn.functional as F
from torch import Tensor

ZEROS = 6
"""Zeros of the sinc that the window spans to each side."""
ROLLOFF = 0.99
"""Cutoff, as a share of the lower Nyquist frequency."""
TABLE_WEIGHTS = 2**22
"""A filter of more weights is not kept, but computed as its weights are needed."""
CHUNK_WEIGHTS = 2**21
"""Weights in use at once."""


def resampled_length(length: int, source: int, target: int) -> int:
    """Samples of a recording of `length` samples at `source` Hz, once it is at `target` Hz."""
    return -(-length * target // source)


def resample(wave: Tensor, source: int, target: int) -> Tensor:
    """Resample sound; what the lower rate cannot hold is left out.

    Shape: wave float32 [channels, L] -> [channels, ceil(L * target / source)]

    Args:
        wave: the sound.
        source: its rate in Hz.
        target: the rate afterwards in Hz.
    """
    channels, length = wave.shape
    if source == target or not length:
        return wave
    common = math.gcd(source, target)
    source, target = source // common, target // common
    # Input samples to each side of an output sample; beyond both ends of the recording there is silence.
    reach = min(math.ceil(ZEROS / _cutoff(source, target)), length)
    padded = F.pad(wave, (reach - 1, reach + 1))
    windows = padded.unfold(1, 2 * reach, 1)  # [channels, start, 2 * reach], a view
    is_kept = target * 2 * reach <= TABLE_WEIGHTS and reach < length
    chunk = max(1, CHUNK_WEIGHTS // (2 * reach * channels))
    parts: list[Tensor] = []
    end = resampled_length(length, source, target)
    for first in range(0, end, chunk):
        # In units of input samples an output sample lies at `before` + `phase` / target.
        time = torch.arange(first, min(first + chunk, end)) * source
        before, phase = time // target, time % target
        weights = _table(source, target, reach)[phase] if is_kept else _weights(phase, source, target, reach)
        parts.append((windows[:, before] * weights).sum(2))
    return torch.cat(parts, 1)


def _cutoff(source: int, target: int) -> float:
    """Cutoff as a share of the Nyquist frequency of the input."""
    return ROLLOFF * min(source, target) / source


@lru_cache(maxsize=16)
def _table(source: int, target: int, reach: int) -> Tensor:
    """The weights of every phase, float32 [target, 2 * reach]: computing them costs more than using them once."""
    return _weights(torch.arange(target), source, target, reach)


def _weights(phase: Tensor, source: int, target: int, reach: int) -> Tensor:
    """The weights of the input samples around output samples that lie `phase` / target after one of them.

    Shape: int64 [P] -> float32 [P, 2 * reach]
    """
    cutoff = _cutoff(source, target)
    around = torch.arange(1 - reach, 1 + reach, dtype=torch.float64)
    t = (cutoff * (around - phase[:, None].double() / target)).clamp(-ZEROS, ZEROS)
    window = torch.cos(t * (math.pi / ZEROS / 2)).square()
    return (cutoff * window * torch.sinc(t)).float()
