"""Codings: from a recording to the input of a model, a float tensor that is static or has time as its first axis.

A coding is the last stage of a modality. It splits the duration of a recording into T equal time steps, so that step k
of one modality is the same part of the recording as step k of another. To preserve absolute time, fit all recordings
to one length first (`FitLength` for sound).

torch is imported only when a coding is called.
"""

# Some signatures of torch are untyped.
# pyright: reportUnknownMemberType=false
from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING, ClassVar, Literal, TypeVar

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from snn_datasets.base.recordings import Events, Image, Series, Video, Waveform
from snn_datasets.base.stage import Draw, Stage

if TYPE_CHECKING:
    from torch import Tensor

R = TypeVar("R")


class Pixels(Stage):
    """The pixels of an image.

    Shape: `Image` -> [C, H, W] in 0..1, static
    """

    kind: Literal["pixels"] = "pixels"
    """The pixels of an image."""
    size: int | None = Field(default=None, ge=1)
    """Height and width in pixels to which images are resized, with antialiasing; None keeps their size."""

    def __call__(self, value: Image, draw: Draw) -> Tensor:
        """Scale the pixels, then resize the image."""
        pixels = _bytes_to_unit(_expect(value, Image, self).pixels)
        if self.size is None or pixels.shape[1:] == (self.size, self.size):
            return pixels
        return _resize(pixels, self.size, self.size).clamp(0, 1)  # rounding may exceed the range


class Frames(Stage):
    """One frame of a video per time step.

    Each step takes the frame whose middle is nearest to that of the step. A frame lasts until the next one, the last
    one as long as the average. A video of T frames yields each of them once, and a single frame is repeated T times.

    Shape: `Video` -> [T, C, H, W] in 0..1
    """

    kind: Literal["frames"] = "frames"
    """Frames of a video."""
    steps: int = Field(ge=1)
    """Time steps T."""

    def __call__(self, value: Video, draw: Draw) -> Tensor:
        """Select the frames, then scale their pixels."""
        video = _expect(value, Video, self)
        if not len(video.times) or len(video.times) != len(video.frames):
            raise ValueError(
                f"a video has {len(video.frames)} frames and {len(video.times)} times; it needs a time for each frame, "
                "and at least one"
            )
        start, length = _start_and_duration(video.times)
        interval = length / len(video.times)
        targets = start + (np.arange(self.steps) + 0.5) * length / self.steps - interval / 2
        after = np.searchsorted(video.times, targets).clip(max=len(video.times) - 1)
        before = (after - 1).clip(min=0)
        later = video.times[after] - targets < targets - video.times[before]
        return _bytes_to_unit(video.frames[np.where(later, after, before)])


