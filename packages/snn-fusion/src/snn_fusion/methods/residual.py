"""What residual methods share: which modality reads which, and the scale of the residual."""

from __future__ import annotations

from abc import ABC
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

from snn_core import LIF, NeuronFactory, SpikingLinear
from snn_core.argument_checks import check_number
from snn_fusion.methods.base import FusionMethod, Pair
from snn_fusion.presence import Presence
from snn_fusion.topology import Topology, pairs


class ResidualFusion(FusionMethod, ABC):
    """A method of the form `x' = x + alpha * residual`.

    Args:
        modalities: their names.
        topology: which modality reads which, see `snn_fusion.topology.pairs`.
        alpha: scale of the residual.
        learnable_alpha: learn one scale per pair, starting at `alpha`.

    Raises:
        ValueError: those of `pairs`, or an alpha that is not finite.
    """

    alpha: float | nn.Parameter

    def __init__(self, modalities: Sequence[str], *, topology: Topology, alpha: float, learnable_alpha: bool) -> None:
        super().__init__()
        self.modalities = tuple(modalities)
        check_number("alpha", alpha)
        self.pairs: tuple[Pair, ...] = pairs(topology, modalities)
        self.alpha = nn.Parameter(torch.full((len(self.pairs),), float(alpha))) if learnable_alpha else alpha

    @property
    def alphas(self) -> Mapping[Pair, float]:
        """The current residual scale of each pair (target, source)."""
        if isinstance(self.alpha, Tensor):
            return {pair: float(value) for pair, value in zip(self.pairs, self.alpha.detach(), strict=True)}
        return dict.fromkeys(self.pairs, self.alpha)

    def alpha_of(self, pair: Pair) -> float | Tensor:
        """Return the pair's residual scale, a scalar tensor if it is learned."""
        return self.alpha[self.pairs.index(pair)] if isinstance(self.alpha, Tensor) else self.alpha

    def sources_in(self, tokens: Mapping[str, Tensor]) -> dict[str, list[str]]:
        """Return the sources that each target reads, among the present modalities; targets without any are omitted.

        Raises:
            ValueError: tokens of an unknown modality.
        """
        check_modalities_known(tokens, self.modalities)
        sources_of: dict[str, list[str]] = {}
        for target, source in self.pairs:
            if target in tokens and source in tokens:
                sources_of.setdefault(target, []).append(source)
        return sources_of


def check_modalities_known(tokens: Mapping[str, Tensor], modalities: Sequence[str]) -> None:
    """Raise `ValueError` for tokens of a modality that is not among `modalities`."""
    unknown = [name for name in tokens if name not in modalities]
    if unknown:
        raise ValueError(f"the fusion method knows {', '.join(modalities)}, but got tokens of {', '.join(unknown)}")


@torch.no_grad()
def source_shares(counts: Tensor, sources: Sequence[str], presence: Presence) -> Tensor:
    """Return each source's share of what a target read: counts [T, B, N, S] -> [T, B, N, S], which sum to 1.

    A token's share is that of its coinciding spikes, smoothed with the sample's mean count per token: spikes at one
    token and step also depend on counts at others. A source that is silent in a sample gets a share of exactly 0. In a
    sample without coincidences its present sources get equal shares. This is a measurement: no gradient flows.
    """
    smooth = counts + counts.mean((0, 2), keepdim=True)
    total = smooth.sum(-1, keepdim=True)
    masks = [presence[s].to(counts.dtype) if s in presence else counts.new_ones(counts.shape[1]) for s in sources]
    present = torch.stack(masks, -1)[None, :, None]
    equal = present / present.sum(-1, keepdim=True).clamp_min(1)
    return torch.where(total > 0, smooth / total.clamp_min(torch.finfo(counts.dtype).tiny), equal)


ResidualWeight = float | Tensor
"""Factor of a residual: a number, or a tensor that broadcasts with [T, B, N, 1]."""
SharedResiduals = Mapping[str, tuple[Tensor, Tensor | None]]
"""By target, its residual from all sources [T, B, N, C] and their shares [T, B, N, S]; None for a single source."""


def split_by_share(residuals: SharedResiduals, sources_of: Mapping[str, Sequence[str]]) -> dict[Pair, Tensor]:
    """Split each target's residual [T, B, N, C] into one per source."""
    return {
        (target, source): residual if share is None else residual * share[..., s : s + 1]
        for target, (residual, share) in residuals.items()
        for s, source in enumerate(sources_of[target])
    }


def mean_weight(weights: Sequence[ResidualWeight], share: Tensor | None) -> ResidualWeight:
    """Average the sources' weights by their share [T, B, N, S] -> [T, B, N, 1], or a number if all are equal."""
    if share is None:
        return weights[0]
    if not any(isinstance(weight, Tensor) for weight in weights):
        return weights[0]  # numbers are the same for all pairs, and shares sum to 1
    return torch.stack([share[..., s : s + 1] * weight for s, weight in enumerate(weights)]).sum(0)


class SourceGates(nn.Module):
    """One gate neuron per pair, whose spikes let the residual pass, so that a source can be shut out step by step.

    The neuron reads the residual averaged over tokens, through a linear layer with bias:
    `gate[t, b] = neuron(w . mean_n r + c)`. w starts at 0 and c at 2, where `LIF()` just fires in every step: gates
    start open and ready to learn.

    Args:
        pairs: (target, source) pairs.
        channels: token width C.
        neuron: factory of each neuron layer.
    """

    def __init__(self, pairs: Sequence[Pair], channels: int, *, neuron: NeuronFactory = LIF) -> None:
        super().__init__()
        self.layers = nn.ModuleDict()
        for pair in pairs:
            gate = SpikingLinear(channels, 1, bias=True, norm=False, neuron=neuron)
            nn.init.zeros_(gate.linear.weight)
            nn.init.constant_(gate.linear.bias, 2.0)
            self.layers[pair_name(pair)] = gate

    def forward(self, residuals: Mapping[Pair, Tensor]) -> dict[Pair, Tensor]:
        """Map residuals [T, B, N, C] by pair to gates [T, B, 1, 1] by pair."""
        return {pair: self.layers[pair_name(pair)](r.mean(2, keepdim=True)) for pair, r in residuals.items()}


def pair_name(pair: Pair) -> str:
    """Return the name under which a pair's weights are stored."""
    return f"{pair[0]}_reads_{pair[1]}"
