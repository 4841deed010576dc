from dataclasses import replace

import pytest
import torch
from torch import Generator, Tensor

from snn_datasets.digits.speech import DIGITS, PHONEMES, SAMPLE_RATE, Segment, Speaker, render, spell


def seeded(seed: int = 0) -> Generator:
    return Generator().manual_seed(seed)


def synthesize(digit: int, speaker: Speaker, generator: Generator) -> Tensor:
    waves, lengths = render([spell(digit)], [speaker], generator)
    return waves[0, : lengths[0]]


def sustain(segment: Segment, speaker: Speaker = Speaker(), *, seed: int = 0) -> Tensor:  # noqa: B008
    """Four seconds of one target, so that a spectrum can be averaged over many frames."""
    waves, lengths = render([[replace(segment, duration=4000)]], [speaker], seeded(seed))
    return waves[0, : lengths[0]]


def spectrum(wave: Tensor) -> Tensor:
    """Mean power at 0, 1 * 15.625, 2 * 15.625, ... Hz."""
    return torch.stft(wave, 512, 128, window=torch.hann_window(512), return_complex=True).abs().square().mean(1)


def peak(wave: Tensor, low: float, high: float) -> float:
    power, step = spectrum(wave), SAMPLE_RATE / 512
    first = round(low / step)
    return (first + int(power[first : round(high / step)].argmax())) * step


@pytest.mark.parametrize(
    ("vowel", "f1", "f2"), [("iy", 270, 2290), ("ih", 390, 1990), ("eh", 530, 1840), ("ah", 640, 1190)]
)
@pytest.mark.parametrize("tract", [1.0, 1.18])
def test_a_whispered_vowel_peaks_at_its_formants(vowel: str, f1: float, f2: float, tract: float):
    whispered = replace(PHONEMES[vowel][0], voice=0.0, breath=1.0)
    wave = sustain(whispered, Speaker(tract=tract))
    # A target moves by up to 4 % from one utterance to the next; the rest is the resolution of the analysis.
    assert peak(wave, 180, 0.7 * (f1 + f2) / 1.4) == pytest.approx(f1 * tract, rel=0.08, abs=32)
    assert peak(wave, (f1 + f2) / 1.7 * tract, 1.2 * f2 * tract) == pytest.approx(f2 * tract, rel=0.06)


@pytest.mark.parametrize("pitch", [95.0, 140.0, 230.0])
def test_the_voice_has_the_given_pitch(pitch: float):
    wave = sustain(PHONEMES["ah"][0], Speaker(pitch=pitch))
    middle = wave[len(wave) // 2 - 800 : len(wave) // 2 + 800]
    correlation = torch.fft.irfft(torch.fft.rfft(middle, n=4096).abs().square())
    shortest, longest = SAMPLE_RATE // 320, SAMPLE_RATE // 70
    period = shortest + int(correlation[shortest:longest].argmax())
    # In the middle of an utterance the contour crosses its mean, give or take its bend.
    assert SAMPLE_RATE / period == pytest.approx(pitch, rel=0.12)


def test_pitch_falls_toward_the_end():
    wave = sustain(PHONEMES["ah"][0], Speaker(pitch=120))
    periods: list[int] = []
    for part in (wave[1600:3200], wave[-3200:-1600]):
        correlation = torch.fft.irfft(torch.fft.rfft(part, n=4096).abs().square())
        periods.append(int(correlation[50:100].argmax()))
    assert periods[0] < periods[1]


def test_a_hiss_lies_above_a_vowel():
    step = SAMPLE_RATE / 512
    for phoneme, low in (("s", True), ("ah", False)):
        power = spectrum(sustain(PHONEMES[phoneme][0]))
        above = power[round(2500 / step) :].sum() / power.sum()
        assert (above > 0.7) == low
        assert (above < 0.2) == (not low)


def test_a_faster_speaker_is_shorter():
    slow, fast = (synthesize(7, Speaker(rate=rate), seeded()) for rate in (0.8, 1.6))
    assert len(slow) / len(fast) == pytest.approx(2, rel=0.01)


@pytest.mark.parametrize("level", [-6.0, 0.0, 6.0])
def test_level_sets_the_root_mean_square(level: float):
    wave = synthesize(4, Speaker(level=level), seeded())
    assert wave.square().mean().sqrt().item() == pytest.approx(0.1 * 10 ** (level / 20), rel=1e-3)


def test_six_is_silent_between_its_vowel_and_its_last_hiss():
    # s 110 ms, ih 110, k with a closure of 55: the quietest place of the word lies in the closure.
    waves, _ = render([spell(6)] * 20, [Speaker()] * 20, seeded())
    wave = waves.square().mean(0)
    frames = wave[: 80 * (len(wave) // 80)].unflatten(0, (-1, 80)).mean(1)  # 10 ms each
    assert 20 <= int(frames[3:36].argmin()) + 3 <= 30


def test_every_digit_is_finite_and_lasts_about_half_a_second():
    for digit in range(10):
        wave = synthesize(digit, Speaker(), seeded(digit))
        assert wave.isfinite().all()
        assert 0.15 < len(wave) / SAMPLE_RATE < 0.9
        assert wave.std() > 0.05


def test_speech_is_repeated_by_its_seed_only():
    first, again, other = (synthesize(3, Speaker(), seeded(seed)) for seed in (5, 5, 6))
    assert torch.equal(first, again)
    assert len(first) != len(other) or not torch.equal(first, other)


def test_speaking_together_pads_the_shorter_with_silence():
    waves, lengths = render([spell(6), spell(8)], [Speaker(), Speaker(rate=1.5)], seeded())
    assert waves.shape[0] == 2
    assert lengths[1] < lengths[0] <= waves.shape[1]
    assert waves[1, lengths[1] :].count_nonzero() == 0
    assert waves[1, : lengths[1]].square().mean().sqrt().item() == pytest.approx(0.1, rel=1e-3)


def test_random_speakers_cover_men_and_women():
    generator = seeded()
    speakers = [Speaker.random(generator) for _ in range(200)]
    pitches = [speaker.pitch for speaker in speakers]
    assert 80 < min(pitches) < 110
    assert 220 < max(pitches) < 300
    assert len({speaker.tract for speaker in speakers}) > 190
    women = [speaker.tract for speaker in speakers if speaker.pitch > 190]
    men = [speaker.tract for speaker in speakers if speaker.pitch < 130]
    assert sum(women) / len(women) > 1.1 > sum(men) / len(men)


def test_ten_digits_are_spelled_differently():
    assert len(set(DIGITS)) == 10
    with pytest.raises(ValueError, match="digit 10"):
        spell(10)
