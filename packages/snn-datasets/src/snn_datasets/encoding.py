"""From a recording to what a model takes: a float tensor that is static, or has time as its first axis.

Encoders stand at the end of a modality's stages. Each splits the time of a recording in T equal spans, however long it
lasts: step k of one sense is then the same part of the event as step k of another. To keep time as it is, fit all
recordings to one length before (`FitLength` for sound).

Nothing here imports torch before an encoder is used.
"""

# torch leaves some of its own signatures open.
# pyright: reportUnknownMemberType=false
from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING, ClassVar, Literal, TypeVar

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from snn_datasets.recordings import Events, Image, Series, Video, Waveform
from snn_datasets.stage import Draw, Stage

if TYPE_CHECKING:
    from torch import Tensor

R = TypeVar("R")


class Picture(Stage):
    """An image as numbers.

    Shape: `Image` -> [C, H, W] in 0..1, static
    """

    kind: Literal["picture"] = "picture"
    """Names this encoder."""
    size: int | None = Field(default=None, ge=1)
    """Height and width in pixels that every image is stretched to, with antialiasing; none keeps it as it is."""

    def __call__(self, value: Image, draw: Draw) -> Tensor:
        """Scale the pixels, then stretch the picture.

        Raises:
            ValueError: what comes in is no image.
        """
        pixels = _bytes_to_unit(_expect(value, Image, self).pixels)
        if self.size is None or pixels.shape[1:] == (self.size, self.size):
            return pixels
        return _resized(pixels, self.size, self.size).clamp(0, 1)  # rounding may leave the range by a bit


class Frames(Stage):
    """As many pictures of a video as there are steps.

    Each step shows the frame whose own middle is nearest to that of the step, where a frame lasts until the next and
    the last as long as the average. So a video of T frames gives each of them once, and one picture gives itself T
    times.

    Shape: `Video` -> [T, C, H, W] in 0..1
    """

    kind: Literal["frames"] = "frames"
    """Names this encoder."""
    steps: int = Field(ge=1)
    """Time steps T."""

    def __call__(self, value: Video, draw: Draw) -> Tensor:
        """Pick the frames, then scale their pixels.

        Raises:
            ValueError: what comes in is no video, or has no frame.
        """
        video = _expect(value, Video, self)
        if not len(video.times) or len(video.times) != len(video.frames):
            raise ValueError(
                f"a video has {len(video.frames)} frames and {len(video.times)} times; it needs a time for each frame, "
                "and at least one"
            )
        start, length = _extent(video.times)
        interval = length / len(video.times)
        wanted = start + (np.arange(self.steps) + 0.5) * length / self.steps - interval / 2
        after = np.searchsorted(video.times, wanted).clip(max=len(video.times) - 1)
        before = (after - 1).clip(min=0)
        later = video.times[after] - wanted < wanted - video.times[before]
        return _bytes_to_unit(video.frames[np.where(later, after, before)])