class EventFrames(Stage):
    """Event counts per step, polarity and pixel. Every event is counted; a recording may have none.

    Shape: `Events` -> [T, P, H, W]; P is the number of polarities
    """

    kind: Literal["event-frames"] = "event-frames"
    """Event counts."""
    steps: int = Field(ge=1)
    """Time steps T."""
    by: Literal["time", "count"] = "time"
    """Whether steps have equal duration or equally many events."""

    def __call__(self, value: Events, draw: Draw) -> Tensor:
        """Count the events of each step."""
        import torch

        events = _expect(value, Events, self)
        (H, W), P = events.size, events.polarities
        step = np.arange(self.steps + 1)
        if self.by == "time":
            # The first microsecond of every step, rounded up: an event on the edge of two steps belongs to the later.
            bounds = np.searchsorted(events.t, -(-step * events.duration // self.steps))
        else:
            bounds = step * len(events) // self.steps
        index = (events.p.astype(np.int64) * H + events.y) * W + events.x
        counts = np.empty((self.steps, P * H * W), np.float32)
        for number, (first, end) in enumerate(pairwise(bounds.tolist())):
            counts[number] = np.bincount(index[first:end], minlength=P * H * W)
        return torch.from_numpy(counts.reshape(self.steps, P, H, W))


class Steps(Stage):
    """Means of a series over T equal time steps, from its first value until one interval after its last.

    A step without a value holds the last value before it.

    Shape: `Series` [L, C] -> [T, C], in the unit of the series
    """

    kind: Literal["steps"] = "steps"
    """Means of a series."""
    steps: int = Field(ge=1)
    """Time steps T."""

    def __call__(self, value: Series, draw: Draw) -> Tensor:
        """Average the values of each step."""
        import torch

        series = expect_series(value, self)
        bounds = _spans(series, self.steps)
        sums = _sums(series.values.astype(np.float64), bounds)
        counts = np.diff(bounds)[:, None]
        held = series.values[(bounds[:-1] - 1).clip(min=0)]  # the first step is never empty
        means = np.where(counts > 0, sums / counts.clip(min=1), held)
        return torch.from_numpy(means.astype(np.float32))


class SendOnDelta(Stage):
    """Send-on-delta sampling: an up or down event each time a channel has changed by a threshold since its last event.

    The first value is the reference, so the absolute level is lost; threshold * (ups - downs), summed over the steps so
    far, differs from the series at the end of the step by less than one threshold (Miskowicz 2006, Sensors 6(1),
    49-63).

    Shape: `Series` [L, C] -> [T, 2 C], event counts per channel and step: ups of all channels, then downs of all
    """

    kind: Literal["send-on-delta"] = "send-on-delta"
    """Events of change of a series."""
    steps: int = Field(ge=1)
    """Time steps T, of equal duration as in `Steps`."""
    threshold: float = Field(gt=0)
    """In the unit of the series."""

    def __call__(self, value: Series, draw: Draw) -> Tensor:
        """Track every channel and count its events."""
        import torch

        series = expect_series(value, self)
        bounds = _spans(series, self.steps)
        change = (series.values.astype(np.float64) - series.values[0]) / self.threshold
        # The level that the events encode, in thresholds; it changes only once the series is a whole threshold away.
        lowest, highest = np.floor(change), np.ceil(change)
        level = np.zeros_like(change)
        for now in range(1, len(change)):
            np.minimum(np.maximum(level[now - 1], lowest[now]), highest[now], out=level[now])
        events = np.diff(level, axis=0, prepend=0)
        counts = np.concatenate([_sums(events.clip(min=0), bounds), _sums(-events.clip(max=0), bounds)], axis=1)
        return torch.from_numpy(counts.astype(np.float32))


class Bernoulli(Stage):
    """Rate coding: each value is the probability of a spike at every step. Drawn once per sample.

    Shape: tensor [...] in 0..1 -> [T, ...], each 0 or 1
    """

    draws: ClassVar[bool] = True
    kind: Literal["bernoulli"] = "bernoulli"
    """Random spikes (rate coding)."""
    steps: int = Field(ge=1)
    """Time steps T."""

    def __call__(self, value: Tensor, draw: Draw) -> Tensor:
        """Draw the spikes."""
        import torch

        values = _expect_unit(value, self)
        return (torch.rand(self.steps, *values.shape, generator=draw.generator()) < values).float()


class Latency(Stage):
    """Latency coding: one spike per value, earlier for larger values; 1 spikes at the first step, 0 never.

    Shape: tensor [...] in 0..1 -> [T, ...], each 0 or 1
    """

    kind: Literal["latency"] = "latency"
    """Spike times (latency coding)."""
    steps: int = Field(ge=1)
    """Time steps T."""

    def __call__(self, value: Tensor, draw: Draw) -> Tensor:
        """Place the spikes."""
        import torch

        values = _expect_unit(value, self)
        step = self.steps - (values * self.steps).ceil()  # a value of 0 gives T, beyond the last step
        return (step == torch.arange(self.steps).reshape(-1, *[1] * values.dim())).float()


class _Spectrogram(Stage):
    """What both spectrograms have."""

    relies_on: ClassVar[tuple[str, ...]] = ("snn_datasets.stages.spectrogram",)
    columns: int = Field(ge=1)
    """Columns of the spectrogram, or of each time step."""
    steps: int | None = Field(default=None, ge=1)
    """Time steps T; None makes one static spectrogram."""
    rows: int | None = Field(default=None, ge=1)
    """Rows to which bands or frequencies are resized; None keeps one row each."""
    window_ms: float = Field(default=25.0, gt=0)
    """Length of the Hann window in milliseconds; without bands, also that of the Fourier transform."""
    hop_ms: float = Field(default=10.0, gt=0)
    """Hop between windows in milliseconds."""

    def _frames(self, value: object) -> tuple[Tensor, int, int, int]:
        """Return the samples [channels, L] and their rate, and window and hop in samples."""
        import torch

        wave = _expect(value, Waveform, self)
        if not wave.samples.size:
            raise ValueError("a recording has no samples; replace its file or leave it out")
        window, hop = (max(1, round(wave.rate * length / 1000)) for length in (self.window_ms, self.hop_ms))
        return torch.from_numpy(wave.samples.astype(np.float32)), wave.rate, window, hop

    def _fit(self, log: Tensor) -> Tensor:
        """Resize [channel, row, frame] to the rows and columns, and split the columns into steps."""
        import torch

        height, width = self.rows or log.shape[1], self.columns * (self.steps or 1)
        if log.shape[1:] != (height, width):
            log = _resize(log, height, width)
        return log.contiguous() if self.steps is None else torch.stack(log.chunk(self.steps, dim=2))


class LogMel(_Spectrogram):
    """Log-mel spectrogram: the logarithm of the power in mel bands.

    The spectrogram is resized to `columns`, with antialiasing, whatever the length of the clip; if tempo matters, fit
    all clips to one length first. With `steps`, T times as many columns are split into T steps of equal duration. The
    absolute level is lost.

    Shape: `Waveform` [channels, L] -> [channels, F, columns] static, or [T, channels, F, columns]; low bands and early
    times first; all zero for a silent clip. F is `rows`, or `bands`
    """

    kind: Literal["log-mel"] = "log-mel"
    """Log-mel spectrogram."""
    bands: int = Field(default=64, ge=1)
    """Mel bands between 0 Hz and half the sample rate."""
    dynamic_range_db: float = Field(default=80.0, gt=0, le=300)
    """Power more than this many dB below the maximum of a clip is clipped."""
    scale: Literal["standard", "unit"] = "standard"
    """standard: mean 0 and variance 1 over each clip. unit: 0 at the bottom of the dynamic range, 1 at the maximum."""

    def __call__(self, value: Waveform, draw: Draw) -> Tensor:
        """Compute the bands, take the logarithm, resize and scale."""
        import torch

        from snn_datasets.stages.spectrogram import mel_fft_length, mel_spectrogram

        wave, rate, window, hop = self._frames(value)
        fft_length = mel_fft_length(rate, window=window, bands=self.bands)
        # [channel, band, frame]
        power = mel_spectrogram(wave, rate=rate, window=window, hop=hop, bands=self.bands, fft_length=fft_length)
        loudest = power.max()
        is_silent = loudest < 1e-28  # far below one bit of any format; its logarithm would overflow
        decades = self.dynamic_range_db / 10
        relative = (power / (1.0 if is_silent else loudest)).clamp(min=10**-decades).log10() / decades + 1
        spectrogram = self._fit(relative)
        if is_silent:
            return torch.zeros_like(spectrogram)
        return _standardize(spectrogram) if self.scale == "standard" else spectrogram.clamp(0, 1)


class LogMagnitude(_Spectrogram):
    """Log-magnitude spectrogram: the natural logarithm of the magnitude of each frequency.

    Time is resized, and split into steps, as in `LogMel`. Windows of 512 and hops of 353 samples at 22,050 Hz,
    `window_ms=512 / 22.05` and `hop_ms=353 / 22.05`, give the spectrograms common for CREMA-D since Peng et al. 2022
    (arXiv:2203.15332): 257 rows, and 188 columns for three seconds.

    Shape: `Waveform` [channels, L] -> [channels, F, columns] static, or [T, channels, F, columns]; low frequencies and
    early times first. F is `rows`, or half the window's samples plus one
    """

    kind: Literal["log-magnitude"] = "log-magnitude"
    """Log-magnitude spectrogram."""
    floor: float = Field(default=1e-7, gt=0)
    """Added to magnitudes before the logarithm, so that the logarithm of silence is finite."""
    scale: Literal["standard", "log"] = "log"
    """standard: mean 0 and variance 1 over each clip. log: the logarithm unscaled."""

    def __call__(self, value: Waveform, draw: Draw) -> Tensor:
        """Compute the frequencies, take the logarithm, resize and scale."""
        from snn_datasets.stages.spectrogram import magnitude_spectrogram

        wave, _, window, hop = self._frames(value)
        magnitude = magnitude_spectrogram(wave, window=window, hop=hop)
        spectrogram = self._fit((magnitude + self.floor).log())
        return _standardize(spectrogram) if self.scale == "standard" else spectrogram


def _expect(value: object, cls: type[R], stage: Stage) -> R:
    if not isinstance(value, cls):
        raise ValueError(
            f"{type(stage).__name__} takes {cls.__name__}, not {type(value).__name__}; use a coding for that type, or "
            "correct the stage before this one"
        )
    return value


def expect_series(value: object, stage: Stage) -> Series:
    """Return the value if it is a series with a time for each value.

    Raises:
        ValueError: it is something else, or has no value.
    """
    series = _expect(value, Series, stage)
    if not len(series.values) or len(series.values) != len(series.times):
        raise ValueError(
            f"a series has {len(series.values)} values and {len(series.times)} times; it needs a time for each value, "
            "and at least one"
        )
    return series


def _expect_unit(value: object, stage: Stage) -> Tensor:
    from torch import Tensor

    values = _expect(value, Tensor, stage)
    # Written so that NaN also fails the check.
    if values.numel() and not bool(((values >= 0) & (values <= 1)).all()):
        low, high = (float(extreme) for extreme in values.aminmax())
        raise ValueError(
            f"{type(stage).__name__} takes values from 0 to 1, but they range from {low:g} to {high:g}; scale them "
            "first, as Pixels does, or LogMel with scale='unit'"
        )
    return values


def _bytes_to_unit(pixels: NDArray[np.uint8]) -> Tensor:
    import torch

    return torch.from_numpy(pixels.astype(np.float32)) / 255


def _resize(x: Tensor, height: int, width: int) -> Tensor:
    """Resize [C, H, W] to [C, height, width]: bilinear, with antialiasing."""
    from torch.nn.functional import interpolate

    return interpolate(x[None], (height, width), mode="bilinear", antialias=True, align_corners=False)[0]


def _start_and_duration(times: NDArray[np.float64]) -> tuple[float, float]:
    """Return start and duration in seconds; the last value lasts as long as the average, a single value 1 s."""
    measured = float(times[-1] - times[0])
    return float(times[0]), measured * len(times) / (len(times) - 1) if measured > 0 else 1.0


def _spans(series: Series, steps: int) -> NDArray[np.int64]:
    """Return the index of the first value of each of `steps` equal time steps, and of the end: [steps + 1]."""
    start, length = _start_and_duration(series.times)
    # A value on the edge of two steps belongs to the later one; the tolerance absorbs rounding.
    step = np.floor((series.times - start) / length * steps + 1e-6).clip(max=steps - 1)
    return np.searchsorted(step, np.arange(steps + 1)).astype(np.int64)


def _sums(values: NDArray[np.float64], bounds: NDArray[np.int64]) -> NDArray[np.float64]:
    """Sum values [L, C] between bounds [T + 1]: [T, C]."""
    return np.stack([values[first:end].sum(0) for first, end in pairwise(bounds)])


def _standardize(x: Tensor) -> Tensor:
    mean, std = x.mean(), x.std(correction=0)
    # A constant input has no contrast to scale.
    return (x - mean) / std if std > 1e-4 else x.new_zeros(x.shape)
