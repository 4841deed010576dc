"""What all encoders have in common: which inputs they take, and what they tell before they see one."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence

from torch import Tensor, nn


class Encoder(nn.Module, ABC):
    """From a modality's raw input to tokens [T, B, N, C].

    An input is static, [B, ...], or has a time axis, [T, B, ...], and the number of its axes says which. A static one
    is shown for `time_steps` steps; what does not depend on time runs once.

    Args:
        axes: the axes of one sample, without T and B: a size where only one will do, else a name.
        time_steps: T for static inputs; others bring their own.

    Raises:
        ValueError: time_steps below 1.
    """

    def __init__(self, axes: Sequence[int | str], *, time_steps: int) -> None:
        super().__init__()
        if time_steps < 1:
            raise ValueError(f"a static input is shown for at least 1 time step, but time_steps is {time_steps}")
        self.axes = tuple(axes)
        self.time_steps = time_steps

    @abstractmethod
    def forward(self, x: Tensor) -> Tensor:
        """Input [B, ...] or [T, B, ...] -> tokens [T, B, N, C]."""

    @abstractmethod
    def count_tokens(self, input_shape: Sequence[int]) -> int:
        """How many tokens N one sample of this shape, without T and B, becomes.

        Raises:
            ValueError: a shape that the encoder does not take.
        """

    def require_shape(self, input_shape: Sequence[int]) -> None:
        """Take inputs of this shape alone, without T and B; axes that have a size already keep it."""
        if len(input_shape) == len(self.axes):
            self.axes = tuple(
                size if isinstance(axis, str) else axis for axis, size in zip(self.axes, input_shape, strict=True)
            )

    def batch_axis(self, x: Tensor) -> int:
        """Where an input has its batch: 0 if it is static, 1 if it has a time axis.

        Raises:
            ValueError: an input of another shape, or of whole numbers.
        """
        batch_axis = x.dim() - len(self.axes) - 1
        sizes = zip(self.axes, x.shape[-len(self.axes) :], strict=False)
        if batch_axis not in (0, 1) or any(isinstance(axis, int) and axis != size for axis, size in sizes):
            sample = ", ".join(map(str, self.axes))
            raise ValueError(f"expected [B, {sample}] or [T, B, {sample}], got {tuple(x.shape)}")
        if not x.is_floating_point():
            raise ValueError(
                f"inputs are floating-point numbers, but these are {x.dtype}: scale them, or call .float()"
            )
        return batch_axis
