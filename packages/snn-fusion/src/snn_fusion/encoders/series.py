"""Encode dense time series, such as muscle activity, touch or gas concentrations, as tokens along the series."""

from __future__ import annotations

from collections.abc import Sequence

from einops import rearrange
from torch import Tensor, nn

from snn_core import LIF, NeuronFactory
from snn_fusion.encoders.conv_stages import ConvStages
from snn_fusion.encoders.token_counts import series_tokens


class SeriesEncoder(ConvStages):
    """Patch splitting along one axis: 1-D convolutional spiking stages over a window of L samples.

    Each stage is a convolution over samples, batch norm, neuron and max-pooling over 3 samples with stride 2; a last
    convolution adds position. The last four stages have C/8, C/4, C/2 and C channels, earlier ones C/8. One token
    covers 2^num_stages samples; the last one may cover fewer, so any length is accepted.

    The L samples belong to one time step. A static window is repeated at each of the T steps; split a long stream into
    one window per step. For one vector per step use `VectorEncoder`.

    Shape: static [B, C_in, L] or timed [T, B, C_in, L] -> tokens [T, B, ceil(L / 2^num_stages), C]

    Args:
        in_channels: channels C_in of the series, such as electrodes.
        channels: token width C, a multiple of 8 (of 2^(num_stages - 1) with fewer than four stages).
        num_stages: stages, each of which halves the length.
        kernel_size: width of the convolution kernels in samples, odd.
        time_steps: T for static windows; their first convolution runs once and is repeated for T steps.
        neuron: factory of each neuron layer.

    Raises:
        ValueError: invalid arguments, or, when called, an input of another shape.
    """

    def __init__(
        self,
        in_channels: int,
        channels: int,
        *,
        num_stages: int = 4,
        kernel_size: int = 3,
        time_steps: int,
        neuron: NeuronFactory = LIF,
    ) -> None:
        if num_stages < 1:
            raise ValueError(f"a series encoder needs at least 1 stage, but num_stages is {num_stages}")
        if kernel_size < 1 or kernel_size % 2 == 0:
            raise ValueError(f"kernel_size must be a positive odd number of samples, but it is {kernel_size}")
        divisors = [2 ** min(3, stage) for stage in reversed(range(num_stages))]
        if channels % divisors[0]:
            raise ValueError(
                f"a series encoder with num_stages {num_stages} needs channels divisible by {divisors[0]}, but got "
                f"{channels}"
            )
        super().__init__(
            (in_channels, "L"),
            (in_channels, *(channels // divisor for divisor in divisors)),
            kernel_size=(1, kernel_size),
            pool=nn.MaxPool2d((1, 3), stride=(1, 2), padding=(0, 1)),
            time_steps=time_steps,
            neuron=neuron,
        )
        self.num_stages = num_stages

    def forward(self, x: Tensor) -> Tensor:
        """Encode windows [B, C_in, L] or [T, B, C_in, L] as tokens [T, B, N, C]."""
        self.batch_axis(x)
        self.count_tokens(x.shape[-2:])
        return self.encode_maps(rearrange(x, "... c l -> ... c 1 l"))

    def count_tokens(self, input_shape: Sequence[int]) -> int:
        """Return the number of tokens of a window (C_in, L), see `series_tokens`."""
        return series_tokens(input_shape, num_stages=self.num_stages)
