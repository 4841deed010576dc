"""Alignment losses: they bring the residuals of different modalities together."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, Literal

from pydantic import Field

from snn_fusion.specs.registry import Registry
from snn_fusion.specs.spec import Spec

if TYPE_CHECKING:
    from torch import nn


class AlignmentSpec(Spec, ABC):
    """A loss between the residuals of two modalities."""

    weight: float = Field(default=1.0, ge=0)
    """Weight of this loss relative to the classification loss."""

    @abstractmethod
    def build(self) -> nn.Module:
        """Build the loss: `(a [B, C], b [B, C], labels [B]) -> scalar`."""


ALIGNMENTS: Registry[AlignmentSpec] = Registry(
    "alignment loss", "snn_fusion.alignments", AlignmentSpec, default="class_contrastive"
)
"""Every alignment loss that a spec can name."""


@ALIGNMENTS.register
class ClassContrastiveSpec(AlignmentSpec):
    """Class-wise contrastive alignment of the residuals (SAO in the S-CMRL paper)."""

    kind: Literal["class_contrastive"] = "class_contrastive"
    """Which alignment loss: class_contrastive, over all pairs of one class."""
    temperature: float = Field(default=0.1, gt=0)
    """Divides the similarities; smaller is stricter. Published: 0.07 (CREMA-D), 0.08 (UrbanSound8K-AV)."""
    symmetric: bool = False
    """Take the mean of both directions; published in one only."""

    def build(self) -> nn.Module:
        """Build the loss."""
        from snn_fusion.alignment import ClassContrastive

        return ClassContrastive(temperature=self.temperature, symmetric=self.symmetric)


@ALIGNMENTS.register
class InfoNCESpec(AlignmentSpec):
    """Contrastive alignment of normalized features, each sample with itself (van den Oord et al. 2018)."""

    kind: Literal["info_nce"] = "info_nce"
    """Which alignment loss: info_nce, each sample's two modalities against all others."""
    temperature: float = Field(default=0.1, gt=0)
    """Divides the cosine similarities; smaller is stricter."""
    symmetric: bool = True
    """Take the mean of both directions."""

    def build(self) -> nn.Module:
        """Build the loss."""
        from snn_fusion.alignment import InfoNCE

        return InfoNCE(temperature=self.temperature, symmetric=self.symmetric)