class EventFrames(Stage):
    """Count events by step, polarity and place. No event is lost, in a recording of one event or of none either.

    Shape: `Events` -> [T, P, H, W], events by place and step; P is the number of polarities
    """

    kind: Literal["event-frames"] = "event-frames"
    """Names this encoder."""
    steps: int = Field(ge=1)
    """Time steps T."""
    by: Literal["time", "count"] = "time"
    """What every step gets: an equal part of the recording's duration, or of its events."""

    def __call__(self, value: Events, draw: Draw) -> Tensor:
        """Count the events of each step.

        Raises:
            ValueError: what comes in are no events.
        """
        import torch

        events = _expect(value, Events, self)
        (H, W), P = events.size, events.polarities
        step = np.arange(self.steps + 1)
        if self.by == "time":
            # The first microsecond of every step, rounded up: an event on the edge of two steps is in the later one.
            bounds = np.searchsorted(events.t, -(-step * events.duration // self.steps))
        else:
            bounds = step * len(events) // self.steps
        place = (events.p.astype(np.int64) * H + events.y) * W + events.x
        counts = np.empty((self.steps, P * H * W), np.float32)
        for number, (first, end) in enumerate(pairwise(bounds.tolist())):
            counts[number] = np.bincount(place[first:end], minlength=P * H * W)
        return torch.from_numpy(counts.reshape(self.steps, P, H, W))


class Steps(Stage):
    """Average a series over T equal spans of time, from its first value until one interval after its last.

    A span without any value holds the last one before it.

    Shape: `Series` [L, C] -> [T, C], in the unit of the series
    """

    kind: Literal["steps"] = "steps"
    """Names this encoder."""
    steps: int = Field(ge=1)
    """Time steps T."""

    def __call__(self, value: Series, draw: Draw) -> Tensor:
        """Average the values of each span.

        Raises:
            ValueError: what comes in is no series, or has no value.
        """
        import torch

        series = _expect(value, Series, self)
        bounds = _spans(series, self.steps)
        sums = _sums(series.values.astype(np.float64), bounds)
        counts = np.diff(bounds)[:, None]
        held = series.values[(bounds[:-1] - 1).clip(min=0)]  # the first span is never empty
        means = np.where(counts > 0, sums / counts.clip(min=1), held)
        return torch.from_numpy(means.astype(np.float32))


class SendOnDelta(Stage):
    """Say when a series has moved: an event up or down each time a channel is a threshold away from its last event.

    This is send-on-delta sampling (Miskowicz 2006, Sensors 6(1), 49-63). The first value is where counting begins, so
    the level itself is lost; from there on threshold * (ups - downs), added up over the steps so far, is less than one
    threshold away from the series at the end of the step.

    Shape: `Series` [L, C] -> [T, 2 C], events by channel and step: ups of all channels, then downs of all
    """

    kind: Literal["send-on-delta"] = "send-on-delta"
    """Names this encoder."""
    steps: int = Field(ge=1)
    """Time steps T, equal spans of time as in `Steps`."""
    threshold: float = Field(gt=0)
    """In the unit of the series."""

    def __call__(self, value: Series, draw: Draw) -> Tensor:
        """Follow every channel and count its events.

        Raises:
            ValueError: what comes in is no series, or has no value.
        """
        import torch

        series = _expect(value, Series, self)
        bounds = _spans(series, self.steps)
        moved = (series.values.astype(np.float64) - series.values[0]) / self.threshold
        # Where events have brought us, in thresholds: held until a whole one away, then as near as events can bring it.
        lowest, highest = np.floor(moved), np.ceil(moved)
        followed = np.zeros_like(moved)
        for now in range(1, len(moved)):
            np.minimum(np.maximum(followed[now - 1], lowest[now]), highest[now], out=followed[now])
        events = np.diff(followed, axis=0, prepend=0)
        counts = np.concatenate([_sums(events.clip(min=0), bounds), _sums(-events.clip(max=0), bounds)], axis=1)
        return torch.from_numpy(counts.astype(np.float32))


class Bernoulli(Stage):
    """Spikes by chance: at every step, each value is the probability of its spike. Drawn once a sample.

    Shape: tensor [...] in 0..1 -> [T, ...], each 0 or 1
    """

    draws: ClassVar[bool] = True
    kind: Literal["bernoulli"] = "bernoulli"
    """Names this encoder."""
    steps: int = Field(ge=1)
    """Time steps T."""

    def __call__(self, value: Tensor, draw: Draw) -> Tensor:
        """Draw the spikes.

        Raises:
            ValueError: what comes in is no tensor, or a value is outside 0..1.
        """
        import torch

        values = _expect_unit(value, self)
        return (torch.rand(self.steps, *values.shape, generator=draw.generator()) < values).float()


class Latency(Stage):
    """One spike a value, the earlier the larger it is: 1 at the first step, the least above 0 at the last, 0 none.

    Shape: tensor [...] in 0..1 -> [T, ...], each 0 or 1
    """

    kind: Literal["latency"] = "latency"
    """Names this encoder."""
    steps: int = Field(ge=1)
    """Time steps T."""

    def __call__(self, value: Tensor, draw: Draw) -> Tensor:
        """Place the spikes.

        Raises:
            ValueError: what comes in is no tensor, or a value is outside 0..1.
        """
        import torch

        values = _expect_unit(value, self)
        step = self.steps - (values * self.steps).ceil()  # T, which is no step, where the value is 0
        return (step == torch.arange(self.steps).reshape(-1, *[1] * values.dim())).float()


class LogMel(Stage):
    """How loud each band of pitch is at each time, as the logarithm of its power.

    The spectrogram is stretched to `columns`, with antialiasing, so a clip of any length gives as many; where tempo
    matters, fit all clips to one length before. With `steps`, T times as many columns are dealt to the steps: each
    shows an equal span of the clip's time. Loudness as such is lost.

    Shape: `Waveform` [channels, L] -> [channels, F, columns] static, or [T, channels, F, columns]; low bands and early
    times first; all zero for a silent clip. F is `rows`, or `bands`
    """

    relies_on: ClassVar[tuple[str, ...]] = ("snn_datasets.spectrogram",)
    kind: Literal["log-mel"] = "log-mel"
    """Names this encoder."""
    columns: int = Field(ge=1)
    """Columns of the picture; of each step's picture where there are steps."""
    steps: int | None = Field(default=None, ge=1)
    """Time steps T; none makes one static picture."""
    bands: int = Field(default=64, ge=1)
    """Mel bands between 0 Hz and half the sample rate."""
    rows: int | None = Field(default=None, ge=1)
    """Rows that the bands are stretched to; none keeps a row a band."""
    window_ms: float = Field(default=25.0, gt=0)
    """Length of the Hann window in milliseconds."""
    hop_ms: float = Field(default=10.0, gt=0)
    """Step between windows in milliseconds."""
    dynamic_range_db: float = Field(default=80.0, gt=0, le=300)
    """What lies more than this many dB under the loudest spot of a clip is not told apart."""
    scale: Literal["standard", "unit"] = "standard"
    """Mean 0 and variance 1 over each clip, or from 0 at the bottom of the dynamic range to 1 at the loudest spot."""

    def __call__(self, value: Waveform, draw: Draw) -> Tensor:
        """Measure the bands, take the logarithm, stretch and scale.

        Raises:
            ValueError: what comes in is no waveform, or has no samples.
        """
        import torch

        from snn_datasets.spectrogram import mel_fft_length, mel_spectrogram

        wave, rate = _samples(value, self)
        window, hop = _in_samples(rate, self.window_ms), _in_samples(rate, self.hop_ms)
        fft_length = mel_fft_length(rate, window=window, bands=self.bands)
        # [channel, band, frame]
        power = mel_spectrogram(wave, rate=rate, window=window, hop=hop, bands=self.bands, fft_length=fft_length)
        loudest = power.max()
        silent = loudest < 1e-28  # far below one bit of any format; its logarithm would leave the range of floats
        decades = self.dynamic_range_db / 10
        relative = (power / (1.0 if silent else loudest)).clamp(min=10**-decades).log10() / decades + 1
        picture = _picture(relative, rows=self.rows, columns=self.columns, steps=self.steps)
        if silent:
            return torch.zeros_like(picture)
        return _standardized(picture) if self.scale == "standard" else picture.clamp(0, 1)


class LogMagnitude(Stage):
    """How strong each frequency is at each time, as the natural logarithm of its magnitude.

    Time is stretched, and dealt to steps, as in `LogMel`. With windows of 512 and hops of 353 samples at 22,050 Hz,
    `window_ms=512 / 22.05` and `hop_ms=353 / 22.05`, it makes the spectrograms usual for CREMA-D since Peng et al. 2022
    (arXiv:2203.15332): 257 rows, and 188 columns for three seconds.

    Shape: `Waveform` [channels, L] -> [channels, F, columns] static, or [T, channels, F, columns]; low frequencies and
    early times first. F is `rows`, or half the window's samples and one
    """

    relies_on: ClassVar[tuple[str, ...]] = ("snn_datasets.spectrogram",)
    kind: Literal["log-magnitude"] = "log-magnitude"
    """Names this encoder."""
    columns: int = Field(ge=1)
    """Columns of the picture; of each step's picture where there are steps."""
    steps: int | None = Field(default=None, ge=1)
    """Time steps T; none makes one static picture."""
    rows: int | None = Field(default=None, ge=1)
    """Rows that the frequencies are stretched to; none keeps a row a frequency."""
    window_ms: float = Field(default=25.0, gt=0)
    """Length of the Hann window, and of the Fourier transform, in milliseconds."""
    hop_ms: float = Field(default=10.0, gt=0)
    """Step between windows in milliseconds."""
    floor: float = Field(default=1e-7, gt=0)
    """Added to magnitudes before the logarithm, so that silence has one."""
    scale: Literal["standard", "log"] = "log"
    """Mean 0 and variance 1 over each clip, or the logarithm as it is."""

    def __call__(self, value: Waveform, draw: Draw) -> Tensor:
        """Measure the frequencies, take the logarithm, stretch and scale.

        Raises:
            ValueError: what comes in is no waveform, or has no samples.
        """
        from snn_datasets.spectrogram import magnitude_spectrogram

        wave, rate = _samples(value, self)
        window, hop = _in_samples(rate, self.window_ms), _in_samples(rate, self.hop_ms)
        magnitude = magnitude_spectrogram(wave, window=window, hop=hop)
        picture = _picture((magnitude + self.floor).log(), rows=self.rows, columns=self.columns, steps=self.steps)
        return _standardized(picture) if self.scale == "standard" else picture


def _expect(value: object, cls: type[R], stage: Stage) -> R:
    if not isinstance(value, cls):
        raise ValueError(
            f"{type(stage).__name__} takes {cls.__name__}, but {type(value).__name__} comes in; use an encoder for "
            "that, or correct the stage before this one"
        )
    return value


def _expect_unit(value: object, stage: Stage) -> Tensor:
    from torch import Tensor

    values = _expect(value, Tensor, stage)
    # Asked this way round, numbers that are none are refused as well.
    if values.numel() and not bool(((values >= 0) & (values <= 1)).all()):
        low, high = (float(extreme) for extreme in values.aminmax())
        raise ValueError(
            f"{type(stage).__name__} takes values from 0 to 1, but they run from {low:g} to {high:g}; scale them "
            "before, as Picture does, or LogMel with scale='unit'"
        )
    return values


def _bytes_to_unit(pixels: NDArray[np.uint8]) -> Tensor:
    import torch

    return torch.from_numpy(pixels.astype(np.float32)) / 255


def _resized(pictures: Tensor, height: int, width: int) -> Tensor:
    """Stretch pictures [C, H, W] with a filter as wide as the pixels that come out."""
    from torch.nn.functional import interpolate

    return interpolate(pictures[None], (height, width), mode="bilinear", antialias=True, align_corners=False)[0]


def _extent(times: NDArray[np.float64]) -> tuple[float, float]:
    """First time and length in seconds, where the last value lasts as long as the average; one alone lasts 1 s."""
    measured = float(times[-1] - times[0])
    return float(times[0]), measured * len(times) / (len(times) - 1) if measured > 0 else 1.0


def _spans(series: Series, steps: int) -> NDArray[np.int64]:
    """Index of the first value of each of `steps` equal spans of time, and of the end: [steps + 1]."""
    if not len(series.values) or len(series.values) != len(series.times):
        raise ValueError(
            f"a series has {len(series.values)} values and {len(series.times)} times; it needs a time for each value, "
            "and at least one"
        )
    start, length = _extent(series.times)
    # A value on the edge of two spans is in the later one, also where rounding puts it a little before.
    span = np.floor((series.times - start) / length * steps + 1e-6).clip(max=steps - 1)
    return np.searchsorted(span, np.arange(steps + 1)).astype(np.int64)


def _sums(values: NDArray[np.float64], bounds: NDArray[np.int64]) -> NDArray[np.float64]:
    """Sum values [L, C] between bounds [T + 1]: [T, C]."""
    return np.stack([values[first:end].sum(0) for first, end in pairwise(bounds)])


def _samples(value: object, stage: Stage) -> tuple[Tensor, int]:
    import torch

    wave = _expect(value, Waveform, stage)
    if not wave.samples.size:
        raise ValueError("a recording has no samples; replace its file or leave it out")
    return torch.from_numpy(wave.samples.astype(np.float32)), wave.rate


def _in_samples(rate: int, milliseconds: float) -> int:
    return max(1, round(rate * milliseconds / 1000))


def _picture(log: Tensor, *, rows: int | None, columns: int, steps: int | None) -> Tensor:
    """Stretch [channel, row, frame] to so many rows and columns, and deal the columns to the steps."""
    import torch

    height, width = rows or log.shape[1], columns * (steps or 1)
    if log.shape[1:] != (height, width):
        log = _resized(log, height, width)
    return log.contiguous() if steps is None else torch.stack(log.chunk(steps, dim=2))


def _standardized(picture: Tensor) -> Tensor:
    mean, std = picture.mean(), picture.std(correction=0)
    # A picture of one value throughout has no contrast to scale up.
    return (picture - mean) / std if std > 1e-4 else picture.new_zeros(picture.shape)
