"""A joint representation of all modalities, in addition to their tokens."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import reduce

import torch
from torch import Tensor, nn

from snn_core import LIF, NeuronFactory, SpikingLayer, SpikingMLP
from snn_fusion.methods.base import FusedTokens, FusionMethod
from snn_fusion.methods.residual import check_modalities_known
from snn_fusion.methods.tokens import any_present, pool_tokens, read_on_rows, zero_absent
from snn_fusion.modality_dict import modality_dict
from snn_fusion.presence import ALL_PRESENT, Presence


class SpikingSum(SpikingLayer):
    """One neuron on the sum of a linear layer per present modality; with bias, without normalization.

    Shape: tokens [T, B, N, C] by modality, with equal N -> spikes [T, B, N, C]
    """

    def __init__(self, modalities: Sequence[str], channels: int, *, neuron: NeuronFactory = LIF) -> None:
        super().__init__()
        self.linears = modality_dict({name: nn.Linear(channels, channels) for name in modalities})
        self.neuron = neuron()

    def forward(self, tokens: Mapping[str, Tensor], presence: Presence = ALL_PRESENT) -> Tensor:
        """Map tokens [T, B, N, C] by modality to spikes [T, B, N, C]."""
        drives = [
            read_on_rows(self.linears[name], presence.get(name), tokens[name])
            for name in self.linears
            if name in tokens
        ]
        return self.neuron(reduce(torch.add, drives))

    @torch.no_grad()
    def adjust_drive(self, gain: float, offset: float) -> None:
        """Scale weights and biases of the linear layers in place; each takes an equal part of the offset."""
        for linear in self.linears.values():
            assert isinstance(linear, nn.Linear)
            linear.weight.mul_(gain)
            linear.bias.mul_(gain).add_(offset / len(self.linears))


class CMCI(FusionMethod):
    """The class is predicted from a joint representation of all modalities; their tokens are unchanged.

    `s = neuron(sum over modalities of linear_m(x_m))`, `joint = s + MLP(s)`: the baseline of S-CMRL (arXiv:2502.12488),
    there with two modalities; with one, the sum has one term. An absent modality adds nothing, and a sample without
    any has a joint representation of 0. Modalities are pooled to its `num_tokens` tokens.

    Args:
        modalities: their names.
        channels: token width C.
        num_tokens: tokens of the joint representation; None uses that of the first present modality, which is right if
            all modalities have the same number.
        mlp_expansion: hidden width of the MLP in multiples of C.
        neuron: factory of each neuron layer.
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

    def forward(self, tokens: dict[str, Tensor], presence: Presence = ALL_PRESENT) -> FusedTokens:
        """Map tokens [T, B, N, C] by modality to the same tokens and the joint representation [T, B, N, C]."""
        check_modalities_known(tokens, self.modalities)
        tokens = zero_absent(tokens, presence)
        first = next(name for name in self.modalities if name in tokens)
        num_tokens = tokens[first].shape[2] if self.num_tokens is None else self.num_tokens
        spikes = self.sum({name: pool_tokens(x, num_tokens) for name, x in tokens.items()}, presence)
        joint = spikes + read_on_rows(self.mlp, any_present(presence, tokens), spikes)
        return FusedTokens(tokens, residuals={}, joint=joint)
