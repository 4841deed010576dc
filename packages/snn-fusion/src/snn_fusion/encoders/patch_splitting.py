"""Spiking patch splitting: an image, spectrogram or event frame becomes tokens."""

from __future__ import annotations

from itertools import pairwise
from typing import Literal

from einops import rearrange
from torch import Tensor, nn

from snn_core import LIF, NeuronFactory, SpikingConv2d


class PatchSplitting(nn.Module):
    """Stages of convolution, batch norm, neuron and max-pooling, then a convolution that adds position.

    Source: SPS of Spikformer (Zhou et al. 2023, arXiv:2209.15425) as S-CMRL (arXiv:2502.12488) uses it. The full form
    has four stages of C/8, C/4, C/2, C channels and gives one token for 16 x 16 pixels, the shallow one two stages of
    C/2, C and one token for 4 x 4. Tokens hold 0, 1 or 2: the last stage's spikes plus those of the position layer.

    Shape: static [B, C_in, H, W] or timed [T, B, C_in, H, W] -> tokens [T, B, (H / stride) (W / stride), C]

    Args:
        in_channels: channels C_in of the input.
        channels: token width C, a multiple of 8 (full) or 2 (shallow).
        depth: `full` or `shallow`.
        time_steps: T for static inputs; their first convolution runs once and is held for T steps.
        neuron: makes each neuron layer.

    Raises:
        ValueError: channels that do not divide, or, when called, an input of another kind or size.
    """

    def __init__(
        self,
        in_channels: int,
        channels: int,
        *,
        depth: Literal["full", "shallow"],
        time_steps: int,
        neuron: NeuronFactory = LIF,
    ) -> None:
        super().__init__()
        divisors = (8, 4, 2, 1) if depth == "full" else (2, 1)
        if channels % divisors[0]:
            raise ValueError(f"{depth} patch splitting needs channels divisible by {divisors[0]}, but got {channels}")
        widths = [in_channels, *(channels // divisor for divisor in divisors)]
        self.in_channels = in_channels
        self.time_steps = time_steps
        self.stride: int = 2 ** len(divisors)
        self.stages = nn.ModuleList(SpikingConv2d(before, after, neuron=neuron) for before, after in pairwise(widths))
        self.pool = nn.MaxPool2d(3, stride=2, padding=1)
        self.position = SpikingConv2d(channels, channels, neuron=neuron)

    def forward(self, x: Tensor) -> Tensor:
        """Input [B, C_in, H, W] or [T, B, C_in, H, W] -> tokens [T, B, N, C]."""
        if x.dim() not in (4, 5) or x.shape[-3] != self.in_channels:
            raise ValueError(
                f"expected [B, {self.in_channels}, H, W] or [T, B, {self.in_channels}, H, W], got {tuple(x.shape)}"
            )
        if x.shape[-1] % self.stride or x.shape[-2] % self.stride:
            raise ValueError(f"height and width must be multiples of {self.stride}, got {tuple(x.shape)}")
        for stage in self.stages:
            spikes = stage(x, time_steps=self.time_steps)
            x = self.pool(spikes.flatten(0, 1)).unflatten(0, spikes.shape[:2])
        x = x + self.position(x)
        return rearrange(x, "t b c h w -> t b (h w) c")
