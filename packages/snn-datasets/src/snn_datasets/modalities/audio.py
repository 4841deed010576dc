"""The reader of sound files, and stages on waveforms."""

# soundfile has no stubs.
# pyright: reportMissingTypeStubs=false, reportUnknownMemberType=false, reportUnknownVariableType=false
from __future__ import annotations

from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from snn_datasets.base.kinds import RecordingKind
from snn_datasets.base.reader import Reader, ReadError, Source
from snn_datasets.base.recordings import Waveform
from snn_datasets.base.stage import Draw, Stage
from snn_datasets.formats.file_signature import explain_other_format
from snn_datasets.formats.sound_container import LengthPatchedFile, inspect_container

LARGEST_SAMPLES = 2**26
"""Samples of the longest recording, over all channels: 256 MB, 25 minutes of mono at 44.1 kHz."""
BLOCK = 2**20
"""Samples read at once. A header can claim any number, so memory is allocated only for samples that exist."""
SOUND_FORMATS = (
    "a WAV sound file",
    "an AIFF sound file",
    "a FLAC sound file",
    "an Ogg sound file",
    "an MP3 sound file",
    "an AU sound file",
    "a CAF sound file",
)
"""Names of the decoded formats, as in `file_signature`."""


class WaveformReader(Reader):
    """Reads sound: WAV, FLAC, Ogg, MP3, AIFF and the other formats of libsndfile.

    The part of a source is (start, stop) in seconds.
    """

    kind: Literal["waveform"] = "waveform"
    """Sound files."""
    gives: ClassVar[RecordingKind] = "waveform"

    def read(self, source: Source) -> Waveform:
        """Read one recording; see `Reader.read`."""
        import soundfile

        path = self.open_file(source)
        part = source.seconds()
        container = inspect_container(path)
        if container.damage is not None:
            raise ReadError(f"{path} cannot be read as sound: the file {container.damage}; replace the file")
        try:
            offset = container.length_offset
            with (
                nullcontext(path) if offset is None else LengthPatchedFile(path, offset) as file,
                soundfile.SoundFile(file) as sound,
            ):
                rate = int(sound.samplerate)
                first, end = (0, int(sound.frames)) if part is None else _in_samples(part, rate)
                end = min(end, int(sound.frames))
                samples = _read(sound, path, first, end)
                # Only FLAC states its number of samples; for other formats libsndfile reports an estimate.
                if sound.format == "FLAC" and samples.shape[1] < end - first:
                    raise ReadError(
                        f"{path} cannot be read as sound: the file is truncated, {end - first - samples.shape[1]:,} of "
                        f"{end - first:,} samples are missing; replace the file"
                    )
        except ReadError:
            raise
        except Exception as error:  # libsndfile raises RuntimeError, the layers around it several other types.
            reason = explain_other_format(path, SOUND_FORMATS) or f"{error}; replace or convert the file"
            raise ReadError(f"{path} cannot be read as sound: {reason}") from error
        return checked_waveform(samples, rate, source)


def checked_waveform(samples: NDArray[np.float32], rate: int, source: Source) -> Waveform:
    """Return a waveform of samples [channels, L].

    Raises:
        ReadError: there are no samples, or some are NaN or inf.
    """
    if not samples.size:
        raise ReadError(f"{source} has no samples; replace the file, correct the part, or leave it out")
    if not np.isfinite(samples).all():
        raise ReadError(f"{source} has samples that are NaN or inf; replace the file")
    return Waveform(samples, rate)


def refuse_too_long(samples: int, path: Path) -> None:
    """Refuse sound that does not fit into memory.

    Raises:
        ReadError: more samples than `LARGEST_SAMPLES`.
    """
    if samples > LARGEST_SAMPLES:
        raise ReadError(
            f"{path} has (or claims) {samples:,} samples, more than {LARGEST_SAMPLES:,}; cut it into shorter files, "
            "or replace it if it is not that long"
        )


def _in_samples(part: tuple[float, float], rate: int) -> tuple[int, int]:
    return round(part[0] * rate), round(part[1] * rate)


def _read(sound: Any, path: Path, first: int, end: int) -> NDArray[np.float32]:
    """Return samples [channels, L] from `first` to `end` (exclusive), or to the end of the file."""
    channels = int(sound.channels)
    refuse_too_long((end - first) * channels, path)
    if first:
        sound.seek(min(first, int(sound.frames)))
    blocks: list[NDArray[np.float32]] = []
    remaining, block_length = end - first, max(1, BLOCK // channels)
    while remaining > 0:
        block: NDArray[np.float32] = sound.read(min(remaining, block_length), dtype="float32", always_2d=True)
        if not len(block):
            break
        blocks.append(block)
        remaining -= len(block)
    if not blocks:
        return np.zeros((channels, 0), np.float32)
    return (blocks[0] if len(blocks) == 1 else np.concatenate(blocks)).T


class Mono(Stage):
    """Mixes the channels down to one: their mean."""

    def __call__(self, value: Waveform, draw: Draw) -> Waveform:
        """[channels, L] -> [1, L]."""
        if len(value.samples) == 1:
            return value
        return replace(value, samples=value.samples.mean(0, keepdims=True, dtype=np.float32))


class Resample(Stage):
    """Resamples a waveform with an anti-aliasing filter (windowed sinc, the same as torchaudio's)."""

    relies_on: ClassVar[tuple[str, ...]] = ("snn_datasets.stages.resampling",)
    rate: int = Field(ge=1, le=1_000_000)
    """Target rate in samples per second."""

    def __call__(self, value: Waveform, draw: Draw) -> Waveform:
        """[channels, L] -> [channels, ceil(L * rate / source rate)].

        Raises:
            ReadError: the recording does not fit into memory at that rate.
        """
        if value.rate == self.rate:
            return value
        import torch

        from snn_datasets.stages.resampling import resample, resampled_length

        channels, length = value.samples.shape
        samples = channels * resampled_length(length, value.rate, self.rate)
        if samples > LARGEST_SAMPLES:
            raise ReadError(
                f"a recording of {length:,} samples at {value.rate:,} Hz would have {samples:,} at {self.rate:,} Hz, "
                f"more than {LARGEST_SAMPLES:,}; choose a lower rate, or correct the rate of the file"
            )
        wave = torch.from_numpy(np.ascontiguousarray(value.samples))
        return Waveform(resample(wave, value.rate, self.rate).numpy(), self.rate)


class FitLength(Stage):
    """Gives every recording the same length: cuts off the end, or pads with silence."""

    kind: Literal["fit-length"] = "fit-length"
    """Sound of one length."""
    seconds: float = Field(gt=0, le=600)
    """Target length."""

    def __call__(self, value: Waveform, draw: Draw) -> Waveform:
        """[channels, L] -> [channels, seconds * rate]."""
        channels, length = value.samples.shape
        target = max(1, round(self.seconds * value.rate))
        if length >= target:
            return replace(value, samples=value.samples[:, :target])
        samples = np.zeros((channels, target), np.float32)
        samples[:, :length] = value.samples
        return replace(value, samples=samples)


class Clamp(Stage):
    """Clips samples to full scale."""

    def __call__(self, value: Waveform, draw: Draw) -> Waveform:
        """[channels, L] -> [channels, L] within -1 to 1."""
        return replace(value, samples=value.samples.clip(-1, 1))
