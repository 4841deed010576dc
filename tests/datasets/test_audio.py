from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch

from snn_datasets.audio import LogMelSpectrogram, read_rate, read_waveform


def tone(hertz: float, *, rate: int, seconds: float = 0.5) -> torch.Tensor:
    return 0.5 * torch.sin(2 * torch.pi * hertz * torch.arange(round(rate * seconds)) / rate)


def spectrogram(rate: int = 8000, *, size: int = 16, mel_bands: int = 32, window_ms: float = 25) -> LogMelSpectrogram:
    return LogMelSpectrogram(
        sample_rate=rate, size=size, mel_bands=mel_bands, window_ms=window_ms, hop_ms=10, dynamic_range_db=50
    )


def test_stereo_at_another_rate_becomes_the_same_tone(tmp_path: Path):
    wave = tone(440, rate=44_100)
    soundfile.write(tmp_path / "x.wav", torch.stack([wave, 0.5 * wave], 1).numpy(), 44_100, subtype="FLOAT")
    assert read_rate(tmp_path / "x.wav") == 44_100
    heard = read_waveform(tmp_path / "x.wav", sample_rate=8000)
    assert heard.shape == (4000,)
    middle = slice(200, -200)  # the filter has no signal to lean on at the ends
    torch.testing.assert_close(heard[middle], 0.75 * tone(440, rate=8000)[middle], atol=5e-3, rtol=0)


@pytest.mark.parametrize("ending", ["wav", "flac", "ogg", "mp3", "aiff"])
def test_common_formats_are_read(tmp_path: Path, ending: str):
    soundfile.write(tmp_path / f"x.{ending}", tone(440, rate=16_000).numpy(), 16_000)
    heard = read_waveform(tmp_path / f"x.{ending}", sample_rate=16_000)
    assert heard.std().item() == pytest.approx(0.5 / 2**0.5, rel=0.1)


def test_a_recording_without_samples_is_refused(tmp_path: Path):
    soundfile.write(tmp_path / "x.wav", np.zeros(0), 8000)
    with pytest.raises(ValueError, match=r"x\.wav has no samples; replace"):
        read_waveform(tmp_path / "x.wav", sample_rate=8000)


def test_samples_that_are_no_numbers_are_refused(tmp_path: Path):
    soundfile.write(tmp_path / "x.wav", np.array([0.0, np.nan, 0.0]), 8000, subtype="FLOAT")
    with pytest.raises(ValueError, match=r"x\.wav has samples that are not finite"):
        read_waveform(tmp_path / "x.wav", sample_rate=8000)


def test_a_file_that_is_no_recording_is_refused(tmp_path: Path):
    (tmp_path / "x.wav").write_bytes(b"this is no recording")
    for read in (read_rate, lambda path: read_waveform(path, sample_rate=8000)):
        with pytest.raises(ValueError, match=r"cannot read recording .*x\.wav"):
            read(tmp_path / "x.wav")


def test_low_bands_and_early_frames_come_first():
    low_then_high = torch.cat([tone(300, rate=8000), tone(3000, rate=8000)])
    picture = spectrogram()(low_then_high)
    assert picture.shape == (1, 16, 16)
    loudest = picture[0].argmax(0)
    # 300 Hz is 402 mel and 3000 Hz 1877 mel of 2146: rows 3 and 14 of 16.
    assert loudest[2].item() == pytest.approx(402 / 2146 * 16 - 0.5, abs=1)
    assert loudest[-3].item() == pytest.approx(1877 / 2146 * 16 - 0.5, abs=1)


def test_each_clip_is_standardised_and_loudness_is_lost():
    wave = torch.randn(6000, generator=torch.Generator().manual_seed(0))
    picture = spectrogram()(wave)
    assert picture.mean().item() == pytest.approx(0, abs=1e-5)
    assert picture.std(correction=0).item() == pytest.approx(1, abs=1e-4)
    torch.testing.assert_close(spectrogram()(0.01 * wave), picture, atol=1e-3, rtol=0)


def test_clips_of_different_length_are_stretched_to_one_picture():
    short, long = (spectrogram()(torch.cat([tone(f, rate=8000, seconds=s) for f in (300, 3000)])) for s in (0.4, 1.2))
    assert short.shape == long.shape
    assert torch.corrcoef(torch.stack([short.flatten(), long.flatten()]))[0, 1] > 0.9


@pytest.mark.parametrize("wave", [torch.zeros(4000), torch.full((4000,), 0.3), torch.zeros(1), torch.full((7,), 1e-30)])
def test_silent_constant_and_tiny_clips_stay_finite(wave: torch.Tensor):
    picture = spectrogram()(wave)
    assert picture.shape == (1, 16, 16)
    assert picture.isfinite().all()
    assert (picture.count_nonzero() == 0) == (wave.abs().max() < 1e-6).item()


@pytest.mark.parametrize("rate", [1000, 8000, 11_025, 44_100, 192_000])
@pytest.mark.parametrize("mel_bands", [4, 64, 200])
def test_no_mel_band_is_empty_at_any_rate(rate: int, mel_bands: int):
    # torchaudio warns of an empty band, and the test suite turns warnings into errors.
    transform = spectrogram(rate, mel_bands=mel_bands)
    bands = transform.mel.mel_scale.fb
    assert bands.shape[1] == mel_bands
    assert bands.amax(0).min() > 0
    assert transform.mel.n_fft >= max(256, round(rate * 0.025))
