"""Spectrograms and mel bands against torchaudio, at every usual rate and an odd one."""

from pathlib import Path

import pytest
import torch
import torchaudio
from torch import Tensor

from snn_datasets.stages.spectrogram import magnitude_spectrogram, mel_fft_length, mel_filters, mel_spectrogram

RATES = (8_000, 11_025, 16_000, 22_050, 22_051, 44_100, 48_000, 96_000, 192_000)
CODE = Path(__file__).parents[3] / "packages" / "snn-datasets" / "src" / "snn_datasets"


def noise(*shape: int) -> Tensor:
    return torch.rand(*shape, generator=torch.Generator().manual_seed(0)) * 2 - 1


@pytest.mark.parametrize("rate", RATES)
def test_spectrogram_and_mel_are_those_of_torchaudio_to_the_bit(rate: int):
    wave = noise(2, rate // 5)
    window, hop = round(0.025 * rate), round(0.01 * rate)
    spectrogram = torchaudio.transforms.Spectrogram(n_fft=window, hop_length=hop, power=1.0, pad_mode="constant")
    assert torch.equal(magnitude_spectrogram(wave, window=window, hop=hop), spectrogram(wave))

    fft_length = mel_fft_length(rate, window=window, bands=64)
    mel = torchaudio.transforms.MelSpectrogram(
        rate, n_fft=fft_length, win_length=window, hop_length=hop, n_mels=64, pad_mode="constant"
    )
    ours = mel_spectrogram(wave, rate=rate, window=window, hop=hop, bands=64, fft_length=fft_length)
    assert torch.equal(ours, mel(wave))


def test_the_spectrograms_of_the_digits_equal_torchaudios_bit_for_bit():
    clips = noise(3, 6_400)
    mel = torchaudio.transforms.MelSpectrogram(8_000, n_fft=256, hop_length=80, f_min=50.0, n_mels=16)
    ours = mel_spectrogram(clips, rate=8_000, window=256, hop=80, bands=16, lowest_hz=50.0, padding="reflect")
    assert torch.equal(ours, mel(clips))


@pytest.mark.parametrize("rate", [1_000, 8_000, 22_051, 192_000])
@pytest.mark.parametrize("bands", [4, 64, 200])
def test_every_band_has_a_frequency(rate: int, bands: int):
    length = mel_fft_length(rate, window=round(0.025 * rate), bands=bands)
    filters = mel_filters(rate, frequencies=length // 2 + 1, bands=bands)
    assert filters.shape == (length // 2 + 1, bands)
    assert (filters.amax(0) > 0).all()


def test_a_spectrogram_larger_than_memory_is_refused():
    with pytest.raises(ValueError, match="choose a longer hop, a shorter window"):
        magnitude_spectrogram(torch.zeros(1, 3_000_000), window=512, hop=1)
    with pytest.raises(ValueError, match="choose a longer hop, a shorter window"):
        magnitude_spectrogram(torch.zeros(2, 10), window=10**9, hop=1)
    with pytest.raises(ValueError, match="1,000,000 mel bands of 2,049 frequencies are too many"):
        mel_filters(8_000, frequencies=2_049, bands=1_000_000)


def test_a_rate_that_holds_no_frequency_is_refused():
    with pytest.raises(ValueError, match="sound at 1 Hz has no frequencies above 0 Hz"):
        mel_filters(1, frequencies=129, bands=4)


def test_only_library_transforms_imports_torchaudio_or_torchvision():
    """torchaudio raises when it is imported beside a PyTorch built for another CUDA version."""
    lines = [
        f"{path.name}: {line}"
        for path in CODE.rglob("*.py")
        if path.name != "library_transforms.py"
        for line in path.read_text(encoding="utf-8").splitlines()
        if line.strip().startswith(("import torchaudio", "from torchaudio", "import torchvision", "from torchvision"))
    ]
    assert lines == []
