"""Fusion methods: tokens by modality -> fused tokens and residuals by pair."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field

from torch import Tensor, nn

from snn_fusion.presence import ALL_PRESENT, Presence

Pair = tuple[str, str]
"""(target, source): the target modality reads the source."""


@dataclass(frozen=True)
class FusedTokens:
    """The output of a fusion method."""

    tokens: dict[str, Tensor]
    """Fused tokens [T, B, N, C] by modality."""
    residuals: dict[Pair, Tensor] = field(default_factory=dict)  # pyright: ignore[reportUnknownVariableType]
    """Residual of each pair (target, source) before alpha: [T, B, N, C] with the target's tokens."""
    split: bool = False
    """Whether a target's residuals are shares of a single one and sum to it; otherwise they are independent."""
    joint: Tensor | None = None
    """Joint representation of all modalities [T, B, N, C], from methods that predict from it."""


class FusionMethod(nn.Module, ABC):
    """Lets modalities read each other."""

    @abstractmethod
    def forward(self, tokens: dict[str, Tensor], presence: Presence = ALL_PRESENT) -> FusedTokens:
        """Map tokens [T, B, N, C] by modality to fused tokens and residuals.

        `tokens` may lack modalities that no sample has. Rows that `presence` marks as absent are 0 in the result; they
        neither read nor are read.
        """

    @property
    def alphas(self) -> Mapping[Pair, float]:
        """The scale of each pair's residual; empty for methods without residuals."""
        return {}
