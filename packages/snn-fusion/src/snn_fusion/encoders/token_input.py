"""Accept precomputed tokens, such as those of a pretrained network."""

from __future__ import annotations

from collections.abc import Sequence

from einops import rearrange
from torch import Tensor

from snn_core import LIF, NeuronFactory, SpikingConv2d
from snn_fusion.encoders.encoder import Encoder


class TokenInput(Encoder):
    """Pass tokens unchanged, spikes or not; if their width differs, project them by a spiking linear layer.

    Batch norm's batch is T*B*N.

    Shape: static [B, N, C_in] or timed [T, B, N, C_in] -> tokens [T, B, N, C]

    Args:
        in_channels: width C_in of the input tokens.
        channels: token width C; if it equals C_in, there is no layer and nothing to train.
        time_steps: T for static tokens; they are repeated over T steps, after the matrix product if there is a layer.
        neuron: factory of the layer's neuron.

    Raises:
        ValueError: when called, an input of another shape.
    """

    def __init__(self, in_channels: int, channels: int, *, time_steps: int, neuron: NeuronFactory = LIF) -> None:
        super().__init__(("N", in_channels), time_steps=time_steps)
        # A linear layer as a convolution of N x 1 maps, because that layer can repeat a static input over time.
        self.embed = (
            SpikingConv2d(in_channels, channels, kernel_size=1, padding=0, neuron=neuron)
            if in_channels != channels
            else None
        )

    def forward(self, x: Tensor) -> Tensor:
        """Map tokens [B, N, C_in] or [T, B, N, C_in] to tokens [T, B, N, C]."""
        static = self.batch_axis(x) == 0
        if self.embed is None:
            return x.expand(self.time_steps, *x.shape) if static else x
        spikes = self.embed(rearrange(x, "... n c -> ... c n 1"), time_steps=self.time_steps)
        return rearrange(spikes, "t b c n 1 -> t b n c")

    def count_tokens(self, input_shape: Sequence[int]) -> int:
        """Return N of tokens (N, C_in)."""
        if len(input_shape) != 2 or input_shape[1] != self.axes[1]:
            raise ValueError(f"input_shape must be (N, {self.axes[1]}), but it is {tuple(input_shape)}")
        return input_shape[0]
