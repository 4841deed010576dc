"""No fusion: modalities are joined only in the readout."""

from __future__ import annotations

from torch import Tensor

from snn_fusion.methods.base import FusedTokens, FusionMethod
from snn_fusion.presence import ALL_PRESENT, Presence


class NoFusion(FusionMethod):
    """Pass tokens unchanged; modalities are joined only in the readout (addition or concatenation)."""

    def forward(self, tokens: dict[str, Tensor], presence: Presence = ALL_PRESENT) -> FusedTokens:
        """Return the tokens unchanged."""
        return FusedTokens(tokens)
