"""From fused tokens to class scores."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn

from snn_core import LIF, NeuronFactory, SpikingMLP
from snn_fusion.methods import EVERYWHERE, Fused
from snn_fusion.modality_dict import modality_dict
from snn_fusion.presence import Presence, run_where


@dataclass(frozen=True)
class Read:
    """What a readout returns."""

    logits: Tensor
    """Class scores [B, K]."""
    features: dict[str, Tensor]
    """Each modality's features before they are joined [T, B, C]."""
    logits_of: dict[str, Tensor]
    """Each modality's own class scores [B, K], from readouts that have them."""


class Readout(nn.Module):
    """A spiking MLP with a residual per modality, mean over tokens, join, mean over time, linear head.

    Source: S-CMRL (arXiv:2502.12488), whose interaction `Add` or `Concat` is `combine` here. Where a modality is absent
    its features are 0; with `add` the others count for more then, so that the sum keeps its size.

    Args:
        modalities: their names.
        channels: token width C.
        num_classes: classes K.
        combine: `add` or `concat` the modalities' features.
        mlp_expansion: width of the MLP's middle in multiples of C; 0 reads tokens without an MLP, as the published
            unimodal models do.
        joint: predict from the method's joint representation with one head, and from each modality with a head of its
            own (CMCI, Zhou et al.); `combine` is of no meaning then.
        neuron: makes each neuron layer.
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

    def forward(self, fused: Fused, presence: Presence = EVERYWHERE) -> Read:
        """Tokens [T, B, N, C] by modality -> logits [B, K] and features [T, B, C] by modality."""
        features: dict[str, Tensor] = {}
        for name, tokens in fused.tokens.items():
            if name in self.mlps:
                tokens = tokens + run_where(self.mlps[name], presence.get(name), tokens)
            features[name] = tokens.mean(2)
        if self.heads is not None:
            assert fused.joint is not None
            logits_of: dict[str, Tensor] = {name: self.heads[name](x.mean(0)) for name, x in features.items()}
            return Read(self.head(fused.joint.mean(2).mean(0)), features, logits_of)
        return Read(self.head(self._join(features, presence).mean(0)), features, {})

    def _join(self, features: dict[str, Tensor], presence: Presence) -> Tensor:
        """Features [T, B, C] by modality -> [T, B, C], or with `concat` [T, B, C * modalities]."""
        some = next(iter(features.values()))
        if self.combine == "concat":
            return torch.cat([features.get(name, torch.zeros_like(some)) for name in self.modalities], dim=-1)
        total = torch.stack([features[name] for name in self.modalities if name in features]).sum(0)
        if len(features) == len(self.modalities) and not presence:
            return total
        everyone = torch.ones(some.shape[1], dtype=torch.bool, device=some.device)
        there = torch.stack([presence.get(name, everyone) for name in features]).sum(0)
        return total * (len(self.modalities) / there.clamp(min=1)).to(total.dtype)[:, None]
