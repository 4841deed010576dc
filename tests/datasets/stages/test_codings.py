import pickle
import subprocess
import sys
from typing import Any

import numpy as np
import pytest
import torch
import torchaudio
from numpy.typing import NDArray
from PIL import Image as Pillow
from torch import Tensor

from snn_datasets import Draw, Stage
from snn_datasets.base.recordings import Events, Image, Series, Video, Waveform
from snn_datasets.stages.codings import (
    Bernoulli,
    EventFrames,
    Frames,
    Latency,
    LogMagnitude,
    LogMel,
    Pixels,
    SendOnDelta,
    Steps,
)

DRAW = Draw(seed=3, sample="a", modality="m")
EVERY: tuple[Stage, ...] = (
    Pixels(size=5),
    Frames(steps=3),
    EventFrames(steps=3),
    Steps(steps=3),
    SendOnDelta(steps=3, threshold=0.1),
    Bernoulli(steps=3),
    Latency(steps=3),
    LogMel(columns=4),
    LogMagnitude(columns=4),
)


def encode(stage: Stage, value: object) -> Tensor:
    """Return the result of a coding, after checks that hold for all codings."""
    out: Tensor = stage(value, DRAW.of(stage, "encode 0"))
    assert out.dtype == torch.float32
    assert out.is_contiguous()
    return out


