"""One vector a time step, such as the sensors' readings or a cochlea's spikes, becomes tokens."""

from __future__ import annotations

from collections.abc import Sequence

from einops import rearrange
from torch import Tensor

from snn_core import LIF, NeuronFactory, SpikingConv2d
from snn_fusion.encoders.encoder import Encoder


class VectorEncoder(Encoder):
    """A spiking linear layer from C_in numbers to N tokens of width C.

    A vector has no places, so tokens are what the layer makes them: each has weights of its own, which also tell it
    from the others, and no position is added. Batch norm sees T*B as its batch. Tokens hold 0 or 1.

    Shape: static [B, C_in] or timed [T, B, C_in] -> tokens [T, B, N, C]

    Args:
        in_channels: numbers C_in in the vector.
        channels: token width C.
        num_tokens: tokens N.
        time_steps: T for static vectors; their linear layer runs once and is held for T steps.
        neuron: makes the neuron layer.

    Raises:
        ValueError: num_tokens below 1, or, when called, an input of another kind.
    """

    def __init__(
        self, in_channels: int, channels: int, *, num_tokens: int, time_steps: int, neuron: NeuronFactory = LIF
    ) -> None:
        super().__init__((in_channels,), time_steps=time_steps)
        if num_tokens < 1:
            raise ValueError(f"a vector becomes at least 1 token, but num_tokens is {num_tokens}")
        self.num_tokens = num_tokens
        # A linear layer as a convolution of maps of one pixel: that layer can hold a static input over time.
        self.embed = SpikingConv2d(in_channels, num_tokens * channels, kernel_size=1, padding=0, neuron=neuron)

    def forward(self, x: Tensor) -> Tensor:
        """Vectors [B, C_in] or [T, B, C_in] -> tokens [T, B, N, C]."""
        self.batch_axis(x)
        spikes = self.embed(rearrange(x, "... c -> ... c 1 1"), time_steps=self.time_steps)
        return rearrange(spikes, "t b (n c) 1 1 -> t b n c", n=self.num_tokens)

    def count_tokens(self, input_shape: Sequence[int]) -> int:
        """`num_tokens`, of a vector (C_in,)."""
        if tuple(input_shape) != self.axes:
            raise ValueError(f"input_shape is {self.axes}, but it is {tuple(input_shape)}")
        return self.num_tokens
