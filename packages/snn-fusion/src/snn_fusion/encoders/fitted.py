"""An encoder for inputs that are first padded or flattened."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor
from torch.nn import functional as F

from snn_fusion.encoders.encoder import Encoder


class FittedEncoder(Encoder):
    """Zero-pad inputs, or flatten their last axes, for another encoder.

    Padding is even on both sides; an odd remainder goes to the end. Flattening is in row-major order.

    Shape: [B, *input_shape] or [T, B, *input_shape] -> tokens [T, B, N, C] of the inner encoder

    Args:
        encoder: the inner encoder.
        input_shape: axes of an input, without time and batch.
        encoder_shape: input shape of the inner encoder: the same number of axes, none shorter; or fewer axes, the last
            of which replaces all remaining ones.
    """

    def __init__(self, encoder: Encoder, input_shape: Sequence[int], encoder_shape: Sequence[int]) -> None:
        super().__init__(input_shape, time_steps=encoder.time_steps)
        self.encoder = encoder
        self.encoder_shape = tuple(encoder_shape)
        self.padding: list[int] = []
        if len(self.encoder_shape) == len(input_shape):
            for size, target in reversed(list(zip(input_shape, encoder_shape, strict=True))):
                self.padding += [(target - size) // 2, target - size - (target - size) // 2]

    def forward(self, x: Tensor) -> Tensor:
        """Encode inputs [B, *input_shape] or [T, B, *input_shape] as tokens [T, B, N, C]."""
        self.batch_axis(x)
        x = F.pad(x, self.padding) if self.padding else x.flatten(len(self.encoder_shape) - 1 - len(self.axes))
        return self.encoder(x)

    def count_tokens(self, input_shape: Sequence[int]) -> int:
        """Return the number of tokens of the inner encoder for an input of `input_shape`.

        Raises:
            ValueError: another shape.
        """
        if tuple(input_shape) != self.axes:
            raise ValueError(f"input_shape must be {self.axes}, but it is {tuple(input_shape)}")
        return self.encoder.count_tokens(self.encoder_shape)
