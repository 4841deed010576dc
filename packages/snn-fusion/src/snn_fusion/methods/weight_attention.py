"""Modalities weighed against each other by a scalar per time step."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from snn_fusion.methods import EVERYWHERE, Fused, FusionMethod
from snn_fusion.methods.residual import check_known
from snn_fusion.methods.tokens import any_present, blank_absent
from snn_fusion.modality_dict import modality_dict
from snn_fusion.presence import Presence


class ModalityWeight(nn.Module):
    """Two linear layers from features side by side to one weight, with no non-linearity between them as published.

    Shape: [T, B, modalities * C] -> [T, B, 1]
    """

    def __init__(self, modalities: int, channels: int) -> None:
        super().__init__()
        self.inner = nn.Linear(modalities * channels, channels)
        self.outer = nn.Linear(channels, 1)

    def forward(self, features: Tensor) -> Tensor:
        """Features [T, B, modalities * C] -> weight [T, B, 1]."""
        return self.outer(self.inner(features))


class WeightAttention(FusionMethod):
    """Each modality is multiplied by a weight that it and the others give it: `x' = w * x`, w [T, B].

    `w = linear2(linear1([mean_n x ; mean_n y]))` in each time step, no residual; x is the modality itself, y the others
    in the order of their names. This is the WeightAttention that S-CMRL (arXiv:2502.12488) compares with (there for
    two). An absent modality's features are 0, and a sample that has no other modality keeps its tokens as they are, as
    all do where there is one modality only. Token counts may differ. There are no neurons in it.

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

    def forward(self, tokens: dict[str, Tensor], presence: Presence = EVERYWHERE) -> Fused:
        """Tokens [T, B, N, C] by modality -> the same, weighed."""
        check_known(tokens, self.modalities)
        tokens = blank_absent(tokens, presence)
        means = {name: x.mean(2) for name, x in tokens.items()}
        fused = dict(tokens)
        for name in tokens:
            others = [other for other in self.modalities if other != name]
            there = [other for other in others if other in tokens]
            if not there:
                continue
            features = [means.get(other, torch.zeros_like(means[name])) for other in (name, *others)]
            weight = self.weights[name](torch.cat(features, -1))
            company = any_present(presence, there)
            if company is not None:
                weight = torch.where(company[None, :, None], weight, 1.0)
            fused[name] = weight.unsqueeze(-1) * tokens[name]
        return Fused(fused, residuals={})
