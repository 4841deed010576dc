"""Making a clean dataset hard: noise and blanks, drawn once a sample, so that every run sees the same ones."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

import torch
from torch import Generator, Tensor


@dataclass(frozen=True)
class Corruption:
    """What is done to images and recordings before anything else; by default nothing."""

    image_noise: float = 0.0
    """Standard deviation of Gaussian noise on pixels in [0, 1]; what leaves that range is clipped."""
    image_occlusion: int = 0
    """Side in pixels of the file of one black square at a random place."""
    audio_snr: float | None = None
    """Signal power over the power of added white Gaussian noise in dB; None adds none."""
    seed: int = 0
    """Changes what is drawn."""

    def image(self, pixels: Tensor, sample: str) -> Tensor:
        """Pixels [C, H, W] in [0, 1] -> the same with a square and noise; the sample's id decides which."""
        generator = self._draw(sample, "image")
        _, H, W = pixels.shape
        if self.image_occlusion:
            side = min(self.image_occlusion, H, W)
            top, left = (int(torch.randint(length - side + 1, (), generator=generator)) for length in (H, W))
            pixels = pixels.clone()
            pixels[:, top : top + side, left : left + side] = 0
        if self.image_noise:
            pixels = (pixels + self.image_noise * torch.randn(pixels.shape, generator=generator)).clamp(0, 1)
        return pixels

    def waveform(self, wave: Tensor, sample: str) -> Tensor:
        """Wave [samples] -> the same in noise; the sample's id decides which. Silence stays silent."""
        if self.audio_snr is None:
            return wave
        noise = torch.randn(wave.shape, generator=self._draw(sample, "audio"))
        return wave + wave.square().mean().sqrt() * 10 ** (-self.audio_snr / 20) * noise

    def _draw(self, sample: str, purpose: str) -> Generator:
        key = hashlib.sha256(f"{self.seed} {purpose} {sample}".encode()).digest()
        return torch.Generator().manual_seed(int.from_bytes(key[:7], "little"))
