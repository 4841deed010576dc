"""Sound files to waveforms, and what is done to waveforms."""

# soundfile has no stubs.
# pyright: reportMissingTypeStubs=false, reportUnknownMemberType=false, reportUnknownVariableType=false
from __future__ import annotations

import math
import struct
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from snn_datasets.kinds import Kind
from snn_datasets.reader import Reader, ReadError, Source
from snn_datasets.recordings import Waveform
from snn_datasets.stage import Draw, Stage

LARGEST_SAMPLES = 2**26
"""Samples of the longest recording, over all channels: 256 MB, 25 minutes of mono at 44.1 kHz."""
BLOCK = 2**20
"""Samples read at once: a header can claim any number, so memory is taken only for what is there."""


class WaveformReader(Reader):
    """Reads sound: WAV, FLAC, Ogg, MP3, AIFF and what else libsndfile knows.

    The part of a source, (start, stop) in seconds, takes what sounds between the two.
    """

    kind: Literal["waveform"] = "waveform"
    """Sound files."""
    gives: ClassVar[Kind] = "waveform"

    def read(self, source: Source) -> Waveform:
        """Read one recording; see `Reader.read`."""
        import soundfile

        path = self.open_file(source)
        part = seconds_of(source)
        _refuse_cut_off(path)
        try:
            with soundfile.SoundFile(path) as sound:
                rate = int(sound.samplerate)
                first, end = (0, int(sound.frames)) if part is None else _in_samples(part, rate)
                samples = _read(sound, path, first, min(end, int(sound.frames)))
        except ReadError:
            raise
        except Exception as error:  # libsndfile's are RuntimeErrors, those of the layers around it of several types.
            raise ReadError(f"{path} cannot be read as sound: {error}; replace or convert the file") from error
        return checked_waveform(samples, rate, source)


def seconds_of(source: Source) -> tuple[float, float] | None:
    """Start and stop in seconds, as the part of a source says; None takes the whole file.

    Raises:
        ReadError: the part is no such pair.
    """
    if not source.part:
        return None
    try:
        start, stop = (float(bound) for bound in source.part)
    except ValueError:
        start = stop = math.nan
    if not (0 <= start <= stop < math.inf):
        raise ReadError(f"{source}: a part is (start, stop) in seconds, 0 <= start <= stop, such as (1.5, 2.0)")
    return start, stop


def checked_waveform(samples: NDArray[np.float32], rate: int, source: Source) -> Waveform:
    """A waveform of [channels, L].

    Raises:
        ReadError: no samples, or some that are no finite numbers.
    """
    if not samples.size:
        raise ReadError(f"{source} has no samples; replace the file, correct the part, or leave it out")
    if not np.isfinite(samples).all():
        raise ReadError(f"{source} has samples that are not finite numbers; replace the file")
    return Waveform(samples, rate)


def refuse_too_long(samples: int, path: Path) -> None:
    """Refuse sound that would not fit into memory.

    Raises:
        ReadError: more samples than `LARGEST_SAMPLES`.
    """
    if samples > LARGEST_SAMPLES:
        raise ReadError(
            f"{path} has {samples:,} samples, or claims so, more than {LARGEST_SAMPLES:,}; cut it into shorter files, "
            "or replace it if it is not that long"
        )


def _in_samples(part: tuple[float, float], rate: int) -> tuple[int, int]:
    return round(part[0] * rate), round(part[1] * rate)


def _read(sound: Any, path: Path, first: int, end: int) -> NDArray[np.float32]:
    """Samples [channels, L] from `first` until before `end`, or until the file ends."""
    channels = int(sound.channels)
    refuse_too_long((end - first) * channels, path)
    if first:
        sound.seek(min(first, int(sound.frames)))
    blocks: list[NDArray[np.float32]] = []
    left, most = end - first, max(1, BLOCK // channels)
    while left > 0:
        block: NDArray[np.float32] = sound.read(min(left, most), dtype="float32", always_2d=True)
        if not len(block):
            break
        blocks.append(block)
        left -= len(block)
    if not blocks:
        return np.zeros((channels, 0), np.float32)
    return (blocks[0] if len(blocks) == 1 else np.concatenate(blocks)).T


def _refuse_cut_off(path: Path) -> None:
    """Refuse a WAV file that ends before its sound does: libsndfile would read what is left as if it were all.

    Raises:
        ReadError: it does.
    """
    size = path.stat().st_size
    with path.open("rb") as file:
        head = file.read(12)
        if head[:4] != b"RIFF" or head[8:] != b"WAVE":
            return
        while len(head := file.read(8)) == 8:
            name, length = struct.unpack("<4sI", head)
            if name == b"data":
                # What was written to a pipe does not know its length; such a file claims none, or all there can be.
                missing = file.tell() + length - size
                if missing > 0 and length < 0xFFFF_F000:
                    raise ReadError(
                        f"{path} cannot be read as sound: it is cut off, {missing:,} of its {length:,} bytes of sound "
                        "are missing; replace the file"
                    )
                return
            file.seek(length + length % 2, 1)


class Mono(Stage):
    """Mixes the channels down to one, their mean."""

    def __call__(self, value: Waveform, draw: Draw) -> Waveform:
        """[channels, L] -> [1, L]."""
        if len(value.samples) == 1:
            return value
        return replace(value, samples=value.samples.mean(0, keepdims=True, dtype=np.float32))


class Resample(Stage):
    """Brings a waveform to another rate, leaving out what that cannot hold (windowed sinc, as torchaudio's)."""

    relies_on: ClassVar[tuple[str, ...]] = ("snn_datasets.resampling",)
    rate: int = Field(ge=1, le=1_000_000)
    """Samples per second afterwards."""

    def __call__(self, value: Waveform, draw: Draw) -> Waveform:
        """[channels, L] -> [channels, ceil(L * rate / the former rate)].

        Raises:
            ReadError: the recording would not fit into memory at that rate.
        """
        if value.rate == self.rate:
            return value
        import torch

        from snn_datasets.resampling import resample, resampled_length

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
    """Makes all recordings as long as each other: cuts off the end, or adds silence."""

    seconds: float = Field(gt=0, le=600)
    """Length afterwards."""

    def __call__(self, value: Waveform, draw: Draw) -> Waveform:
        """[channels, L] -> [channels, seconds * rate]."""
        channels, length = value.samples.shape
        wanted = max(1, round(self.seconds * value.rate))
        if length >= wanted:
            return replace(value, samples=value.samples[:, :wanted])
        samples = np.zeros((channels, wanted), np.float32)
        samples[:, :length] = value.samples
        return replace(value, samples=samples)


class Clamp(Stage):
    """Cuts off what is beyond full scale, as a loudspeaker would."""

    def __call__(self, value: Waveform, draw: Draw) -> Waveform:
        """[channels, L] -> the same, from -1 to 1."""
        return replace(value, samples=value.samples.clip(-1, 1))
