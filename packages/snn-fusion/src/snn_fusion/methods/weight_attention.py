"""Scale each modality by one learned weight per time step."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from snn_fusion.methods.base import FusedTokens, FusionMethod
from snn_fusion.methods.residual import check_modalities_known
from snn_fusion.methods.tokens import any_present, zero_absent
from snn_fusion.modality_dict import modality_dict
from snn_fusion.presence import ALL_PRESENT, Presence


class ModalityWeight(nn.Module):
    """Two linear layers from concatenated features to one weight, without a nonlinearity between them, as published.

    Shape: [T, B, modalities * C] -> [T, B, 1]
    """

    def __init__(self, modalities: int, channels: int) -> None:
        super().__init__()
        self.inner = nn.Linear(modalities * channels, channels)
        self.outer = nn.Linear(channels, 1)

    def forward(self, features: Tensor) -> Tensor:
        """Map features [T, B, modalities * C] to a weight [T, B, 1]."""
        return self.outer(self.inner(features))


class WeightAttention(FusionMethod):
    """Multiply each modality by a weight computed from it and the others: `x' = w * x`, w [T, B].

    `w = linear2(linear1([mean_n x ; mean_n y]))` in each time step, without a residual; x is the modality itself, y the
    others in the model's order. This is the WeightAttention baseline of S-CMRL (arXiv:2502.12488), there with two
    modalities. An absent modality's features are 0, and a sample without any other modality keeps its tokens unchanged,
    as do all samples of a model with one modality. Token counts may differ. There are no neurons.

    Args:
        modalities: their names.
        channels: token width C.
    """

    def __init__(self, modalities: Sequence[str], channels: int) -> None:
        super().__init__()
        self.modalities = tuple(modalities)
        self.weights = modality_dict(
            {name: ModalityWeight(len(modalities), channels) for name in modalities if len(modalities) > 1}
        )

    def forward(self, tokens: dict[str, Tensor], presence: Presence = ALL_PRESENT) -> FusedTokens:
        """Map tokens [T, B, N, C] by modality to the same tokens times their weights."""
        check_modalities_known(tokens, self.modalities)
        tokens = zero_absent(tokens, presence)
        means = {name: x.mean(2) for name, x in tokens.items()}
        fused = dict(tokens)
        for name in tokens:
            others = [other for other in self.modalities if other != name]
            present = [other for other in others if other in tokens]
            if not present:
                continue
            features = [means.get(other, torch.zeros_like(means[name])) for other in (name, *others)]
            weight = self.weights[name](torch.cat(features, -1))
            has_other = any_present(presence, present)
            if has_other is not None:
                weight = torch.where(has_other[None, :, None], weight, 1.0)
            fused[name] = weight.unsqueeze(-1) * tokens[name]
        return FusedTokens(fused, residuals={})
