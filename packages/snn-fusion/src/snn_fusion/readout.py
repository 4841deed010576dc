"""From fused tokens to class scores."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor, nn

from snn_core import LIF, NeuronFactory, SpikingMLP
from snn_fusion.modality_dict import modality_dict


class Readout(nn.Module):
    """A spiking MLP with a residual per modality, mean over tokens, join, mean over time, linear head.

    Source: S-CMRL (arXiv:2502.12488), whose interaction `Add` or `Concat` is `combine` here.

    Args:
        modalities: their names.
        channels: token width C.
        num_classes: classes K.
        combine: `add` or `concat` the modalities' features.
        mlp_expansion: width of the MLP's middle in multiples of C.
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
        neuron: NeuronFactory = LIF,
    ) -> None:
        super().__init__()
        self.combine = combine
        self.mlps = modality_dict(
            {name: SpikingMLP(channels, expansion=mlp_expansion, neuron=neuron) for name in modalities}
        )
        self.head = nn.Linear(channels * (len(modalities) if combine == "concat" else 1), num_classes)

    def forward(self, tokens: dict[str, Tensor]) -> tuple[Tensor, dict[str, Tensor]]:
        """Tokens [T, B, N, C] by modality -> logits [B, K] and features [T, B, C] by modality."""
        features = {name: (tokens[name] + mlp(tokens[name])).mean(2) for name, mlp in self.mlps.items()}
        ordered = list(features.values())
        joined = torch.cat(ordered, dim=-1) if self.combine == "concat" else torch.stack(ordered).sum(0)
        return self.head(joined.mean(0)), features
