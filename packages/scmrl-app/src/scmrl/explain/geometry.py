"""Where the tokens of an encoder lie in its input, and which parts of an input can be blanked."""

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

Floats = NDArray[np.float32]
Kind = Literal["picture", "series", "vector", "tokens"]
"""What a modality's places are: pixels, moments, single readings, or ready-made tokens."""


@dataclass(frozen=True, eq=False)
class Geometry:
    """A modality's plane, and how a number a token becomes a map of it."""

    kind: Kind
    """What the places are."""
    plane: tuple[int, ...]
    """[H, W] of an input [C, H, W], [L] of [C, L], [C] of [C], [N] of ready-made tokens [N, C]."""
    before: int
    """Axes of a sample before those of the plane, such as the channels of a picture."""
    behind: int
    """Axes of a sample behind those of the plane, such as the channels of tokens."""
    along: tuple[Floats, ...] | None
    """By axis of the tokens' grid the weights [places, tokens] that spread them; None: tokens have no place."""

    def spread(self, tokens: Floats) -> Floats:
        """One number a token [N] -> a map of the plane, linear between the tokens' centers.

        Where tokens have no place in the input, they are returned as they are.
        """
        if self.along is None:
            return tokens
        if len(self.along) == 1:
            return (self.along[0] @ tokens).reshape(self.plane)
        rows, columns = self.along
        return np.asarray(rows @ tokens.reshape(rows.shape[1], columns.shape[1]) @ columns.T, np.float32)

    def cells(self, most: int) -> NDArray[np.int64]:
        """Which of at most `most` parts each place of the plane belongs to, numbered row by row from 0.

        Parts of a picture are rectangles as square as they can be, those of a series equal stretches of it.
        """
        counts = _parts(self.plane, most)
        cells = np.zeros(self.plane, np.int64)
        for axis, (size, count) in enumerate(zip(self.plane, counts, strict=True)):
            part = np.arange(size) * count // size
            cells = cells * count + part.reshape([-1 if a == axis else 1 for a in range(len(self.plane))])
        return cells


def geometry_of(encoder: Encoder, x: Tensor) -> Geometry:
    """Where an encoder's tokens lie in inputs like x [B, ...] or [T, B, ...].

    Convolutional encoders shrink by pooling windows that are centered on every second place, so token i sees the input
    around place `stride * i`, with as much before it as after it. Padding before an encoder moves the tokens, and
    tokens of what was flattened follow the order of its places. The tokens of a vector, and those of encoders that are
    not known here, have no place.
    """
    while isinstance(encoder, EncoderWithBlocks):
        encoder = encoder.encoder
    sizes = tuple(x.shape[encoder.batch_axis(x) + 1 :])
    seen, padded = sizes, [0] * len(sizes)
    if isinstance(encoder, FittedEncoder):
        # As `torch.nn.functional.pad` takes it: the last axis first, before and after.
        padded = encoder.padding[::2][::-1] or padded
        seen, encoder = encoder.encoder_shape, encoder.encoder
    if isinstance(encoder, TokenInput):
        return Geometry("tokens", sizes[:1], 0, len(sizes) - 1, (_spreading(sizes[0], padded[0], 1, seen[0]),))
    plane = sizes if len(sizes) == 1 else sizes[1:]
    along: tuple[Floats, ...] | None = None
    if isinstance(encoder, PatchSplitting):
        stride = PATCH_STRIDE[encoder.depth]
        along = tuple(
            _spreading(size, offset, stride, wide // stride)
            for size, offset, wide in zip(plane, padded[1:], seen[1:], strict=True)
        )
    elif isinstance(encoder, SeriesEncoder):
        stride = 2**encoder.num_stages
        along = (_spreading(math.prod(plane), padded[-1], stride, math.ceil(seen[1] / stride)),)
    kind: Kind = "vector" if len(sizes) == 1 else "series" if len(plane) == 1 else "picture"
    return Geometry(kind, plane, len(sizes) - len(plane), 0, along)


def _spreading(places: int, before: int, stride: int, tokens: int) -> Floats:
    """Weights [places, tokens] of linear interpolation between tokens that lie at `stride * i - before`."""
    centers = stride * np.arange(tokens) - before
    columns = [np.interp(np.arange(places), centers, row) for row in np.eye(tokens)]
    return np.stack(columns, 1).astype(np.float32)


def _parts(plane: Sequence[int], most: int) -> tuple[int, ...]:
    """Into how many parts each axis is cut, so that there are at most `most` in all."""
    if len(plane) == 1:
        return (min(plane[0], most),)
    edge = math.sqrt(math.prod(plane) / most)
    counts = [min(size, max(1, math.floor(size / edge))) for size in plane]
    # A long and narrow picture is one part wide; its length takes what is left.
    longest = max(range(len(plane)), key=lambda axis: plane[axis])
    others = math.prod(count for axis, count in enumerate(counts) if axis != longest)
    counts[longest] = min(plane[longest], most // others)
    return tuple(counts)
