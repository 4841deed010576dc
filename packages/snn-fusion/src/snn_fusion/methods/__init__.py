"""Fusion methods: tokens by modality in, fused tokens and what was read from whom out."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass, field

from torch import Tensor, nn

Pair = tuple[str, str]
"""(target, source): the target modality reads the source."""


@dataclass(frozen=True)
class Fused:
    """What a fusion method returns."""

    tokens: dict[str, Tensor]
    """Fused tokens [T, B, N, C] by modality."""
    residuals: dict[Pair, Tensor] = field(default_factory=dict[Pair, Tensor])
    """What each target read from each source, before alpha: [T, B, N, C] of the target."""


class FusionMethod(nn.Module, ABC):
    """Lets modalities read each other."""

    @abstractmethod
    def forward(self, tokens: dict[str, Tensor]) -> Fused:
        """Tokens [T, B, N, C] by modality -> fused tokens and residuals."""


class NoFusion(FusionMethod):
    """Tokens pass unchanged; modalities meet in the readout only (addition or concatenation)."""

    def forward(self, tokens: dict[str, Tensor]) -> Fused:
        """Tokens as they are."""
        return Fused(tokens)
