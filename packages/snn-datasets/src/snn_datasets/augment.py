"""Random small changes of training inputs that leave their class as it is."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor


def move_and_stretch(x: Tensor, amounts: Tensor, *, shift: float, scale: float) -> Tensor:
    """Move and stretch every picture of a batch by amounts of its own.

    A picture is an image, a spectrogram (moving and stretching it along frequency and time makes another voice and
    another tempo of it) or an event frame. What comes in from outside repeats the edge.

    Args:
        x: pictures [B, C, H, W] in any unit.
        amounts: [B, 2, 2] from -1 to 1: stretch along x and y, then move along x and y.
        shift: largest move along each axis, as a share of its length.
        scale: largest change of size along each axis: between 1 - scale and 1 + scale.

    Returns:
        pictures [B, C, H, W].

    Raises:
        ValueError: x or amounts has other axes, or shift or scale is outside [0, 1).
    """
    if x.dim() != 4 or amounts.shape != (len(x), 2, 2):
        raise ValueError(
            f"pictures are [B, C, H, W] and amounts [B, 2, 2], but the shapes are {tuple(x.shape)} and "
            f"{tuple(amounts.shape)}"
        )
    if not (0 <= shift < 1 and 0 <= scale < 1):
        raise ValueError(f"shift and scale are shares from 0 up to 1, but they are {shift} and {scale}")
    to_source = torch.zeros(len(x), 2, 3)
    to_source[:, :, :2] = torch.diag_embed(1 + scale * amounts[:, 0])
    to_source[:, :, 2] = 2 * shift * amounts[:, 1]  # the grid runs from -1 to 1
    grid = F.affine_grid(to_source, list(x.shape), align_corners=False).to(x)
    return F.grid_sample(x, grid, padding_mode="border", align_corners=False)
