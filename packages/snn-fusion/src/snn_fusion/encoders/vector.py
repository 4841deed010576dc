"""Encode one vector per time step, such as sensor readings or a cochlea's spikes, as tokens."""

from __future__ import annotations

from collections.abc import Sequence

from einops import rearrange
from torch import Tensor

from snn_core import LIF, NeuronFactory, SpikingConv2d
from snn_fusion.encoders.encoder import Encoder


class VectorEncoder(Encoder):
    """A spiking linear layer from C_in values to N tokens of width C.

    A vector has no spatial axis, so each token has its own weights, which also identify it, and no position is added.
    Batch norm's batch is T*B. Tokens are 0 or 1.

    Shape: static [B, C_in] or timed [T, B, C_in] -> tokens [T, B, N, C]

    Args:
        in_channels: length C_in of the vector.
        channels: token width C.
        num_tokens: tokens N.
        time_steps: T for static vectors; their linear layer runs once and is repeated for T steps.
        neuron: factory of the neuron layer.

    Raises:
        ValueError: num_tokens below 1, or, when called, an input of another shape.
    """

    def __init__(
        self, in_channels: int, channels: int, *, num_tokens: int, time_steps: int, neuron: NeuronFactory = LIF
    ) -> None:
        super().__init__((in_channels,), time_steps=time_steps)
        if num_tokens < 1:
            raise ValueError(f"num_tokens must be at least 1, but num_tokens is {num_tokens}")
        self.num_tokens = num_tokens
        # A linear layer as a convolution of 1 x 1 maps, because that layer can repeat a static input over time.
        self.embed = SpikingConv2d(in_channels, num_tokens * channels, kernel_size=1, padding=0, neuron=neuron)

    def forward(self, x: Tensor) -> Tensor:
        """Encode vectors [B, C_in] or [T, B, C_in] as tokens [T, B, N, C]."""
        self.batch_axis(x)
        spikes = self.embed(rearrange(x, "... c -> ... c 1 1"), time_steps=self.time_steps)
        return rearrange(spikes, "t b (n c) 1 1 -> t b n c", n=self.num_tokens)

    def count_tokens(self, input_shape: Sequence[int]) -> int:
        """Return `num_tokens` for a vector (C_in,)."""
        if tuple(input_shape) != self.axes:
            raise ValueError(f"input_shape must be {self.axes}, but it is {tuple(input_shape)}")
        return self.num_tokens
