"""Making a clean dataset hard: noise and blanks, drawn once a sample, so that every run sees the same ones.

Each corruption is a stage that takes a recording and gives one of the same kind and size. It belongs at the end of
`prepare`, or at the start of `encode` where it should not be cached.
"""

# torch leaves some of its own signatures open.
# pyright: reportUnknownMemberType=false
from __future__ import annotations

from dataclasses import replace
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from snn_datasets.recordings import Events, Image, Series, Video, Waveform
from snn_datasets.stage import Draw, Stage


class ImageNoise(Stage):
    """Gaussian noise on every pixel, clipped to the range of pixels and rounded to a byte again."""

    draws: ClassVar[bool] = True
    std: float = Field(ge=0, le=10)
    """Standard deviation, where 0 is black and 1 is full brightness."""

    def __call__(self, value: Image, draw: Draw) -> Image:
        """Add the noise."""
        noisy = value.pixels + 255 * self.std * _normal(value.pixels.shape, draw)
        return Image(noisy.round().clip(0, 255).astype(np.uint8))


class ImageOcclusion(Stage):
    """One black square at a random place of the image, as large as the image at most."""

    draws: ClassVar[bool] = True
    side: int = Field(ge=0)
    """In pixels of the image that comes in."""

    def __call__(self, value: Image, draw: Draw) -> Image:
        """Place the square."""
        import torch

        generator = draw.generator()
        _, H, W = value.pixels.shape
        side = min(self.side, H, W)
        top, left = (int(torch.randint(length - side + 1, (), generator=generator)) for length in (H, W))
        pixels = value.pixels.copy()
        pixels[:, top : top + side, left : left + side] = 0
        return Image(pixels)


class FrameDrop(Stage):
    """Some frames of a video go black; the others and all times stay."""

    draws: ClassVar[bool] = True
    share: float = Field(ge=0, le=1)
    """Of the frames; rounded to a whole number of them."""

    def __call__(self, value: Video, draw: Draw) -> Video:
        """Blank the frames."""
        import torch

        order = torch.randperm(len(value.frames), generator=draw.generator()).numpy()
        frames = value.frames.copy()
        frames[order[: round(self.share * len(order))]] = 0
        return replace(value, frames=frames)


class AudioNoise(Stage):
    """White Gaussian noise on every sample of sound. Silence stays silent."""

    draws: ClassVar[bool] = True
    snr_db: float = Field(ge=-100, le=200)
    """Power of the recording, all channels together, over that of the noise, in dB."""

    def __call__(self, value: Waveform, draw: Draw) -> Waveform:
        """Add the noise."""
        level = np.sqrt(np.square(value.samples, dtype=np.float64).mean()) if value.samples.size else 0.0
        noise = level * 10 ** (-self.snr_db / 20) * _normal(value.samples.shape, draw)
        return replace(value, samples=(value.samples + noise).astype(np.float32))


class EventDrop(Stage):
    """Some events are lost; the recording stays as long as it was."""

    draws: ClassVar[bool] = True
    share: float = Field(ge=0, le=1)
    """Chance of each event to be lost."""

    def __call__(self, value: Events, draw: Draw) -> Events:
        """Leave out events."""
        import torch

        kept = (torch.rand(len(value), generator=draw.generator()) >= self.share).numpy()
        return replace(value, t=value.t[kept], x=value.x[kept], y=value.y[kept], p=value.p[kept])


class EventNoise(Stage):
    """Events that nothing caused, spread evenly over time, places and polarities, as a sensor's dark current makes."""

    draws: ClassVar[bool] = True
    rate: float = Field(ge=0, le=1e4)
    """Events a second at each place; a Poisson process."""

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
    """White Gaussian noise on every value of a series. A channel that does not vary stays as it is."""

    draws: ClassVar[bool] = True
    snr_db: float = Field(ge=-100, le=200)
    """Variance of each channel over that of its noise, in dB."""

    def __call__(self, value: Series, draw: Draw) -> Series:
        """Add the noise."""
        level = value.values.std(axis=0, dtype=np.float64) if len(value.values) else 0.0
        noise = level * 10 ** (-self.snr_db / 20) * _normal(value.values.shape, draw)
        return replace(value, values=(value.values + noise).astype(np.float32))


def _normal(shape: tuple[int, ...], draw: Draw) -> NDArray[np.float32]:
    import torch

    return torch.randn(shape, generator=draw.generator()).numpy()
