"""Readout: fused tokens to class scores."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn

from snn_core import LIF, NeuronFactory, SpikingMLP
from snn_fusion.methods.base import FusedTokens
from snn_fusion.modality_dict import modality_dict
from snn_fusion.presence import ALL_PRESENT, Presence, run_on_rows


@dataclass(frozen=True)
class ReadoutOutput:
    """The output of a readout."""

    logits: Tensor
    """Class scores [B, K]."""
    features: dict[str, Tensor]
    """Each modality's features before they are joined [T, B, C]."""
    logits_of: dict[str, Tensor]
    """Each modality's own class scores [B, K]; only joint readouts have them."""


class Readout(nn.Module):
    """A residual spiking MLP per modality, mean over tokens, join, mean over time, linear head.

    Source: S-CMRL (arXiv:2502.12488), whose interaction `Add` or `Concat` is `combine` here. An absent modality's
    features are 0; with `add` the others are scaled up, so that the sum keeps its size.

    Args:
        modalities: their names.
        channels: token width C.
        num_classes: classes K.
        combine: `add` or `concat` the modalities' features.
        mlp_expansion: hidden width of the MLP in multiples of C; 0 omits the MLP, as in the published unimodal models.
        joint: predict from the method's joint representation with one head, and from each modality with its own head
            (CMCI, Zhou et al.); `combine` is ignored then.
        neuron: factory of each neuron layer.
    """

    def __init__(
        self,
        modalities: Sequence[str],
        channels: int,
        num_classes: int,
        *,
        combine: Literal["add", "concat"] = "add",
        mlp_expansion: int = 4,
        joint: bool = False,
        neuron: NeuronFactory = LIF,
    ) -> None:
        super().__init__()
        self.combine: Literal["add", "concat"] = combine
        self.modalities = tuple(modalities)
        self.mlps = modality_dict(
            {name: SpikingMLP(channels, expansion=mlp_expansion, neuron=neuron) for name in modalities if mlp_expansion}
        )
        self.head = nn.Linear(channels * (len(modalities) if combine == "concat" and not joint else 1), num_classes)
        self.heads = modality_dict({name: nn.Linear(channels, num_classes) for name in modalities}) if joint else None

    def forward(self, fused: FusedTokens, presence: Presence = ALL_PRESENT) -> ReadoutOutput:
        """Map tokens [T, B, N, C] by modality to logits [B, K] and features [T, B, C] by modality."""
        features: dict[str, Tensor] = {}
        for name, tokens in fused.tokens.items():
            if name in self.mlps:
                tokens = tokens + run_on_rows(self.mlps[name], presence.get(name), tokens)
            features[name] = tokens.mean(2)
        if self.heads is not None:
            assert fused.joint is not None
            logits_of: dict[str, Tensor] = {name: self.heads[name](x.mean(0)) for name, x in features.items()}
            return ReadoutOutput(self.head(fused.joint.mean(2).mean(0)), features, logits_of)
        return ReadoutOutput(self.head(self._join(features, presence).mean(0)), features, {})

    def _join(self, features: dict[str, Tensor], presence: Presence) -> Tensor:
        """Join features [T, B, C] by modality to [T, B, C], or with `concat` to [T, B, C * modalities]."""
        first = next(iter(features.values()))
        if self.combine == "concat":
            return torch.cat([features.get(name, torch.zeros_like(first)) for name in self.modalities], dim=-1)
        total = torch.stack([features[name] for name in self.modalities if name in features]).sum(0)
        if len(features) == len(self.modalities) and not presence:
            return total
        all_samples = torch.ones(first.shape[1], dtype=torch.bool, device=first.device)
        count = torch.stack([presence.get(name, all_samples) for name in features]).sum(0)
        return total * (len(self.modalities) / count.clamp(min=1)).to(total.dtype)[:, None]
