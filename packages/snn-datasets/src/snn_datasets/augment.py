"""Random small changes of training inputs that leave their class as it is."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Generator, Tensor


def random_affine(x: Tensor, *, shift: float, scale: float, generator: Generator) -> Tensor:
    """Move and stretch every picture of a batch by amounts of its own.

    A picture is an image, a spectrogram (moving and stretching it along frequency and time makes another voice and
    another tempo of it) or an event frame. What comes in from outside repeats the edge.

    Args:
        x: pictures [B, C, H, W] in any unit.
        shift: largest move along each axis, as a share of its length.
        scale: largest change of size along each axis: between 1 - scale and 1 + scale.
        generator: on the CPU; decides all amounts, the same for any device.

    Returns:
        pictures [B, C, H, W].

    Raises:
        ValueError: x has other axes, or shift or scale is outside [0, 1).
    """
    if x.dim() != 4:
        raise ValueError(f"pictures are [B, C, H, W], but the shape is {tuple(x.shape)}")
    if not (0 <= shift < 1 and 0 <= scale < 1):
        raise ValueError(f"shift and scale are shares from 0 up to 1, but they are {shift} and {scale}")
    amounts = torch.rand(2, len(x), 2, generator=generator) * 2 - 1  # [scale and shift, B, x and y]
    to_source = torch.zeros(len(x), 2, 3)
    to_source[:, :, :2] = torch.diag_embed(1 + scale * amounts[0])
    to_source[:, :, 2] = 2 * shift * amounts[1]  # the grid runs from -1 to 1
    grid = F.affine_grid(to_source, list(x.shape), align_corners=False).to(x)
    return F.grid_sample(x, grid, padding_mode="border", align_corners=False)
