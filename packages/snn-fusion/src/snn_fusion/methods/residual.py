"""What methods share that add what was read to the target: who reads whom, and the residual's scale."""

from __future__ import annotations

from abc import ABC
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

from snn_core import LIF, NeuronFactory, SpikingLinear
from snn_core.argument_checks import check_number
from snn_fusion.methods import FusionMethod, Pair
from snn_fusion.presence import Presence
from snn_fusion.topology import Topology, pairs


class ResidualFusion(FusionMethod, ABC):
    """A method with `x' = x + alpha * what x read`.

    Args:
        modalities: their names.
        topology: who reads whom, see `snn_fusion.topology.pairs`.
        alpha: scale of the residual.
        learnable_alpha: learn a scale for each pair, from `alpha` on.

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
        """The residual scale of each pair (target, source) as it is now."""
        if isinstance(self.alpha, Tensor):
            return {pair: float(value) for pair, value in zip(self.pairs, self.alpha.detach(), strict=True)}
        return dict.fromkeys(self.pairs, self.alpha)

    def alpha_of(self, pair: Pair) -> float | Tensor:
        """The pair's residual scale, a scalar tensor if it is learned."""
        return self.alpha[self.pairs.index(pair)] if isinstance(self.alpha, Tensor) else self.alpha

    def sources_in(self, tokens: Mapping[str, Tensor]) -> dict[str, list[str]]:
        """Which sources each target reads, among the modalities that are there; targets with none are left out.

        Raises:
            ValueError: tokens of a modality that the method does not know.
        """
        check_known(tokens, self.modalities)
        found: dict[str, list[str]] = {}
        for target, source in self.pairs:
            if target in tokens and source in tokens:
                found.setdefault(target, []).append(source)
        return found


def check_known(tokens: Mapping[str, Tensor], modalities: Sequence[str]) -> None:
    """Raise `ValueError` for tokens of a modality that is not among `modalities`."""
    unknown = [name for name in tokens if name not in modalities]
    if unknown:
        raise ValueError(f"the fusion method knows {', '.join(modalities)}, but got tokens of {', '.join(unknown)}")


@torch.no_grad()
def shares(counts: Tensor, sources: Sequence[str], presence: Presence) -> Tensor:
    """Which share of what a target read came from each source: counts [T, B, N, S] -> [T, B, N, S], adding up to 1.

    A place's share is that of the coinciding spikes counted there, to which the sample's mean count of a place is
    added: spikes at one place and step come of counts at others, too, and this way a source that is silent in a
    sample has a share of exactly 0 in it. In a sample without any coincidence its present sources share equally. It is
    a measurement: no gradient flows.
    """
    smooth = counts + counts.mean((0, 2), keepdim=True)
    total = smooth.sum(-1, keepdim=True)
    there = [presence[s].to(counts.dtype) if s in presence else counts.new_ones(counts.shape[1]) for s in sources]
    present = torch.stack(there, -1)[None, :, None]
    equal = present / present.sum(-1, keepdim=True).clamp_min(1)
    return torch.where(total > 0, smooth / total.clamp_min(torch.finfo(counts.dtype).tiny), equal)


Weight = float | Tensor
"""What a residual is multiplied by: a number, or a tensor that goes with [T, B, N, 1]."""
Shared = Mapping[str, tuple[Tensor, Tensor | None]]
"""By target, what it read from all sources [T, B, N, C] and their shares [T, B, N, S]; None for a single source."""


def split_by_share(read: Shared, sources_of: Mapping[str, Sequence[str]]) -> dict[Pair, Tensor]:
    """Each target's residual [T, B, N, C], split into one a source."""
    return {
        (target, source): residual if share is None else residual * share[..., s : s + 1]
        for target, (residual, share) in read.items()
        for s, source in enumerate(sources_of[target])
    }


def weigh(weights: Sequence[Weight], share: Tensor | None) -> Weight:
    """The sources' weights averaged by their share [T, B, N, S] -> [T, B, N, 1], or a number where that will do."""
    if share is None:
        return weights[0]
    if not any(isinstance(weight, Tensor) for weight in weights):
        return weights[0]  # numbers are the same for all pairs, and shares add up to 1
    return torch.stack([share[..., s : s + 1] * weight for s, weight in enumerate(weights)]).sum(0)


class SourceGates(nn.Module):
    """For each pair one neuron, whose spikes let the residual pass: a source can be shut out step by step.

    It sees the residual averaged over tokens through a linear layer with bias, `gate[t, b] = neuron(w . mean_n r + c)`.
    w starts at 0 and c at 2, where `LIF()` fires in every step and just so: gates start open and ready to learn.

    Args:
        pairs: who reads whom.
        channels: token width C.
        neuron: makes each neuron layer.
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
        """Residuals [T, B, N, C] by pair -> gates [T, B, 1, 1] by pair."""
        return {pair: self.layers[pair_name(pair)](r.mean(2, keepdim=True)) for pair, r in residuals.items()}


def pair_name(pair: Pair) -> str:
    """The name under which a pair's weights are stored."""
    return f"{pair[0]}_reads_{pair[1]}"
