"""Map an encoder's tokens to positions in its input, and divide an input into parts."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from snn_fusion import Encoder, EncoderWithBlocks, FittedEncoder, PatchSplitting, SeriesEncoder, TokenInput
from snn_fusion.encoders.token_counts import PATCH_STRIDE

Float32Array = NDArray[np.float32]
PlaneKind = Literal["image", "series", "vector", "tokens"]
"""What the positions of a modality's plane are: pixels, times, elements of a vector, or input tokens."""


@dataclass(frozen=True, eq=False)
class Geometry:
    """The plane of a modality's input, and how values per token become a map of it."""

    kind: PlaneKind
    plane: tuple[int, ...]
    """[H, W] of an input [C, H, W], [L] of [C, L], [C] of [C], [N] of input tokens [N, C]."""
    leading_axes: int
    """Number of a sample's axes before the plane, such as the channels of an image."""
    trailing_axes: int
    """Number of a sample's axes after the plane, such as the channels of tokens."""
    weights: tuple[Float32Array, ...] | None
    """By axis of the token grid, interpolation weights [positions, tokens]; None if tokens have no position."""

    def interpolate(self, tokens: Float32Array) -> Float32Array:
        """Interpolate one value per token [N] linearly between token centers; returns a map of the plane.

        Tokens without a position in the input are returned unchanged.
        """
        if self.weights is None:
            return tokens
        if len(self.weights) == 1:
            return (self.weights[0] @ tokens).reshape(self.plane)
        rows, columns = self.weights
        return np.asarray(rows @ tokens.reshape(rows.shape[1], columns.shape[1]) @ columns.T, np.float32)

    def part_indices(self, max_parts: int) -> NDArray[np.int64]:
        """Divide the plane into at most `max_parts` parts; returns the part of each position, numbered row by row.

        Parts of an image are nearly square rectangles, parts of a series equal intervals.
        """
        counts = _part_counts(self.plane, max_parts)
        indices = np.zeros(self.plane, np.int64)
        for axis, (size, count) in enumerate(zip(self.plane, counts, strict=True)):
            part = np.arange(size) * count // size
            indices = indices * count + part.reshape([-1 if a == axis else 1 for a in range(len(self.plane))])
        return indices


def geometry_of(encoder: Encoder, x: Tensor) -> Geometry:
    """Return the geometry of an encoder for inputs like x [B, ...] or [T, B, ...].

    Pooling windows of convolutional encoders are centered on every second position, so token i is centered at position
    `stride * i`. Padding shifts the centers. Tokens of a flattened input follow its order. Tokens of a vector and of
    unknown encoders have no position.
    """
    while isinstance(encoder, EncoderWithBlocks):
        encoder = encoder.encoder
    sizes = tuple(x.shape[encoder.batch_axis(x) + 1 :])
    fitted, padding = sizes, [0] * len(sizes)
    if isinstance(encoder, FittedEncoder):
        # In the order of `torch.nn.functional.pad`: last axis first, before and after.
        padding = encoder.padding[::2][::-1] or padding
        fitted, encoder = encoder.encoder_shape, encoder.encoder
    if isinstance(encoder, TokenInput):
        weights = (_interpolation_weights(sizes[0], padding[0], 1, fitted[0]),)
        return Geometry("tokens", sizes[:1], 0, len(sizes) - 1, weights)
    plane = sizes if len(sizes) == 1 else sizes[1:]
    weights = None
    if isinstance(encoder, PatchSplitting):
        stride = PATCH_STRIDE[encoder.depth]
        weights = tuple(
            _interpolation_weights(size, before, stride, padded // stride)
            for size, before, padded in zip(plane, padding[1:], fitted[1:], strict=True)
        )
    elif isinstance(encoder, SeriesEncoder):
        stride = 2**encoder.num_stages
        weights = (_interpolation_weights(math.prod(plane), padding[-1], stride, math.ceil(fitted[1] / stride)),)
    kind: PlaneKind = "vector" if len(sizes) == 1 else "series" if len(plane) == 1 else "image"
    return Geometry(kind, plane, len(sizes) - len(plane), 0, weights)


def _interpolation_weights(positions: int, before: int, stride: int, tokens: int) -> Float32Array:
    """Return weights [positions, tokens] of linear interpolation between token centers at `stride * i - before`."""
    centers = stride * np.arange(tokens) - before
    columns = [np.interp(np.arange(positions), centers, row) for row in np.eye(tokens)]
    return np.stack(columns, 1).astype(np.float32)


def _part_counts(plane: Sequence[int], max_parts: int) -> tuple[int, ...]:
    """Return the number of parts along each axis, at most `max_parts` in total."""
    if len(plane) == 1:
        return (min(plane[0], max_parts),)
    edge = math.sqrt(math.prod(plane) / max_parts)
    counts = [min(size, max(1, math.floor(size / edge))) for size in plane]
    # A long and narrow image is one part wide; the rest is used along its length.
    longest = max(range(len(plane)), key=lambda axis: plane[axis])
    others = math.prod(count for axis, count in enumerate(counts) if axis != longest)
    counts[longest] = min(plane[longest], max_parts // others)
    return tuple(counts)
