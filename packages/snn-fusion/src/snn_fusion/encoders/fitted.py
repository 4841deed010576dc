"""An encoder for inputs that it does not take as they are: they are padded or flattened first."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor
from torch.nn import functional as F

from snn_fusion.encoders.encoder import Encoder


class FittedEncoder(Encoder):
    """Another encoder, before which inputs are padded with zeros or their last axes made one.

    Padding goes evenly to both sides, at the end one more where it is odd. Flattening keeps the order of the axes.

    Shape: [B, *input_shape] or [T, B, *input_shape] -> tokens [T, B, N, C], as the other encoder makes them

    Args:
        encoder: takes the inputs then.
        input_shape: axes of an input, without time and batch.
        taken: those that the encoder takes: as many and none shorter, or fewer, the last for all that follow.
    """

    def __init__(self, encoder: Encoder, input_shape: Sequence[int], taken: Sequence[int]) -> None:
        super().__init__(input_shape, time_steps=encoder.time_steps)
        self.encoder = encoder
        self.taken = tuple(taken)
        self.padding: list[int] = []
        if len(self.taken) == len(input_shape):
            for size, wanted in reversed(list(zip(input_shape, taken, strict=True))):
                self.padding += [(wanted - size) // 2, wanted - size - (wanted - size) // 2]

    def forward(self, x: Tensor) -> Tensor:
        """Inputs [B, *input_shape] or [T, B, *input_shape] -> tokens [T, B, N, C]."""
        self.batch_axis(x)
        x = F.pad(x, self.padding) if self.padding else x.flatten(len(self.taken) - 1 - len(self.axes))
        return self.encoder(x)

    def count_tokens(self, input_shape: Sequence[int]) -> int:
        """Tokens of the other encoder, of an input of `input_shape`.

        Raises:
            ValueError: another shape.
        """
        if tuple(input_shape) != self.axes:
            raise ValueError(f"input_shape is {self.axes}, but it is {tuple(input_shape)}")
        return self.encoder.count_tokens(self.taken)
