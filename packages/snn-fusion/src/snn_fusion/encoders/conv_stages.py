"""Base class of the convolutional encoders."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

from einops import rearrange
from torch import Tensor, nn

from snn_core import NeuronFactory, SpikingConv2d
from snn_fusion.encoders.encoder import Encoder


class ConvStages(Encoder):
    """Stages of convolution, batch norm, neuron and max-pooling, then a convolution that adds position.

    Tokens are 0, 1 or 2: the last stage's spikes plus those of the position layer.

    Args:
        axes: see `Encoder`.
        widths: channels of the input, then of each stage.
        kernel_size: height and width of the convolution kernels, both odd.
        pool: pooling after each stage.
        time_steps: T for static inputs; their first convolution runs once and is repeated for T steps.
        neuron: factory of each neuron layer.
    """

    def __init__(
        self,
        axes: Sequence[int | str],
        widths: Sequence[int],
        *,
        kernel_size: tuple[int, int],
        pool: nn.MaxPool2d,
        time_steps: int,
        neuron: NeuronFactory,
    ) -> None:
        super().__init__(axes, time_steps=time_steps)

        def convolution(before: int, after: int) -> SpikingConv2d:
            padding = kernel_size[0] // 2, kernel_size[1] // 2
            return SpikingConv2d(before, after, kernel_size=kernel_size, padding=padding, neuron=neuron)

        self.stages = nn.ModuleList(convolution(before, after) for before, after in pairwise(widths))
        self.pool = pool
        self.position = convolution(widths[-1], widths[-1])

    def encode_maps(self, x: Tensor) -> Tensor:
        """Encode maps [B, C_in, H, W] or [T, B, C_in, H, W] to tokens [T, B, N, C]."""
        for stage in self.stages:
            x = stage(x, time_steps=self.time_steps, pool=self.pool)
        x = x + self.position(x)
        return rearrange(x, "t b c h w -> t b (h w) c")
