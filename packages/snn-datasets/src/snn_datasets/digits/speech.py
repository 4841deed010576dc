"""A small formant synthesizer that speaks the ten digits.

It is a source-filter model (Fant 1960): the vocal folds or turbulent air produce a sound, which the vocal tract
filters. As in Klatt's synthesizer (J. Acoust. Soc. Am. 67, 1980), voicing and aspiration pass a cascade of formant
resonances, and frication passes a separate parallel resonance. Vowel formants are the averages over men of Peterson and
Barney (J. Acoust. Soc. Am. 24, 1952); bandwidths and consonant loci are similar to Klatt's tables.
"""

# Some signatures of torch are untyped.
# pyright: reportUnknownMemberType=false
from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from math import prod
from typing import cast

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Generator, Tensor

SAMPLE_RATE = 8000
"""Hz."""

# Analysis frames of 32 ms every 8 ms: long enough to resolve the formants, short enough to follow them.
N_FFT = 256
HOP = 64

# The fourth and fifth formant are nearly constant; they give the spectrum its natural slope up to 4 kHz.
HIGHER_FORMANTS = (3500.0, 4500.0)
HIGHER_BANDWIDTHS = (250.0, 350.0)

FORMANT_GLIDE = 60.0
"""Longest transition of formants between two phonemes in ms."""
AMPLITUDE_GLIDE = 14.0
"""Longest onset and offset of a source in ms."""


@dataclass(frozen=True, slots=True)
class Segment:
    """A segment of speech with one articulatory target."""

    duration: float
    """ms, at speaking rate 1."""
    formants: tuple[float, float, float]
    """F1, F2, F3 in Hz, for a man's vocal tract."""
    bandwidths: tuple[float, float, float]
    """Of F1, F2, F3 in Hz."""
    voice: float = 0.0
    """Amplitude of the vocal folds; 1 is a stressed vowel."""
    breath: float = 0.0
    """Amplitude of aspiration, noise at the glottis that passes the formants."""
    hiss: float = 0.0
    """Amplitude of frication, noise at a constriction that passes a separate resonance."""
    hiss_center: float = 3000.0
    """Center of that resonance in Hz."""
    hiss_bandwidth: float = 2000.0
    """Bandwidth of that resonance in Hz."""


def _vowel(duration: float, formants: tuple[float, float, float], bandwidths: tuple[float, float, float]) -> Segment:
    return Segment(duration, formants, bandwidths, voice=1.0)


_S = Segment(110, (320, 1390, 2530), (200, 80, 200), hiss=0.35, hiss_center=3900, hiss_bandwidth=900)
_T_LOCUS = ((400, 1600, 2600), (300, 120, 250))
_K_LOCUS = ((300, 1990, 2850), (250, 160, 330))

