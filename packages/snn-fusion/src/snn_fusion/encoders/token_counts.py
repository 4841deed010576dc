"""Token counts of encoders without PyTorch, so that specs can check them before any tensor exists."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

PATCH_STRIDE: dict[Literal["full", "shallow"], int] = {"full": 16, "shallow": 4}
"""Edge length of a token's patch in pixels, by the depth of patch splitting."""


def patch_splitting_tokens(input_shape: Sequence[int], *, depth: Literal["full", "shallow"]) -> int:
    """Return the number of tokens of `PatchSplitting` for one image (channels, height, width).

    Raises:
        ValueError: an axis below 1, or a height or width that is not a multiple of the stride.
    """
    if len(input_shape) != 3 or min(input_shape) < 1:
        raise ValueError(
            f"input_shape must be (channels, height, width), all at least 1, but it is {tuple(input_shape)}"
        )
    channels, height, width = input_shape
    stride = PATCH_STRIDE[depth]
    if height % stride or width % stride:
        smaller = " or use depth shallow (multiples of 4)" if depth == "full" else ""
        raise ValueError(
            f"{depth} patch splitting needs height and width that are multiples of {stride}, but "
            f"input_shape is {channels} x {height} x {width}: resize the input{smaller}"
        )
    return (height // stride) * (width // stride)


def series_tokens(input_shape: Sequence[int], *, num_stages: int) -> int:
    """Return the number of tokens of `SeriesEncoder` for one window (channels, length); each stage halves, rounding up.

    Raises:
        ValueError: an axis below 1.
    """
    if len(input_shape) != 2 or min(input_shape) < 1:
        raise ValueError(f"input_shape must be (channels, length), both at least 1, but it is {tuple(input_shape)}")
    return -(-input_shape[1] // 2**num_stages)
