"""Fusion methods: tokens by modality in, fused tokens and what was read from whom out."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType

from torch import Tensor, nn

from snn_fusion.presence import Presence

Pair = tuple[str, str]
"""(target, source): the target modality reads the source."""
EVERYWHERE: Presence = MappingProxyType({})
"""Every modality is there for every sample."""


@dataclass(frozen=True)
class Fused:
    """What a fusion method returns."""

    tokens: dict[str, Tensor]
    """Fused tokens [T, B, N, C] by modality."""
    residuals: dict[Pair, Tensor] = field(default_factory=dict)  # pyright: ignore[reportUnknownVariableType]
    """What each target read from each source, before alpha: [T, B, N, C] of the target."""
    split: bool = False
    """Whether a target's residuals are parts of a single one, into which they add up; otherwise each stands alone."""
    joint: Tensor | None = None
    """One representation of all modalities together [T, B, N, C], from methods that predict from it."""


class FusionMethod(nn.Module, ABC):
    """Lets modalities read each other."""

    @abstractmethod
    def forward(self, tokens: dict[str, Tensor], presence: Presence = EVERYWHERE) -> Fused:
        """Tokens [T, B, N, C] by modality -> fused tokens and residuals.

        `tokens` may lack modalities that no sample has; rows that `presence` marks as absent hold zeros, are read by
        nobody and read nothing.
        """

    @property
    def alphas(self) -> Mapping[Pair, float]:
        """The scale of each pair's residual, where the method has residuals."""
        return {}


class NoFusion(FusionMethod):
    """Tokens pass unchanged; modalities meet in the readout only (addition or concatenation)."""

    def forward(self, tokens: dict[str, Tensor], presence: Presence = EVERYWHERE) -> Fused:
        """Tokens as they are."""
        return Fused(tokens)
