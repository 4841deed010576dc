"""Resampling against torchaudio and against the formula, for rates with much and with nothing in common."""

import math
import tracemalloc

import numpy as np
import pytest
import torch
import torchaudio
from numpy.typing import NDArray
from torch import Tensor

from snn_datasets import Draw, ReadError, Waveform
from snn_datasets.modalities.audio import Resample
from snn_datasets.stages.resampling import resample, resampled_length

RATES = (8_000, 11_025, 16_000, 22_050, 44_100, 48_000, 96_000, 192_000)
DRAW = Draw(seed=0, sample="a", modality="m")


def noise(channels: int, length: int) -> Tensor:
    return torch.rand(channels, length, generator=torch.Generator().manual_seed(0)) * 2 - 1


def in_float64(wave: Tensor, source: int, target: int) -> Tensor:
    """What torchaudio computes in float64: in float32 its filters are off by up to 3e-5, for want of exact times."""
    return torchaudio.functional.resample(wave.double(), source, target)


def by_formula(wave: NDArray[np.float64], source: int, target: int, numbers: NDArray[np.int64]) -> NDArray[np.float64]:
    """Some output samples: every input sample times a sinc under a Hann window of six zeros to each side."""
    cutoff = 0.99 * min(source, target) / source
    t = (cutoff * (np.arange(len(wave)) - (numbers * source / target)[:, None])).clip(-6, 6)
    return (wave * cutoff * np.sinc(t) * np.cos(np.pi * t / 12) ** 2).sum(1)


@pytest.mark.parametrize("target", [16_000, 22_050])
@pytest.mark.parametrize("source", RATES)
def test_resampling_is_that_of_torchaudio(source: int, target: int):
    wave = noise(2, source // 4)
    ours = resample(wave, source, target)
    assert ours.shape == (2, math.ceil(len(wave[0]) * target / source))
    np.testing.assert_allclose(ours, in_float64(wave, source, target), atol=1e-6)


@pytest.mark.parametrize(("source", "target"), [(22_051, 147), (147, 22_051), (11_024, 689), (997, 1_009)])
def test_rates_with_nothing_in_common_are_resampled_as_torchaudio_does(source: int, target: int):
    wave = noise(1, source)
    np.testing.assert_allclose(resample(wave, source, target), in_float64(wave, source, target), atol=1e-6)


@pytest.mark.parametrize("source", [11_024, 22_051, 44_056, 44_101])
@pytest.mark.parametrize("target", [16_000, 22_050, 44_100])
def test_a_rate_a_little_off_a_usual_one_is_resampled(source: int, target: int):
    wave = noise(1, source // 2)
    resampled = Resample(rate=target)(Waveform(wave.numpy(), source), DRAW)
    assert resampled.rate == target
    assert resampled.samples.shape == (1, resampled_length(wave.shape[1], source, target))
    some = np.arange(0, resampled.samples.shape[1], 97)
    np.testing.assert_allclose(
        resampled.samples[0, some], by_formula(wave[0].numpy().astype(np.float64), source, target, some), atol=1e-6
    )


@pytest.mark.parametrize("length", [0, 1, 2, 7, 30])
@pytest.mark.parametrize(("source", "target"), [(8_000, 22_050), (192_000, 8_000), (1_000_000, 1), (44_101, 44_100)])
def test_clips_shorter_than_the_filter_keep_all_they_have(length: int, source: int, target: int):
    wave = noise(1, length)
    ours = resample(wave, source, target)
    assert ours.shape == (1, resampled_length(length, source, target))
    expected = by_formula(wave[0].numpy().astype(np.float64), source, target, np.arange(ours.shape[1]))
    np.testing.assert_allclose(ours[0], expected, atol=1e-6)


def test_a_clip_is_the_same_whether_its_filter_is_kept_or_not(monkeypatch: pytest.MonkeyPatch):
    from snn_datasets.stages import resampling

    wave = noise(2, 5_000)
    cached = resample(wave, 11_024, 16_000)
    monkeypatch.setattr(resampling, "TABLE_WEIGHTS", 0)
    monkeypatch.setattr(resampling, "CHUNK_WEIGHTS", 1_000)
    assert torch.equal(resample(wave, 11_024, 16_000), cached)


def test_a_recording_that_would_outgrow_memory_is_refused_before_it_does():
    tracemalloc.start()
    with pytest.raises(ReadError, match=r"1,000 samples at 1 Hz would have 1,000,000,000 at 1,000,000 Hz"):
        Resample(rate=1_000_000)(Waveform(np.zeros((1, 1_000), np.float32), 1), DRAW)
    assert tracemalloc.get_traced_memory()[1] < 10_000_000
    tracemalloc.stop()
