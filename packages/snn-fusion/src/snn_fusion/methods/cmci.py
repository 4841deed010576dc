"""One joint representation of all modalities, beside their tokens."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import reduce

import torch
from torch import Tensor, nn

from snn_core import LIF, NeuronFactory, SpikingLayer, SpikingMLP
from snn_fusion.methods import EVERYWHERE, Fused, FusionMethod
from snn_fusion.methods.residual import check_known
from snn_fusion.methods.tokens import any_present, blank_absent, pool_tokens, read_where
from snn_fusion.modality_dict import modality_dict
from snn_fusion.presence import Presence


class SpikingSum(SpikingLayer):
    """One neuron on the sum of a linear layer of each modality that is there; bias, no normalization.

    Shape: tokens [T, B, N, C] by modality, N the same -> spikes [T, B, N, C]
    """

    def __init__(self, modalities: Sequence[str], channels: int, *, neuron: NeuronFactory = LIF) -> None:
        super().__init__()
        self.linears = modality_dict({name: nn.Linear(channels, channels) for name in modalities})
        self.neuron = neuron()

    def forward(self, tokens: Mapping[str, Tensor], presence: Presence = EVERYWHERE) -> Tensor:
        """Tokens [T, B, N, C] by modality -> spikes [T, B, N, C]."""
        drives = [
            read_where(self.linears[name], presence.get(name), tokens[name]) for name in self.linears if name in tokens
        ]
        return self.neuron(reduce(torch.add, drives))

    @torch.no_grad()
    def adjust_drive(self, gain: float, offset: float) -> None:
        """Change the linear layers' weights and biases in place; each takes an equal part of the offset."""
        for linear in self.linears.values():
            assert isinstance(linear, nn.Linear)
            linear.weight.mul_(gain)
            linear.bias.mul_(gain).add_(offset / len(self.linears))


class CMCI(FusionMethod):
    """Modalities meet in one joint representation, from which the class is predicted; their tokens stay as they are.

    `s = neuron(sum over modalities of linear_m(x_m))`, `joint = s + MLP(s)`, as S-CMRL (arXiv:2502.12488) compares
    with it for two modalities; for one, the sum has one term. An absent modality adds nothing, and where a sample has
    none the joint representation is 0. It has `num_tokens` places, to which modalities with other numbers are pooled.

    Args:
        modalities: their names.
        channels: token width C.
        num_tokens: places of the joint representation; None takes those of the first modality that is there, which is
            right where all have the same number.
        mlp_expansion: width of the MLP's middle in multiples of C.
        neuron: makes each neuron layer.
    """

    def __init__(
        self,
        modalities: Sequence[str],
        channels: int,
        *,
        num_tokens: int | None = None,
        mlp_expansion: int = 4,
        neuron: NeuronFactory = LIF,
    ) -> None:
        super().__init__()
        self.num_tokens = num_tokens
        self.modalities = tuple(modalities)
        self.sum = SpikingSum(modalities, channels, neuron=neuron)
        self.mlp = SpikingMLP(channels, expansion=mlp_expansion, neuron=neuron)

    def forward(self, tokens: dict[str, Tensor], presence: Presence = EVERYWHERE) -> Fused:
        """Tokens [T, B, N, C] by modality -> the same, and the joint representation [T, B, N, C]."""
        check_known(tokens, self.modalities)
        tokens = blank_absent(tokens, presence)
        first = next(name for name in self.modalities if name in tokens)
        places = tokens[first].shape[2] if self.num_tokens is None else self.num_tokens
        spikes = self.sum({name: pool_tokens(x, places) for name, x in tokens.items()}, presence)
        joint = spikes + read_where(self.mlp, any_present(presence, tokens), spikes)
        return Fused(tokens, residuals={}, joint=joint)
