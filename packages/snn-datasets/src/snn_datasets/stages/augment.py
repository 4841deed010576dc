"""Augmentation of batches: small random changes that preserve the class."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor


def shift_and_scale(x: Tensor, amounts: Tensor, *, shift: float, scale: float) -> Tensor:
    """Translate and scale every input of a batch by its own amounts.

    Inputs are images, event frames or spectrograms, where translation and scaling along frequency and time change the
    voice and the tempo. Padding repeats the edge.

    Args:
        x: inputs [B, C, H, W] in any unit.
        amounts: [B, 2, 2] from -1 to 1: scaling along x and y, then translation along x and y.
        shift: largest translation along each axis, as a fraction of its length.
        scale: largest change of size along each axis: between 1 - scale and 1 + scale.

    Returns:
        Inputs [B, C, H, W].

    Raises:
        ValueError: x or amounts has other axes, or shift or scale is outside [0, 1).
    """
    if x.dim() != 4 or amounts.shape != (len(x), 2, 2):
        raise ValueError(
            f"x must be [B, C, H, W] and amounts [B, 2, 2], but the shapes are {tuple(x.shape)} and "
            f"{tuple(amounts.shape)}"
        )
    if not (0 <= shift < 1 and 0 <= scale < 1):
        raise ValueError(f"shift and scale must be in [0, 1), but they are {shift} and {scale}")
    to_source = torch.zeros(len(x), 2, 3)
    to_source[:, :, :2] = torch.diag_embed(1 + scale * amounts[:, 0])
    to_source[:, :, 2] = 2 * shift * amounts[:, 1]  # the grid runs from -1 to 1
    grid = F.affine_grid(to_source, list(x.shape), align_corners=False).to(x)
    return F.grid_sample(x, grid, padding_mode="border", align_corners=False)