PHONEMES: dict[str, tuple[Segment, ...]] = {
    # Vowels; a diphthong is two targets.
    "iy": (_vowel(190, (270, 2290, 3010), (50, 150, 250)),),
    "ih": (_vowel(110, (390, 1990, 2550), (50, 100, 140)),),
    "eh": (_vowel(120, (530, 1840, 2480), (60, 90, 200)),),
    "ah": (_vowel(130, (640, 1190, 2390), (80, 60, 140)),),
    "ax": (replace(_vowel(60, (500, 1400, 2400), (80, 80, 150)), voice=0.6),),
    "ao": (_vowel(170, (570, 840, 2410), (90, 100, 100)),),
    "uw": (_vowel(210, (300, 870, 2240), (65, 110, 140)),),
    "ow": (_vowel(120, (520, 1000, 2380), (80, 90, 120)), _vowel(120, (380, 850, 2300), (70, 90, 120))),
    "ey": (_vowel(90, (500, 1850, 2500), (60, 90, 200)), _vowel(110, (330, 2150, 2750), (55, 110, 200))),
    "ay": (_vowel(130, (730, 1150, 2440), (110, 70, 160)), _vowel(110, (400, 1950, 2550), (60, 100, 180))),
    # Sonorants.
    "r": (replace(_vowel(80, (310, 1060, 1380), (70, 100, 120)), voice=0.7),),
    "w": (replace(_vowel(80, (290, 610, 2150), (50, 80, 60)), voice=0.6),),
    # The side branch of a nasal damps the formants above the first, modeled by wide bandwidths.
    "n": (replace(_vowel(90, (280, 1340, 2470), (60, 300, 300)), voice=0.5),),
    # Fricatives. The sample rate ends at 4 kHz, so only the lower flank of /s/ remains.
    "s": (_S,),
    "z": (replace(_S, duration=90, formants=(240, 1390, 2530), bandwidths=(70, 60, 180), voice=0.3, hiss=0.2),),
    "f": (Segment(100, (340, 1100, 2080), (200, 120, 150), hiss=0.09, hiss_center=2600, hiss_bandwidth=5000),),
    "v": (Segment(65, (220, 1100, 2080), (60, 90, 120), voice=0.4, hiss=0.04, hiss_center=2600, hiss_bandwidth=5000),),
    "th": (Segment(90, (320, 1290, 2540), (200, 90, 200), hiss=0.07, hiss_center=3300, hiss_bandwidth=4000),),
    # Stops: closure, burst, and aspiration until voicing starts.
    "t": (
        Segment(45, *_T_LOCUS),
        Segment(15, *_T_LOCUS, hiss=0.4, hiss_center=3500, hiss_bandwidth=1500),
        Segment(35, *_T_LOCUS, breath=0.08),
    ),
    "k": (
        Segment(55, *_K_LOCUS),
        Segment(18, *_K_LOCUS, hiss=0.3, hiss_center=1900, hiss_bandwidth=500),
        Segment(15, *_K_LOCUS, breath=0.05),
    ),
}

DIGITS: tuple[tuple[str, ...], ...] = (
    ("z", "ih", "r", "ow"),
    ("w", "ah", "n"),
    ("t", "uw"),
    ("th", "r", "iy"),
    ("f", "ao", "r"),
    ("f", "ay", "v"),
    ("s", "ih", "k", "s"),
    ("s", "eh", "v", "ax", "n"),
    ("ey", "t"),
    ("n", "ay", "n"),
)
"""The phonemes of "zero" to "nine"."""


@dataclass(frozen=True, slots=True)
class Speaker:
    """The properties of a voice that all its utterances share."""

    pitch: float = 120.0
    """Mean rate of the vocal folds in Hz."""
    tract: float = 1.0
    """Formant frequencies relative to a man's; higher for a shorter vocal tract (about 1.16 for a woman)."""
    rate: float = 1.0
    """Speaking rate; 2 halves every duration."""
    level: float = 0.0
    """Loudness in dB; 0 is a root mean square of 0.1."""
    breathiness: float = 0.02
    """Amplitude of the noise during voicing."""
    deviations: tuple[float, float, float] = (1.0, 1.0, 1.0)
    """Speaker-specific factors on F1, F2, F3, in addition to `tract`."""

    @classmethod
    def random(cls, generator: Generator) -> Speaker:
        """Draw a man's or a woman's voice with equal chance."""
        draw = cast("list[float]", torch.randn(8, generator=generator).clamp(-2, 2).tolist())
        woman = torch.rand((), generator=generator).item() < 0.5
        pitch, tract = (205.0, 1.16) if woman else (118.0, 1.0)
        return cls(
            pitch=pitch * 2 ** (0.2 * draw[0]),
            tract=tract * (1 + 0.04 * draw[1]),
            rate=2 ** (0.22 * draw[2]),
            level=4.0 * draw[3],
            breathiness=0.02 * 2 ** draw[4],
            deviations=(1 + 0.05 * draw[5], 1 + 0.05 * draw[6], 1 + 0.04 * draw[7]),
        )


def spell(digit: int) -> tuple[Segment, ...]:
    """Return the articulatory targets of a digit."""
    if not 0 <= digit <= 9:
        raise ValueError(f"there is no digit {digit}; choose one from 0 to 9")
    return tuple(segment for phoneme in DIGITS[digit] for segment in PHONEMES[phoneme])


