"""Corruptions that make a clean dataset harder: noise and blanks, drawn once per sample, the same in every run.

Each corruption is a stage that returns a recording of the same kind and size. It belongs at the end of `cached`, or at
the start of `per_read` if it should not be cached.
"""

# Some signatures of torch are untyped.
# pyright: reportUnknownMemberType=false
from __future__ import annotations

from dataclasses import replace
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from snn_datasets.base.recordings import Events, Image, Series, Video, Waveform
from snn_datasets.base.stage import Draw, Stage


class ImageNoise(Stage):
    """Adds Gaussian noise to every pixel, then rounds and clips to 0..255."""

    draws: ClassVar[bool] = True
    std: float = Field(ge=0, le=10)
    """Standard deviation, with pixels scaled to 0..1."""

    def __call__(self, value: Image, draw: Draw) -> Image:
        """Add the noise."""
        noisy = value.pixels + 255 * self.std * _normal(value.pixels.shape, draw)
        return Image(noisy.round().clip(0, 255).astype(np.uint8))


class ImageOcclusion(Stage):
    """Covers a random square of the image with black."""

    draws: ClassVar[bool] = True
    side: int = Field(ge=0)
    """Side of the square in pixels of the input, limited to the image."""

    def __call__(self, value: Image, draw: Draw) -> Image:
        """Draw the square."""
        import torch

        generator = draw.generator()
        _, H, W = value.pixels.shape
        side = min(self.side, H, W)
        top, left = (int(torch.randint(length - side + 1, (), generator=generator)) for length in (H, W))
        pixels = value.pixels.copy()
        pixels[:, top : top + side, left : left + side] = 0
        return Image(pixels)


class FrameDrop(Stage):
    """Blanks random frames of a video; the other frames and all times are unchanged."""

    draws: ClassVar[bool] = True
    relies_on: ClassVar[tuple[str, ...]] = ("snn_datasets.stages.noise",)
    share: float = Field(ge=0, le=1)
    """Fraction of the frames, rounded to a whole number of frames."""

    def __call__(self, value: Video, draw: Draw) -> Video:
        """Blank the frames."""
        from snn_datasets.stages.noise import dropped_indices

        frames = value.frames.copy()
        frames[dropped_indices(len(frames), self.share, draw.generator()).numpy()] = 0
        return replace(value, frames=frames)


class AudioNoise(Stage):
    """Adds white Gaussian noise to sound. Silence stays silent."""

    draws: ClassVar[bool] = True
    snr_db: float = Field(ge=-100, le=200)
    """Signal-to-noise ratio in dB; the signal power is that of all channels together."""

    def __call__(self, value: Waveform, draw: Draw) -> Waveform:
        """Add the noise."""
        level = np.sqrt(np.square(value.samples, dtype=np.float64).mean()) if value.samples.size else 0.0
        noise = level * 10 ** (-self.snr_db / 20) * _normal(value.samples.shape, draw)
        return replace(value, samples=(value.samples + noise).astype(np.float32))


class EventDrop(Stage):
    """Drops random events; the duration is unchanged."""

    draws: ClassVar[bool] = True
    relies_on: ClassVar[tuple[str, ...]] = ("snn_datasets.stages.noise",)
    share: float = Field(ge=0, le=1)
    """Probability that an event is dropped."""

    def __call__(self, value: Events, draw: Draw) -> Events:
        """Drop the events."""
        from snn_datasets.stages.noise import surviving

        remains = surviving(len(value), self.share, draw.generator()).numpy()
        return replace(value, t=value.t[remains], x=value.x[remains], y=value.y[remains], p=value.p[remains])


class EventNoise(Stage):
    """Adds noise events, uniform over time, pixels and polarities, as the dark current of a sensor does."""

    draws: ClassVar[bool] = True
    rate: float = Field(ge=0, le=1e4)
    """Events per second and pixel; a Poisson process."""

    def __call__(self, value: Events, draw: Draw) -> Events:
        """Add the events."""
        import torch

        generator = draw.generator()
        H, W = value.size
        expected = torch.tensor(self.rate * value.duration * 1e-6 * H * W, dtype=torch.float64)
        count = int(torch.poisson(expected, generator=generator))
        t, x, y, p = (
            torch.randint(max(1, below), (count,), generator=generator).numpy()
            for below in (value.duration, W, H, value.polarities)
        )
        return Events.of(
            t=np.concatenate([value.t, t]),
            x=np.concatenate([value.x, x]),
            y=np.concatenate([value.y, y]),
            p=np.concatenate([value.p, p]),
            size=value.size,
            polarities=value.polarities,
            duration=value.duration,
        )


class SeriesNoise(Stage):
    """Adds white Gaussian noise to every channel of a series. A constant channel is unchanged."""

    draws: ClassVar[bool] = True
    snr_db: float = Field(ge=-100, le=200)
    """Signal-to-noise ratio of each channel in dB, from their variances."""

    def __call__(self, value: Series, draw: Draw) -> Series:
        """Add the noise."""
        level = value.values.std(axis=0, dtype=np.float64) if len(value.values) else 0.0
        noise = level * 10 ** (-self.snr_db / 20) * _normal(value.values.shape, draw)
        return replace(value, values=(value.values + noise).astype(np.float32))


def _normal(shape: tuple[int, ...], draw: Draw) -> NDArray[np.float32]:
    import torch

    return torch.randn(shape, generator=draw.generator()).numpy()
