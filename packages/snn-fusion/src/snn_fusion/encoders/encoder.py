"""Base class of all encoders: accepted input shapes and token counts."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence

from torch import Tensor, nn


class Encoder(nn.Module, ABC):
    """Encodes a modality's raw input as tokens [T, B, N, C].

    An input is static, [B, ...], or has a time axis, [T, B, ...]; its number of axes tells which. A static input is
    repeated for `time_steps` steps; computation that does not depend on time runs once.

    Args:
        axes: the axes of one sample, without T and B: an int for a fixed size, otherwise a name.
        time_steps: T for static inputs.

    Raises:
        ValueError: time_steps below 1.
    """

    def __init__(self, axes: Sequence[int | str], *, time_steps: int) -> None:
        super().__init__()
        if time_steps < 1:
            raise ValueError(f"time_steps must be at least 1, but time_steps is {time_steps}")
        self.axes = tuple(axes)
        self.time_steps = time_steps

    @abstractmethod
    def forward(self, x: Tensor) -> Tensor:
        """Encode an input [B, ...] or [T, B, ...] as tokens [T, B, N, C]."""

    @abstractmethod
    def count_tokens(self, input_shape: Sequence[int]) -> int:
        """Return the number of tokens N of one sample of this shape, without T and B.

        Raises:
            ValueError: a shape that the encoder does not accept.
        """

    def require_shape(self, input_shape: Sequence[int]) -> None:
        """Accept only inputs of this shape, without T and B; axes that already have a size keep it."""
        if len(input_shape) == len(self.axes):
            self.axes = tuple(
                size if isinstance(axis, str) else axis for axis, size in zip(self.axes, input_shape, strict=True)
            )

    def batch_axis(self, x: Tensor) -> int:
        """Return the batch axis of an input: 0 if it is static, 1 if it has a time axis.

        Raises:
            ValueError: an input of another shape, or of integers.
        """
        batch_axis = x.dim() - len(self.axes) - 1
        sizes = zip(self.axes, x.shape[-len(self.axes) :], strict=False)
        if batch_axis not in (0, 1) or any(isinstance(axis, int) and axis != size for axis, size in sizes):
            sample = ", ".join(map(str, self.axes))
            raise ValueError(f"expected [B, {sample}] or [T, B, {sample}], got {tuple(x.shape)}")
        if not x.is_floating_point():
            raise ValueError(
                f"inputs must be floating-point numbers, but these are {x.dtype}: scale them, or call .float()"
            )
        return batch_axis
