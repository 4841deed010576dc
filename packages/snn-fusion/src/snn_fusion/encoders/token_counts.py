"""How many tokens an encoder makes of an input, without PyTorch: specs ask before any tensor exists.

Encoders whose count does not depend on the input's size are not here: their specs name it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

PATCH_STRIDE: dict[Literal["full", "shallow"], int] = {"full": 16, "shallow": 4}
"""Pixels along a token's edge, by the depth of patch splitting."""


def patch_splitting_tokens(input_shape: Sequence[int], *, depth: Literal["full", "shallow"]) -> int:
    """Tokens that `PatchSplitting` makes of one image (channels, height, width).

    Raises:
        ValueError: an axis below 1, or a height or width that the stride does not divide.
    """
    if len(input_shape) != 3 or min(input_shape) < 1:
        raise ValueError(f"input_shape is (channels, height, width), all at least 1, but it is {tuple(input_shape)}")
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
    """Tokens that `SeriesEncoder` makes of one window (channels, length): the length halved, rounded up, every stage.

    Raises:
        ValueError: an axis below 1.
    """
    if len(input_shape) != 2 or min(input_shape) < 1:
        raise ValueError(f"input_shape is (channels, length), both at least 1, but it is {tuple(input_shape)}")
    return -(-input_shape[1] // 2**num_stages)
