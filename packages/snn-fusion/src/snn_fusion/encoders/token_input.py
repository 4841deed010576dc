"""Tokens that were made elsewhere, such as by a pretrained network, enter as they are."""

from __future__ import annotations

from collections.abc import Sequence

from einops import rearrange
from torch import Tensor

from snn_core import LIF, NeuronFactory, SpikingConv2d
from snn_fusion.encoders.encoder import Encoder


class TokenInput(Encoder):
    """Tokens pass unchanged, spikes or not; where widths differ a spiking linear layer brings them to the model's.

    Batch norm sees T*B*N as its batch.

    Shape: static [B, N, C_in] or timed [T, B, N, C_in] -> tokens [T, B, N, C]

    Args:
        in_channels: width C_in of the tokens that come.
        channels: token width C; there is no layer, and nothing to train, where it equals C_in.
        time_steps: T for static tokens; they are repeated over T steps, after the linear layer's product if there is
            one.
        neuron: makes the layer's neuron.

    Raises:
        ValueError: when called, an input of another kind.
    """

    def __init__(self, in_channels: int, channels: int, *, time_steps: int, neuron: NeuronFactory = LIF) -> None:
        super().__init__(("N", in_channels), time_steps=time_steps)
        # A linear layer as a convolution of maps N x 1: that layer can hold a static input over time.
        self.embed = (
            SpikingConv2d(in_channels, channels, kernel_size=1, padding=0, neuron=neuron)
            if in_channels != channels
            else None
        )

    def forward(self, x: Tensor) -> Tensor:
        """Tokens [B, N, C_in] or [T, B, N, C_in] -> tokens [T, B, N, C]."""
        static = self.batch_axis(x) == 0
        if self.embed is None:
            return x.expand(self.time_steps, *x.shape) if static else x
        spikes = self.embed(rearrange(x, "... n c -> ... c n 1"), time_steps=self.time_steps)
        return rearrange(spikes, "t b c n 1 -> t b n c")

    def count_tokens(self, input_shape: Sequence[int]) -> int:
        """The N of tokens (N, C_in)."""
        if len(input_shape) != 2 or input_shape[1] != self.axes[1]:
            raise ValueError(f"input_shape is (N, {self.axes[1]}), but it is {tuple(input_shape)}")
        return input_shape[0]
