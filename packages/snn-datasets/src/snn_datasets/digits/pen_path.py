"""Estimation of the pen path of a handwritten digit.

An image does not state the order of writing, and at 8 x 8 pixels thinning the ink to a line loses loops and crossings.
So the order comes from the usual strokes of each digit, and the positions from the image: template strokes are aligned
with the ink (same center, extent and slant), then deformed toward it while neighboring points move coherently, as in
coherent point drift (Myronenko and Song 2010, IEEE TPAMI 32(12), 2262-2275). Where the deformed strokes meet no ink,
such as the bar of a seven without one, the pen is lifted.
"""

# Some signatures of torch are untyped.
# pyright: reportUnknownMemberType=false
from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor

POINTS = 48
"""Points of a path, evenly spaced along it."""

Stroke = tuple[tuple[float, float], ...]
"""Corners (x to the right, y down) of one stroke, drawn without lifting the pen."""

STROKES: tuple[tuple[Stroke, ...], ...] = (
    (((0.5, 0), (0.2, 0.15), (0.05, 0.5), (0.2, 0.85), (0.5, 1), (0.8, 0.85), (0.95, 0.5), (0.8, 0.15), (0.5, 0)),),
    (((0.25, 0.25), (0.65, 0), (0.65, 0.5), (0.6, 1)),),
    (((0.1, 0.25), (0.4, 0), (0.75, 0.1), (0.8, 0.35), (0.5, 0.65), (0.1, 1), (0.5, 0.97), (1, 1)),),
    (((0.1, 0.1), (0.5, 0), (0.85, 0.2), (0.4, 0.47), (0.9, 0.65), (0.85, 0.9), (0.5, 1), (0.05, 0.92)),),
    (((0.5, 0), (0.25, 0.35), (0.05, 0.65), (0.5, 0.7), (0.95, 0.6)), ((0.8, 0.3), (0.65, 0.65), (0.55, 1))),
    (((0.2, 0.02), (0.15, 0.45), (0.55, 0.4), (0.9, 0.65), (0.6, 0.97), (0.1, 0.97)), ((0.2, 0.02), (0.9, 0))),
    (((0.55, 0), (0.2, 0.35), (0.1, 0.7), (0.3, 1), (0.7, 1), (0.9, 0.75), (0.6, 0.55), (0.2, 0.65)),),
    (((0.1, 0.1), (0.5, 0.05), (0.9, 0.05), (0.65, 0.4), (0.45, 0.7), (0.3, 1)), ((0.1, 0.55), (0.9, 0.5))),
    (
        (
            *((0.85, 0.1), (0.5, 0), (0.15, 0.2), (0.5, 0.48), (0.85, 0.75), (0.5, 1)),
            *((0.15, 0.8), (0.5, 0.48), (0.85, 0.2), (0.5, 0)),
        ),
    ),
    (((0.85, 0.2), (0.5, 0), (0.1, 0.2), (0.4, 0.45), (0.85, 0.2), (0.85, 0.6), (0.7, 0.9), (0.15, 1)),),
)
"""The strokes of each digit in the order of writing, within a unit square."""

LEAST_INK = 0.25
"""The pen is on the paper where there is at least this much ink; 1 is full ink."""

# Annealed from stiff to flexible: the reach of the ink's attraction in pixels, and the fraction of the path over which
# points move together.
REACHES = cast("list[float]", torch.linspace(1.6, 0.5, 12).tolist())
STIFFNESSES = cast("list[float]", torch.linspace(0.15, 0.035, 12).tolist())


@dataclass(frozen=True)
class PenPaths:
    """The pen paths of N digits, at `POINTS` points evenly spaced along each path."""

    positions: Tensor
    """[N, points, 2]: x to the right and y down, 0 to 1 over the image."""
    down: Tensor
    """bool [N, points]: whether the pen is on the paper."""


def pen_paths(images: Tensor, digits: Sequence[int]) -> PenPaths:
    """Estimate a path for each image.

    Shape: images [N, 8, 8], 1 is ink and 0 paper, and N digits -> paths of N digits
    """
    templates, lifted = (torch.stack(parts) for parts in zip(*map(_sample_strokes, STROKES), strict=True))
    which = torch.tensor(digits)
    size = images.shape[-1]
    axis = torch.arange(size) + 0.5
    pixels = torch.cartesian_prod(axis, axis).flip(1)  # [pixels, 2] as x, y
    ink = images.flatten(1)
    start = _align_with_ink(templates[which], pixels, ink)
    positions = start
    along = torch.linspace(0, 1, POINTS)
    for reach, stiffness in zip(REACHES, STIFFNESSES, strict=True):
        # Each ink pixel attracts the points near it, with weights that sum to 1.
        near = (-torch.cdist(pixels.expand(len(ink), -1, -1), positions).square() / (2 * reach**2)).softmax(2)
        near = near * ink[:, :, None]
        weight = near.sum(1)[:, :, None]
        pulled = (near.mT @ pixels + 0.5 * positions) / (weight + 0.5)
        smoothing = (-(along[:, None] - along).square() / (2 * stiffness**2)).softmax(1)
        positions = start + smoothing @ (pulled - start)
    under = F.grid_sample(images[:, None], (2 * positions / size - 1)[:, :, None], align_corners=False)[:, 0, :, 0]
    return PenPaths(positions / size, (under >= LEAST_INK) & ~lifted[which])


def _sample_strokes(strokes: Sequence[Stroke]) -> tuple[Tensor, Tensor]:
    """Return points evenly spaced along strokes and the moves between them [points, 2], and where the pen is lifted."""
    corners = torch.tensor([corner for stroke in strokes for corner in stroke])
    lifted = torch.tensor([last for stroke in strokes for last in [*[False] * (len(stroke) - 1), True]][:-1])
    ends = F.pad(corners.diff(dim=0).square().sum(1).sqrt().cumsum(0), (1, 0))
    distances = torch.linspace(0, float(ends[-1]), POINTS)
    leg = (torch.searchsorted(ends, distances, right=True) - 1).clamp(max=len(lifted) - 1)
    part = ((distances - ends[leg]) / (ends[leg + 1] - ends[leg]))[:, None]
    return corners[leg] + part * (corners[leg + 1] - corners[leg]), lifted[leg]


def _align_with_ink(templates: Tensor, pixels: Tensor, ink: Tensor) -> Tensor:
    """Shift, scale and shear templates [N, points, 2] so that their mean and covariance match those of the ink."""
    share = ink / ink.sum(1, keepdim=True)
    center = (share @ pixels)[:, None]
    from_ink = _covariance_factor((pixels - center) * share[:, :, None].sqrt())
    middle = templates.mean(1, keepdim=True)
    from_template = _covariance_factor((templates - middle) / POINTS**0.5)
    # Whiten the template, then apply the covariance of the ink.
    white = cast(Tensor, torch.linalg.solve_triangular(from_template, (templates - middle).mT, upper=True))
    return center + (from_ink @ white).mT


def _covariance_factor(points: Tensor) -> Tensor:
    """Return the upper triangular factor of the covariance of points [N, points, 2].

    The upper factor shears x along y, as handwriting is slanted, and leaves y independent of x.
    """
    backwards = points.flip(2)
    factor = cast(Tensor, torch.linalg.cholesky(backwards.mT @ backwards + 1e-4 * torch.eye(2)))
    return factor.flip(1, 2)
