"""Losses that align the residuals of different modalities in one semantic space."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class ClassContrastive(nn.Module):
    """Class-wise contrastive loss between two modalities' residuals (SAO of S-CMRL, arXiv:2502.12488).

    With similarities `S = a b^T / temperature` (features are not normalised),
    `L = - mean over i, j of [y_i = y_j] log_softmax_j(S)[i, j]`. The mean runs over all B*B pairs, those of different
    classes counting as zero, and the softmax over b only: the loss has a direction.

    Args:
        temperature: divides the similarities.
    """

    def __init__(self, *, temperature: float = 0.1) -> None:
        super().__init__()
        self.temperature = temperature

    def forward(self, a: Tensor, b: Tensor, labels: Tensor) -> Tensor:
        """Features a [B, C] and b [B, C], labels [B] -> loss, a scalar.

        Raises:
            ValueError: shapes that do not belong together.
        """
        if a.shape != b.shape or a.dim() != 2 or labels.shape != a.shape[:1]:
            raise ValueError(
                f"a and b are [B, C] and labels [B], but their shapes are {tuple(a.shape)}, {tuple(b.shape)} and "
                f"{tuple(labels.shape)}"
            )
        log_share = F.log_softmax(a @ b.mT / self.temperature, dim=1)
        return -torch.where(labels[:, None] == labels[None, :], log_share, 0.0).mean()
