"""Cross-modal complementary spatiotemporal spiking attention as residual learning (S-CMRL, arXiv:2502.12488)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from torch import Tensor, nn

from snn_core import LIF, NeuronFactory, SpikingLinear
from snn_fusion.methods import EVERYWHERE, Fused, Pair
from snn_fusion.methods.attention import (
    PUBLISHED_SCALE,
    Attention,
    CrossAttention,
    HeadMerge,
    Scale,
    join_attentions,
)
from snn_fusion.methods.residual import ResidualFusion, SourceGates, Weight, pair_name, split_by_share, weigh
from snn_fusion.methods.shared_reader import SharedReader
from snn_fusion.methods.tokens import blank_absent, number_present, read_where
from snn_fusion.presence import Presence, both
from snn_fusion.topology import Topology

Sharing = Literal["pair", "source", "all"]
Combine = Literal["sum", "mean", "gate"]


class CrossModalReader(nn.Module):
    """What one target modality reads from one source modality.

    `spatial` a: attention over tokens; `temporal` b: attention over time, where a source with another number of tokens
    is pooled to the target's places first. `spatiotemporal` joins their spikes as
    `r[t, b, n, c] = mean over n of a * mean over t of b`, which is not binary. With a semantic projection the residual
    then passes one linear spiking layer.

    Shape: target [T, B, N, C], source [T, B, M, C] -> residual [T, B, N, C]
    """

    def __init__(
        self,
        channels: int,
        *,
        num_heads: int,
        attention: Attention,
        semantic_projection: bool,
        head_merge: HeadMerge,
        neuron: NeuronFactory,
        scale: Scale = PUBLISHED_SCALE,
    ) -> None:
        super().__init__()
        self.spatial: nn.Module | None = None
        self.temporal: nn.Module | None = None
        self.projection: nn.Module | None = None
        if attention != "temporal":
            self.spatial = CrossAttention(channels, num_heads=num_heads, over="tokens", scale=scale, neuron=neuron)
        if attention != "spatial":
            self.temporal = CrossAttention(
                channels, num_heads=num_heads, over="time", scale=scale, head_merge=head_merge, neuron=neuron
            )
        if semantic_projection:
            self.projection = SpikingLinear(channels, channels, bias=True, norm=False, neuron=neuron)

    def forward(self, target: Tensor, source: Tensor) -> Tensor:
        """Target [T, B, N, C] reads source [T, B, M, C] -> residual [T, B, N, C]."""
        read: list[Tensor] = [attend(target, source) for attend in (self.spatial, self.temporal) if attend is not None]
        residual = join_attentions(read)
        return residual if self.projection is None else self.projection(residual)


class CCSSA(ResidualFusion):
    """Each modality reads others and adds what it read: `x' = x + sum over sources of alpha * residual`.

    For two modalities and the defaults this is the published method; for one there is nothing to read and tokens pass
    unchanged. Where a sample lacks one of a pair's two modalities, its residual is 0.

    What grows with the number of modalities N is a matter of `sharing`; a set of weights is that of one reader, C^2
    for each of the (up to nine) projections:

    | sharing | sets of weights | time | |
    |---|---|---|---|
    | `pair` | one a pair, N (N - 1) for topology `all` | as many | as published: a residual for each pair |
    | `source` | one a modality | N | queries and outputs by target, keys and values by source |
    | `all` | one | N | the same weights for every modality |

    With `source` and `all` every target has one residual for all its sources: without a softmax, attention to several
    sources is the sum of the attention to each, so counts are added before the attention neuron fires, and neuron,
    output layer and semantic projection run once a target. That residual is reported for each pair as the source's
    share in it, see `snn_fusion.methods.residual.shares`; the shares add up to it. For two modalities `source` is
    `pair`, weight for weight.

    `combine` says how what comes from several sources is put together. `sum` adds it, as published; `mean` divides by
    the number of sources that a sample has (of the counts where sources are read together, of the residuals where not);
    `gate` lets a learned spiking gate shut a source out in single time steps, see `SourceGates`.

    Args:
        modalities: their names.
        channels: token width C, divisible by num_heads.
        num_heads: attention heads h.
        attention: `spatial`, `temporal` or `spatiotemporal`.
        alpha: scale of the residual.
        learnable_alpha: learn one scale a pair, from `alpha` on; `alphas` tells them.
        semantic_projection: one linear spiking layer on each residual, into the space where they are aligned.
        head_merge: see `snn_core.SpikingAttention`.
        topology: who reads whom: `all`, `ring`, `star:<hub>`, or pairs (target, source).
        sharing: which pairs share weights: `pair` none, `source`, or `all`.
        combine: `sum`, `mean` or `gate`.
        scale: factor on attention's counts, 0.25 as published, or `auto`: see `snn_fusion.methods.attention`.
        neuron: makes each neuron layer.

    Raises:
        ValueError: channels not divisible by num_heads, or a topology that does not fit the modalities.
    """

    def __init__(
        self,
        modalities: Sequence[str],
        channels: int,
        *,
        num_heads: int = 16,
        attention: Attention = "spatiotemporal",
        alpha: float = 1.5,
        learnable_alpha: bool = False,
        semantic_projection: bool = True,
        head_merge: HeadMerge = "ordered",
        topology: Topology = "all",
        sharing: Sharing = "pair",
        combine: Combine = "sum",
        scale: Scale = PUBLISHED_SCALE,
        neuron: NeuronFactory = LIF,
    ) -> None:
        super().__init__(modalities, topology=topology, alpha=alpha, learnable_alpha=learnable_alpha)
        if channels % num_heads:
            raise ValueError(f"channels must be divisible by num_heads, but {channels} is not by {num_heads}")
        self.combine: Combine = combine
        self.readers: nn.ModuleDict | SharedReader
        if sharing == "pair":
            self.readers = nn.ModuleDict(
                {
                    pair_name(pair): CrossModalReader(
                        channels,
                        num_heads=num_heads,
                        attention=attention,
                        semantic_projection=semantic_projection,
                        head_merge=head_merge,
                        scale=scale,
                        neuron=neuron,
                    )
                    for pair in self.pairs
                }
            )
        else:
            self.readers = SharedReader(
                self.pairs,
                channels,
                num_heads=num_heads,
                attention=attention,
                semantic_projection=semantic_projection,
                head_merge=head_merge,
                scale=scale,
                average=combine == "mean",
                one_for_all=sharing == "all",
                neuron=neuron,
            )
        self.gates = SourceGates(self.pairs, channels, neuron=neuron) if combine == "gate" else None

    def forward(self, tokens: dict[str, Tensor], presence: Presence = EVERYWHERE) -> Fused:
        """Tokens [T, B, N, C] by modality -> tokens plus alpha times what each read."""
        sources_of = self.sources_in(tokens)
        fused = blank_absent(tokens, presence)
        if isinstance(self.readers, SharedReader):
            return self._read_together(self.readers, fused, sources_of, presence)
        residuals: dict[Pair, Tensor] = {
            (target, source): read_where(
                self.readers[pair_name((target, source))], both(presence, target, source), fused[target], fused[source]
            )
            for target, sources in sources_of.items()
            for source in sources
        }
        weights = self._weights(residuals)
        for target, sources in sources_of.items():
            part = 1 / number_present(sources, presence) if self.combine == "mean" else 1.0
            for source in sources:
                pair = target, source
                fused[target] = fused[target] + weights[pair] * part * residuals[pair]
        return Fused(fused, residuals)

    def _read_together(
        self, reader: SharedReader, tokens: dict[str, Tensor], sources_of: dict[str, list[str]], presence: Presence
    ) -> Fused:
        read = reader(tokens, sources_of, presence)
        residuals = split_by_share(read, sources_of)
        weights = self._weights(residuals)
        fused = dict(tokens)
        for target, (residual, share) in read.items():
            by_source = [weights[target, source] for source in sources_of[target]]
            fused[target] = tokens[target] + weigh(by_source, share) * residual
        return Fused(fused, residuals, split=True)

    def _weights(self, residuals: dict[Pair, Tensor]) -> dict[Pair, Weight]:
        """What each residual is multiplied by: alpha, and the gate's spikes where there are gates."""
        if self.gates is None:
            return {pair: self.alpha_of(pair) for pair in residuals}
        return {pair: self.alpha_of(pair) * gate for pair, gate in self.gates(residuals).items()}