def rng(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


def some_events(count: int, *, duration: int = 10_007, size: tuple[int, int] = (5, 7), polarities: int = 2) -> Events:
    draw = rng(count)
    return Events.of(
        t=draw.integers(0, duration, count),
        x=draw.integers(0, size[1], count),
        y=draw.integers(0, size[0], count),
        p=draw.integers(0, polarities, count),
        size=size,
        polarities=polarities,
        duration=duration,
    )


def tone(hertz: float, seconds: float, rate: int = 8000) -> NDArray[np.float32]:
    return (0.5 * np.sin(2 * np.pi * hertz * np.arange(round(rate * seconds)) / rate)).astype(np.float32)


def sound(*parts: NDArray[np.float32], rate: int = 8000) -> Waveform:
    return Waveform(np.concatenate(parts)[None], rate)


def test_every_coding_is_registered_and_can_be_pickled():
    from snn_datasets.base.registry import Registry

    registry: Registry[Stage] = Registry("coding", "snn_datasets.codings")
    for stage in EVERY:
        assert registry[stage.model_dump()["kind"]] is type(stage)
        assert registry.parse(stage.model_dump()) == stage
        assert pickle.loads(pickle.dumps(stage)) == stage


def test_codings_are_named_and_compared_without_torch():
    code = "import sys, snn_datasets.stages.codings as e; e.LogMel(columns=3); assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)


@pytest.mark.parametrize("stage", EVERY, ids=lambda stage: type(stage).__name__)
def test_a_recording_of_another_kind_is_refused_by_name(stage: Stage):
    other = some_events(3) if not isinstance(stage, EventFrames) else Image(np.zeros((1, 2, 2), np.uint8))
    with pytest.raises(ValueError, match=rf"{type(stage).__name__} takes \w+, not {type(other).__name__}"):
        encode(stage, other)


# Images


def test_an_image_keeps_its_pixels_and_its_axes():
    pixels = rng().integers(0, 256, (3, 4, 6), dtype=np.uint8)
    out = encode(Pixels(), Image(pixels))
    np.testing.assert_array_equal(out.numpy(), pixels.astype(np.float32) / 255)


@pytest.mark.parametrize("size", [3, 9, 20])
def test_an_image_is_resized_like_pillow(size: int):
    pixels = rng().integers(0, 256, (1, 9, 13), dtype=np.uint8)
    out = encode(Pixels(size=size), Image(pixels))
    expected = Pillow.fromarray(pixels[0].astype(np.float32)).resize((size, size), Pillow.Resampling.BILINEAR)
    np.testing.assert_allclose(255 * out[0].numpy(), np.asarray(expected), atol=1e-2)


# Videos


def numbered(times: list[float]) -> Video:
    frames = np.zeros((len(times), 3, 2, 5), np.uint8)
    frames[:] = np.arange(len(times), dtype=np.uint8)[:, None, None, None]
    return Video(frames, np.array(times))


def frame_numbers(video: Video, steps: int) -> list[int]:
    out = encode(Frames(steps=steps), video)
    assert out.shape == (steps, 3, 2, 5)
    return (255 * out[:, 1, 0, 3]).round().int().tolist()


def test_frames_are_spread_over_the_video():
    video = numbered([0.04 * number for number in range(12)])
    assert frame_numbers(video, 12) == list(range(12))
    assert frame_numbers(video, 4) == [1, 4, 7, 10]
    assert frame_numbers(video, 24) == [number // 2 for number in range(24)]
    assert frame_numbers(numbered([7.5]), 3) == [0, 0, 0]


def test_frames_are_chosen_by_time_not_by_number():
    # Four frames a tenth of a second apart, then one that is shown from 0.9 s on.
    assert frame_numbers(numbered([0.0, 0.1, 0.2, 0.3, 0.9]), 3) == [1, 3, 4]


def test_a_video_without_frames_is_refused():
    with pytest.raises(ValueError, match="0 frames and 0 times"):
        encode(Frames(steps=2), numbered([]))


# Events


@pytest.mark.parametrize("by", ["time", "count"])
@pytest.mark.parametrize("count", [0, 1, 2, 6, 5000])
@pytest.mark.parametrize("steps", [1, 4, 7])
def test_every_event_is_counted_at_its_pixel(by: Any, count: int, steps: int):
    events = some_events(count)
    out = encode(EventFrames(steps=steps, by=by), events).numpy()
    assert out.shape == (steps, 2, 5, 7)
    assert out.sum() == count
    counts = np.zeros((2, 5, 7))
    np.add.at(counts, (events.p, events.y, events.x), 1)
    np.testing.assert_array_equal(out.sum(0), counts)
    expected = np.zeros_like(out)
    step = events.t * steps // events.duration if by == "time" else np.arange(count) * steps // max(count, 1)
    if by == "time":
        np.add.at(expected, (step, events.p, events.y, events.x), 1)
        np.testing.assert_array_equal(out, expected)
    else:
        per_step = out.sum((1, 2, 3))
        assert per_step.max() - per_step.min() <= 1


def test_one_polarity_makes_one_channel():
    assert encode(EventFrames(steps=2), some_events(50, polarities=1)).shape == (2, 1, 5, 7)


def test_the_last_microsecond_is_in_the_last_step_and_silence_at_the_end_counts():
    def at(*times: int) -> Events:
        zeros = np.zeros(len(times), int)
        return Events.of(t=np.array(times), x=zeros, y=zeros, p=zeros, size=(1, 1), polarities=1, duration=100)

    assert encode(EventFrames(steps=4), at(0, 24, 25, 99)).flatten().tolist() == [2, 1, 0, 1]
    assert encode(EventFrames(steps=4), at(3, 4)).flatten().tolist() == [2, 0, 0, 0]
    assert encode(EventFrames(steps=2, by="count"), at(3, 4)).flatten().tolist() == [1, 1]


def test_events_are_not_changed():
    events = some_events(100)
    before = [field.copy() for field in (events.t, events.x, events.y, events.p)]
    encode(EventFrames(steps=3), events)
    for old, new in zip(before, (events.t, events.x, events.y, events.p), strict=True):
        np.testing.assert_array_equal(old, new)


# Series


def test_means_over_equal_spans_of_time():
    values = rng().normal(size=(60, 3)).astype(np.float32)
    out = encode(Steps(steps=5), Series(values, np.arange(60, dtype=np.float64) * 0.1))
    np.testing.assert_allclose(out.numpy(), values.reshape(5, 12, 3).mean(1), atol=1e-6)


def test_steps_are_equal_in_time_for_unevenly_spaced_values():
    # Ten values within the first second, then one at 9 s: it lasts as long as the average, until 9.9 s.
    times = np.array([*(np.arange(10) / 10), 9.0])
    values = np.array([*range(10), 100.0], np.float32)[:, None]
    out = encode(Steps(steps=3), Series(values, times))
    assert out.flatten().tolist() == [4.5, 9.0, 100.0]  # nothing happens in the middle, so 9 is held


def test_a_single_value_is_held():
    assert encode(Steps(steps=3), Series(np.full((1, 2), 7, np.float32), np.array([5.0]))).tolist() == [[7, 7]] * 3


def test_a_series_without_values_is_refused():
    for stage in (Steps(steps=3), SendOnDelta(steps=3, threshold=1)):
        with pytest.raises(ValueError, match="0 values and 0 times"):
            encode(stage, Series(np.zeros((0, 2), np.float32), np.zeros(0)))


@pytest.mark.parametrize("threshold", [0.05, 0.7, 4.0])
def test_crossings_follow_the_series_within_one_threshold(threshold: float):
    walk = rng().normal(size=(400, 3)).cumsum(0).astype(np.float32)
    out = encode(SendOnDelta(steps=8, threshold=threshold), Series(walk, np.arange(400) / 50)).double()
    assert out.shape == (8, 6)
    assert (out >= 0).all()
    assert torch.equal(out, out.round())
    followed = threshold * (out[:, :3] - out[:, 3:]).cumsum(0)
    ends = torch.as_tensor(walk[49::50] - walk[0]).double()
    assert (followed - ends).abs().max() < threshold * (1 + 1e-5)


def test_an_event_is_sent_only_a_whole_threshold_away_from_the_last():
    wiggle = np.array([0, 0.9, 0.1, 0.9, 1.1, 0.2, 1.9, 2.0, 1.1, 1.0, -1.0], np.float32)[:, None]
    out = encode(SendOnDelta(steps=1, threshold=1.0), Series(wiggle, np.arange(11) / 10))
    assert out.tolist() == [[2, 3]]  # up at 1.1 and 2.0; down at 1.0, and twice at -1.0


# Spikes


def test_the_chance_of_a_spike_is_the_value():
    values = torch.tensor([[0.0, 0.2, 0.5], [0.8, 0.99, 1.0]])
    out = encode(Bernoulli(steps=20_000), values)
    assert out.shape == (20_000, 2, 3)
    assert set(out.unique().tolist()) == {0.0, 1.0}
    np.testing.assert_allclose(out.mean(0), values, atol=0.015)
    assert out[:, 0, 0].sum() == 0
    assert out[:, 1, 2].sum() == 20_000


def test_chance_is_drawn_once_a_sample():
    stage, values = Bernoulli(steps=30), torch.full((4, 5), 0.5)
    first = encode(stage, values)
    assert torch.equal(first, encode(stage, values))
    other = stage(values, Draw(seed=3, sample="b", modality="m").of(stage, "encode 0"))
    assert not torch.equal(first, other)


def test_a_larger_value_spikes_earlier_and_only_once():
    values = torch.rand(50, 3, generator=torch.Generator().manual_seed(0))
    values[0] = torch.tensor([0.0, 1e-30, 1.0])
    out = encode(Latency(steps=6), values)
    assert out.shape == (6, 50, 3)
    assert out.sum(0).flatten().tolist() == [0.0] + [1.0] * 149
    assert out[:, 0].argmax(0).tolist()[1:] == [5, 0]
    first = out.argmax(0).flatten()[1:]
    order = values.flatten()[1:].argsort(descending=True)
    assert (first[order].diff() >= 0).all()
    assert first.bincount(minlength=6).min() > 10


@pytest.mark.parametrize("stage", [Bernoulli(steps=2), Latency(steps=2)], ids=["bernoulli", "latency"])
@pytest.mark.parametrize("wrong", [-0.1, 1.5, float("nan")])
def test_values_outside_0_to_1_are_refused(stage: Stage, wrong: float):
    with pytest.raises(ValueError, match=rf"{type(stage).__name__} takes values from 0 to 1"):
        encode(stage, torch.tensor([0.5, wrong]))


# Sound


def test_log_magnitude_is_that_of_torchaudio():
    wave = rng().normal(size=(1, 22_050)).astype(np.float32)
    out = encode(LogMagnitude(window_ms=512 / 22.05, hop_ms=353 / 22.05, columns=63), Waveform(wave, 22_050))
    spectrum = torchaudio.transforms.Spectrogram(n_fft=512, hop_length=353, power=None, pad_mode="constant")
    expected = (spectrum(torch.from_numpy(wave)).abs() + 1e-7).log()
    assert out.shape == expected.shape == (1, 257, 63)
    np.testing.assert_allclose(out, expected, atol=1e-3, rtol=1e-3)


def test_log_mel_is_that_of_torchaudio():
    wave = torch.from_numpy(rng().normal(size=(2, 8000)).astype(np.float32))
    stage = LogMel(bands=20, window_ms=32, hop_ms=10, columns=101, dynamic_range_db=40, scale="unit")
    out = encode(stage, Waveform(wave.numpy(), 8000))
    power = torchaudio.transforms.MelSpectrogram(8000, n_fft=256, hop_length=80, n_mels=20, pad_mode="constant")(wave)
    decibels = torchaudio.functional.amplitude_to_DB(power, 10.0, 1e-20, 0.0)
    expected = ((decibels - decibels.max()) / 40 + 1).clamp(0, 1)
    assert out.shape == expected.shape == (2, 20, 101)
    np.testing.assert_allclose(out, expected, atol=1e-4)
    assert out.max() == 1


def test_low_pitch_and_early_times_come_first():
    out = encode(LogMel(bands=32, rows=16, columns=12), sound(tone(300, 0.5), tone(3000, 0.5)))
    assert out.shape == (1, 16, 12)
    loudest = out[0].argmax(0)
    # 300 Hz is 402 mel and 3000 Hz 1877 mel of 2146: rows 3 and 14 of 16.
    assert loudest[1].item() == pytest.approx(402 / 2146 * 16 - 0.5, abs=1)
    assert loudest[-2].item() == pytest.approx(1877 / 2146 * 16 - 0.5, abs=1)
    magnitude = encode(LogMagnitude(rows=16, columns=12), sound(tone(300, 0.5), tone(3000, 0.5)))
    assert magnitude[0, :, 1].argmax() == 1  # 300 of 4000 Hz
    assert magnitude[0, :, -2].argmax() in (11, 12)


@pytest.mark.parametrize("stage", [LogMel(bands=24, columns=3, steps=5), LogMagnitude(rows=24, columns=3, steps=5)])
@pytest.mark.parametrize("seconds", [0.5, 1.7])
def test_each_step_covers_its_part_of_the_clip(stage: Stage, seconds: float):
    clip = tone(1000, seconds)
    clip[: 3 * len(clip) // 5] = 0
    clip[4 * len(clip) // 5 :] = 0
    out = encode(stage, sound(clip))
    assert out.shape == (5, 1, 24, 3)
    energy = out.amax((1, 2))[:, 1]  # of each step's middle column
    assert energy.argmax() == 3
    assert energy[3] > 3 + torch.cat([energy[:3], energy[4:]]).max()


def test_steps_contain_the_static_spectrogram():
    clip = sound(rng().normal(size=9000).astype(np.float32))
    static, timed = encode(LogMel(columns=12, bands=10), clip), encode(LogMel(columns=3, steps=4, bands=10), clip)
    for step in range(4):
        np.testing.assert_allclose(timed[step], static[..., 3 * step : 3 * step + 3], atol=1e-5)


def test_each_clip_is_standardized_and_its_loudness_lost():
    wave = rng().normal(size=6000).astype(np.float32)
    out = encode(LogMel(columns=16), sound(wave))
    assert out.mean().item() == pytest.approx(0, abs=1e-5)
    assert out.std(correction=0).item() == pytest.approx(1, abs=1e-4)
    np.testing.assert_allclose(encode(LogMel(columns=16), sound(0.01 * wave)), out, atol=1e-3)


@pytest.mark.parametrize("scale", ["standard", "unit"])
@pytest.mark.parametrize("samples", [1, 7, 4000])
@pytest.mark.parametrize("level", [0.0, 1e-30, 0.3])
def test_silent_constant_and_tiny_clips_stay_finite(scale: Any, samples: int, level: float):
    out = encode(LogMel(columns=8, bands=16, scale=scale), sound(np.full(samples, level, np.float32)))
    assert out.shape == (1, 16, 8)
    assert out.isfinite().all()
    assert (out.count_nonzero() == 0) == (level < 1e-6)
    assert encode(LogMagnitude(columns=8), sound(np.full(samples, level, np.float32))).isfinite().all()


def test_silence_has_no_contrast_to_scale_up():
    silence = Waveform(np.zeros((1, 4000), np.float32), 8000)
    assert encode(LogMagnitude(columns=8, scale="standard"), silence).count_nonzero() == 0
    np.testing.assert_allclose(encode(LogMagnitude(columns=8), silence), np.full((1, 101, 8), np.log(1e-7)), rtol=1e-6)


@pytest.mark.parametrize("rate", [1000, 8000, 11_025, 44_100, 192_000])
@pytest.mark.parametrize("bands", [4, 64, 200])
def test_no_mel_band_is_empty_at_any_rate(rate: int, bands: int):
    # torchaudio warns of an empty band, and the test suite turns warnings into errors.
    wave = rng().normal(size=rate // 4).astype(np.float32)
    out = encode(LogMel(columns=4, bands=bands, scale="unit"), sound(wave, rate=rate))
    assert out.mean(2).min() > 0


def test_a_clip_without_samples_is_refused():
    for stage in (LogMel(columns=4), LogMagnitude(columns=4)):
        with pytest.raises(ValueError, match="no samples"):
            encode(stage, Waveform(np.zeros((1, 0), np.float32), 8000))
