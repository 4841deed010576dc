"""The fusion method, which knows nothing of specs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import permutations

import torch
from torch import Tensor, nn

from snn_core import LIF, NeuronFactory, SpikingLinear
from snn_fusion.methods.base import FusedTokens, FusionMethod, Pair
from snn_fusion.presence import ALL_PRESENT, Presence, both_present


class Context(FusionMethod):
    """`x' = x + sum over sources y of alpha * neuron(W mean over tokens of y + b)`, with a W and b for each pair.

    Args:
        modalities: their names.
        channels: token width C.
        alpha: scale of the residual.
        neuron: makes each neuron layer.
    """

    def __init__(
        self, modalities: Sequence[str], channels: int, *, alpha: float = 1.0, neuron: NeuronFactory = LIF
    ) -> None:
        super().__init__()
        self.alpha = alpha
        self.pairs: tuple[Pair, ...] = tuple(permutations(modalities, 2))
        self.readers = nn.ModuleDict(
            {
                f"{target}_reads_{source}": SpikingLinear(channels, channels, bias=True, norm=False, neuron=neuron)
                for target, source in self.pairs
            }
        )

    @property
    def alphas(self) -> Mapping[Pair, float]:
        """The same for every pair."""
        return dict.fromkeys(self.pairs, self.alpha)

    def forward(self, tokens: dict[str, Tensor], presence: Presence = ALL_PRESENT) -> FusedTokens:
        """Tokens [T, B, N, C] by modality -> fused tokens and residuals."""
        fused = dict(tokens)
        residuals: dict[Pair, Tensor] = {}
        for target, source in self.pairs:
            if target not in tokens or source not in tokens:
                continue
            context = self.readers[f"{target}_reads_{source}"](tokens[source].mean(2, keepdim=True))
            samples = both_present(presence, target, source)
            if samples is not None:
                # The bias would speak for a modality that is not there.
                context = torch.where(samples[None, :, None, None], context, 0.0)
            residuals[target, source] = context.expand_as(tokens[target])
            fused[target] = fused[target] + self.alpha * residuals[target, source]
        return FusedTokens(fused, residuals)
