"""Spiking patch splitting of images, spectrograms and event frames into tokens."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from torch import Tensor, nn

from snn_core import LIF, NeuronFactory
from snn_fusion.encoders.conv_stages import ConvStages
from snn_fusion.encoders.token_counts import PATCH_STRIDE, patch_splitting_tokens


class PatchSplitting(ConvStages):
    """Stages of convolution, batch norm, neuron and max-pooling, then a convolution that adds position.

    Source: SPS of Spikformer (Zhou et al. 2023, arXiv:2209.15425) as S-CMRL (arXiv:2502.12488) uses it. The full form
    has four stages of C/8, C/4, C/2, C channels and one token per 16 x 16 pixels; the shallow one has two stages of
    C/2, C and one token per 4 x 4. Tokens are 0, 1 or 2: the last stage's spikes plus those of the position layer.

    Shape: static [B, C_in, H, W] or timed [T, B, C_in, H, W] -> tokens [T, B, (H / stride) (W / stride), C]; event
    frames are timed and have C_in = 2, one channel per polarity.

    Args:
        in_channels: channels C_in of the input.
        channels: token width C, a multiple of 8 (full) or 2 (shallow).
        depth: `full` or `shallow`.
        time_steps: T for static inputs; their first convolution runs once and is repeated for T steps.
        neuron: factory of each neuron layer.

    Raises:
        ValueError: an unknown depth, channels that are not divisible, or, when called, an input of another shape.
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
        if depth not in PATCH_STRIDE:
            raise ValueError(f"depth must be full or shallow, but it is {depth!r}")
        divisors = (8, 4, 2, 1) if depth == "full" else (2, 1)
        if channels % divisors[0]:
            raise ValueError(f"{depth} patch splitting needs channels divisible by {divisors[0]}, but got {channels}")
        super().__init__(
            (in_channels, "H", "W"),
            (in_channels, *(channels // divisor for divisor in divisors)),
            kernel_size=(3, 3),
            pool=nn.MaxPool2d(3, stride=2, padding=1),
            time_steps=time_steps,
            neuron=neuron,
        )
        self.depth: Literal["full", "shallow"] = depth

    def forward(self, x: Tensor) -> Tensor:
        """Encode an input [B, C_in, H, W] or [T, B, C_in, H, W] as tokens [T, B, N, C]."""
        self.batch_axis(x)
        self.count_tokens(x.shape[-3:])
        return self.encode_maps(x)

    def count_tokens(self, input_shape: Sequence[int]) -> int:
        """Return the number of tokens of an image (C_in, H, W), see `patch_splitting_tokens`."""
        return patch_splitting_tokens(input_shape, depth=self.depth)
