"""Alignment losses: bring the residuals of different modalities into one semantic space."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from snn_core.argument_checks import check_number


class ClassContrastive(nn.Module):
    """Class-wise contrastive loss between two modalities' residuals (SAO of S-CMRL, arXiv:2502.12488).

    With similarities `S = a b^T / temperature` (features are not normalized),
    `L = - mean over i, j of [y_i = y_j] log_softmax_j(S)[i, j]`. The mean runs over all B*B pairs, where those of
    different classes count as zero, and the softmax over b only: the loss has a direction.

    Args:
        temperature: divides the similarities; above 0.
        symmetric: the mean of both directions instead of the published one.
    """

    def __init__(self, *, temperature: float = 0.1, symmetric: bool = False) -> None:
        super().__init__()
        check_number("temperature", temperature, above=0)
        self.temperature = temperature
        self.symmetric = symmetric

    def forward(self, a: Tensor, b: Tensor, labels: Tensor) -> Tensor:
        """Map features a [B, C] and b [B, C] and labels [B] to the loss, a scalar.

        Raises:
            ValueError: shapes that do not match.
        """
        _check(a, b, labels)
        similar = a @ b.mT / self.temperature
        loss = self._one_way(similar, labels)
        return (loss + self._one_way(similar.mT, labels)) / 2 if self.symmetric else loss

    def _one_way(self, similar: Tensor, labels: Tensor) -> Tensor:
        log_share = F.log_softmax(similar, dim=1)
        return -torch.where(labels[:, None] == labels[None, :], log_share, 0.0).mean()


class InfoNCE(nn.Module):
    """Contrast each sample's two modalities with all other pairs (van den Oord et al. 2018, arXiv:1807.03748).

    `L = - mean over i of log_softmax_j(cos(a_i, b_j) / temperature)[i, i]`, with features normalized to length 1 (an
    all-zero feature stays 0). Labels are not used.

    Args:
        temperature: divides the cosine similarities; above 0.
        symmetric: the mean of both directions, as in CLIP (Radford et al. 2021, arXiv:2103.00020).
    """

    def __init__(self, *, temperature: float = 0.1, symmetric: bool = True) -> None:
        super().__init__()
        check_number("temperature", temperature, above=0)
        self.temperature = temperature
        self.symmetric = symmetric

    def forward(self, a: Tensor, b: Tensor, labels: Tensor) -> Tensor:
        """Map features a [B, C] and b [B, C] and labels [B] to the loss, a scalar.

        Raises:
            ValueError: shapes that do not match.
        """
        _check(a, b, labels)
        similar = F.normalize(a, dim=1) @ F.normalize(b, dim=1).mT / self.temperature
        own = torch.arange(len(a), device=a.device)
        loss = F.cross_entropy(similar, own)
        return (loss + F.cross_entropy(similar.mT, own)) / 2 if self.symmetric else loss


def _check(a: Tensor, b: Tensor, labels: Tensor) -> None:
    if a.shape != b.shape or a.dim() != 2 or labels.shape != a.shape[:1]:
        raise ValueError(
            f"a and b must be [B, C] and labels [B], but their shapes are {tuple(a.shape)}, {tuple(b.shape)} and "
            f"{tuple(labels.shape)}"
        )
