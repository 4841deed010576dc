import subprocess
import sys
from dataclasses import fields
from typing import Any

import numpy as np
import pytest

from snn_datasets import Draw, Stage
from snn_datasets.base.recordings import Image, Recording, Waveform
from snn_datasets.stages.corruption import (
    AudioNoise,
    ImageNoise,
    ImageOcclusion,
)

RNG = np.random.default_rng(0)
IMAGE = Image(RNG.integers(1, 256, (3, 8, 10), dtype=np.uint8))
WAVE = Waveform(np.sin(np.arange(40_000) / 7, dtype=np.float32)[None] * np.array([[1], [0.5]], np.float32), 8000)
HARD: tuple[tuple[Stage, Recording], ...] = (
    (ImageNoise(std=0.3), IMAGE),
    (ImageOcclusion(side=3), IMAGE),
    (AudioNoise(snr_db=5), WAVE),
)
HARMLESS: tuple[tuple[Stage, Recording], ...] = (
    (ImageNoise(std=0), IMAGE),
    (ImageOcclusion(side=0), IMAGE),
    (AudioNoise(snr_db=200), WAVE),
)


def corrupt(stage: Stage, value: Any, sample: str = "a", seed: int = 0) -> Any:
    return stage(value, Draw(seed, sample, "m").of(stage, "prepare 0"))


def arrays(recording: Recording) -> dict[str, Any]:
    return {field.name: getattr(recording, field.name) for field in fields(recording)}


def same(one: Recording, other: Recording) -> bool:
    pairs = zip(arrays(one).values(), arrays(other).values(), strict=True)
    return all(np.array_equal(mine, theirs) for mine, theirs in pairs)


def name(value: object) -> str:
    return type(value).__name__


@pytest.mark.parametrize(("stage", "recording"), HARD, ids=name)
def test_a_sample_gets_the_same_noise_every_time_and_another_sample_other_noise(stage: Stage, recording: Recording):
    before = {field: np.copy(value) for field, value in arrays(recording).items()}
    changed = corrupt(stage, recording)
    assert not same(changed, recording)
    assert same(changed, corrupt(stage, recording))
    assert not same(changed, corrupt(stage, recording, sample="b"))
    assert not same(changed, corrupt(stage, recording, seed=1))
    for field, value in arrays(recording).items():
        np.testing.assert_array_equal(before[field], value)  # what came in is as it was


@pytest.mark.parametrize(("stage", "recording"), HARD, ids=name)
def test_the_kind_of_recording_stays_and_so_do_its_types(stage: Stage, recording: Recording):
    changed = corrupt(stage, recording)
    assert type(changed) is type(recording)
    for field, value in arrays(recording).items():
        after = arrays(changed)[field]
        assert type(after) is type(value)
        if isinstance(value, np.ndarray):
            assert after.dtype == value.dtype
            assert after.shape[1:] == value.shape[1:]
        elif field in ("rate", "size", "polarities", "duration"):
            assert after == value


@pytest.mark.parametrize(("stage", "recording"), HARMLESS, ids=name)
def test_strength_zero_changes_nothing(stage: Stage, recording: Recording):
    for before, after in zip(arrays(recording).values(), arrays(corrupt(stage, recording)).values(), strict=True):
        np.testing.assert_allclose(after, before, rtol=0, atol=1e-6)  # 200 dB are noise of a ten-billionth


def test_pixel_noise_has_the_given_standard_deviation_and_is_clipped():
    gray = Image(np.full((1, 200, 200), 128, np.uint8))
    assert corrupt(ImageNoise(std=0.1), gray).pixels.std() / 255 == pytest.approx(0.1, rel=0.03)
    wild = corrupt(ImageNoise(std=5), gray).pixels
    assert (wild.min(), wild.max()) == (0, 255)


def test_the_square_is_black_of_its_size_and_inside():
    seen: set[tuple[int, int]] = set()
    for sample in range(60):
        pixels = corrupt(ImageOcclusion(side=4), IMAGE, str(sample)).pixels
        assert (pixels == 0).sum() == 3 * 16
        _, rows, columns = (pixels == 0).nonzero()
        assert rows.max() - rows.min() == columns.max() - columns.min() == 3
        np.testing.assert_array_equal(pixels[pixels > 0], IMAGE.pixels[pixels > 0])
        seen.add((int(rows.min()), int(columns.min())))
    assert len(seen) > 20
    assert max(top for top, _ in seen) == 4
    assert max(left for _, left in seen) == 6
    assert corrupt(ImageOcclusion(side=99), IMAGE).pixels[:, :, 8:].any()  # a square has no more than 8 x 8


def test_sound_noise_has_the_given_ratio():
    noise = corrupt(AudioNoise(snr_db=5), WAVE).samples - WAVE.samples
    assert 10 * np.log10(np.square(WAVE.samples).mean() / np.square(noise).mean()) == pytest.approx(5, abs=0.1)
    assert np.corrcoef(noise)[0, 1] == pytest.approx(0, abs=0.02)  # each channel has independent noise
    silence = Waveform(np.zeros((1, 100), np.float32), 8000)
    assert same(corrupt(AudioNoise(snr_db=-50), silence), silence)


def test_an_empty_recording_stays_empty():
    empty = Waveform(np.zeros((1, 0), np.float32), 8000)
    assert same(corrupt(AudioNoise(snr_db=3), empty), empty)


def test_corruptions_are_named_and_compared_without_torch():
    code = "import sys, snn_datasets.stages.corruption as c; c.ImageNoise(std=1); assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)