def render(
    utterances: Sequence[Sequence[Segment]], speakers: Sequence[Speaker], generator: Generator
) -> tuple[Tensor, list[int]]:
    """Synthesize a batch of B utterances, each with random variation.

    Shape: B utterances -> waves [B, samples] at 8 kHz, zero after the end, and B lengths in samples
    """
    B = len(utterances)
    performances = [_perform(u, s, generator) for u, s in zip(utterances, speakers, strict=True)]
    lengths = [round(sum(segment.duration for segment in p) * SAMPLE_RATE / 1000) for p in performances]
    frames = 1 + -(-max(lengths) // HOP)
    samples = (frames - 1) * HOP
    tracks = torch.as_tensor(np.stack([_tracks(p, frames) for p in performances]))  # [B, 11, frames]

    voice, breath, hiss = F.interpolate(tracks[:, 6:9], size=samples, mode="linear", align_corners=True).unbind(1)
    noise = torch.randn(2, B, samples, generator=generator)
    breathiness = torch.tensor([s.breathiness for s in speakers])[:, None]
    pulses = _glottal_pulses([s.pitch for s in speakers], lengths, samples, generator)
    sources = torch.stack([voice * pulses, (breath + breathiness * voice) * noise[0], hiss * noise[1]])

    window = torch.hann_window(N_FFT)
    # Utterances are silent outside 0..samples, so zero padding is exact.
    spectra = torch.stft(sources.flatten(0, 1), N_FFT, HOP, window=window, pad_mode="constant", return_complex=True)
    by_source = cast(Tensor, spectra.unflatten(0, (3, B)))
    pulsed, breathed, hissed = by_source.unbind(0)  # each [B, F, frames]

    frequency = torch.linspace(0, SAMPLE_RATE / 2, N_FFT // 2 + 1)[:, None]  # [F, 1]
    tract = torch.tensor([s.tract for s in speakers])[:, None, None]
    spectrum = _formants(pulsed * _glottal_slope(frequency) + breathed, tracks, tract, frequency)
    spectrum += _frication(hissed, tracks, frequency)
    waves = cast(Tensor, torch.istft(spectrum, N_FFT, HOP, window=window, length=samples))

    ends = torch.tensor(lengths)[:, None]
    waves = waves * (torch.arange(samples) < ends)
    power = waves.square().sum(1, keepdim=True) / ends
    level = torch.tensor([0.1 * 10 ** (s.level / 20) for s in speakers])[:, None]
    return waves * level / power.clamp(min=1e-12).sqrt(), lengths


def _perform(segments: Sequence[Segment], speaker: Speaker, generator: Generator) -> list[Segment]:
    """Apply a speaker's voice and random variation to the targets of an utterance."""
    draws = torch.randn(len(segments), 4, generator=generator).clamp(-2, 2)
    return [
        replace(
            segment,
            duration=segment.duration / speaker.rate * 2 ** (0.15 * d[0]),
            formants=tuple(
                f * speaker.tract * deviation * (1 + 0.02 * x)
                for f, deviation, x in zip(segment.formants, speaker.deviations, d[1:], strict=True)
            ),
        )
        for segment, d in zip(segments, cast("list[list[float]]", draws.tolist()), strict=True)
    ]


def _tracks(segments: Sequence[Segment], frames: int) -> NDArray[np.float32]:
    """Interpolate between the targets of consecutive segments.

    Shape: -> [11, frames]: F1 F2 F3, their bandwidths, voice, breath, hiss, center and bandwidth of the hiss
    """
    targets = np.array(
        [(*s.formants, *s.bandwidths, s.voice, s.breath, s.hiss, s.hiss_center, s.hiss_bandwidth) for s in segments]
    )
    durations = np.array([s.duration for s in segments])
    ends = np.cumsum(durations)
    time = np.arange(frames) * (1000 * HOP / SAMPLE_RATE)
    shortest = np.minimum(durations[:-1], durations[1:])

    def glide(values: NDArray[np.float64], longest: float) -> NDArray[np.float64]:
        half = np.minimum(longest, 0.8 * shortest) / 2
        knots = np.concatenate([[0.0], np.stack([ends[:-1] - half, ends[:-1] + half], axis=1).ravel(), ends[-1:]])
        # A target is held from the end of one glide to the start of the next.
        return np.stack([np.interp(time, knots, np.repeat(column, 2)) for column in values.T])

    tracks = glide(targets, FORMANT_GLIDE)
    tracks[6:9] = glide(targets[:, 6:9], AMPLITUDE_GLIDE)
    tracks[6:9] *= np.clip(np.minimum(time, ends[-1] - time) / AMPLITUDE_GLIDE, 0, 1)
    return tracks.astype(np.float32)


def _glottal_pulses(pitch: Sequence[float], lengths: Sequence[int], samples: int, generator: Generator) -> Tensor:
    """Return one pulse per period, with a pitch that falls toward the end of the utterance.

    Shape: B pitches in Hz -> [B, samples] of unit power
    """
    B = len(pitch)
    fall, bend = (0.16 + 0.08 * torch.randn(2, B, 1, generator=generator)).unbind(0)
    progress = torch.arange(samples) / torch.tensor(lengths)[:, None] - 0.5  # -0.5 .. 0.5
    flutter = torch.randn(B, 1, samples // HOP + 1, generator=generator)
    flutter = F.interpolate(flutter, size=samples, mode="linear")[:, 0]
    contour = 1 - fall * progress + (bend - 0.16) * (1 - 12 * progress.square()) + 0.008 * flutter
    step = torch.tensor(pitch)[:, None] * contour.clamp(0.6, 1.5) / SAMPLE_RATE  # periods a sample
    phase = step.cumsum(1)
    period = phase.floor()
    pulses = F.pad(period[:, 1:] > period[:, :-1], (1, 0)).float() / step.sqrt()
    # A pulse falls between two samples; splitting it between them avoids rounding the pitch.
    late = (phase - period) / step
    return pulses * (1 - late) + F.pad((pulses * late)[:, 1:], (0, 1))


def _glottal_slope(frequency: Tensor) -> Tensor:
    """Return the source spectrum: -12 dB per octave of glottal flow, +6 of lip radiation (Klatt 1980).

    Shape: Hz [F, 1] -> complex [F, 1]
    """
    corner = 1j * frequency / 100
    return 4 * corner / (1 + corner).square()


def _formants(sound: Tensor, tracks: Tensor, tract: Tensor, frequency: Tensor) -> Tensor:
    """Filter the sound of the glottis through five formants in series, each with gain 1 at 0 Hz.

    Shape: complex [B, F, frames], tracks [B, 11, frames], tract [B, 1, 1], Hz [F, 1] -> complex [B, F, frames]
    """
    # The higher formants first: they are constant in time, so their product is a small tensor.
    centers = [center * tract for center in HIGHER_FORMANTS] + [tracks[:, formant, None] for formant in range(3)]
    widths = [torch.tensor(b) for b in HIGHER_BANDWIDTHS] + [tracks[:, formant, None] for formant in range(3, 6)]
    poles = [_poles(frequency, center, width) for center, width in zip(centers, widths, strict=True)]
    return sound / prod(poles[1:], start=poles[0])


def _frication(sound: Tensor, tracks: Tensor, frequency: Tensor) -> Tensor:
    """Filter the noise of a constriction through its resonance, with a gain of about 1 at its center.

    Shape: complex [B, F, frames], tracks [B, 11, frames], Hz [F, 1] -> complex [B, F, frames]
    """
    center, bandwidth = tracks[:, 9, None], tracks[:, 10, None]
    return sound * (bandwidth / center) / _poles(frequency, center, bandwidth)


def _poles(frequency: Tensor, center: Tensor, bandwidth: Tensor) -> Tensor:
    """Return the reciprocal response of a pair of poles with gain 1 at 0 Hz.

    The poles are those of a continuous system, so that poles above 4 kHz still shape the band below.
    """
    stiffness = center.square() + bandwidth.square() / 4
    return torch.complex(1 - frequency.square() / stiffness, frequency * (bandwidth / stiffness))
