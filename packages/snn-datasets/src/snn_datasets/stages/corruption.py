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

from snn_datasets.base.recordings import Image, Waveform
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


def _normal(shape: tuple[int, ...], draw: Draw) -> NDArray[np.float32]:
    import torch

    return torch.randn(shape, generator=draw.generator()).numpy()
