"""Cross-modal complementary spatiotemporal spiking attention as residual learning (S-CMRL, arXiv:2502.12488)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from torch import Tensor, nn

from snn_core import LIF, NeuronFactory, SpikingLinear
from snn_fusion.methods.attention import (
    PUBLISHED_SCALE,
    AttentionKind,
    CountScale,
    CrossAttention,
    HeadMerge,
    join_attentions,
)
from snn_fusion.methods.base import FusedTokens, Pair
from snn_fusion.methods.residual import (
    ResidualFusion,
    ResidualWeight,
    SourceGates,
    mean_weight,
    pair_name,
    split_by_share,
)
from snn_fusion.methods.shared_reader import SharedReader
from snn_fusion.methods.tokens import count_present, read_on_rows, zero_absent
from snn_fusion.presence import ALL_PRESENT, Presence, both_present
from snn_fusion.topology import Topology

WeightSharing = Literal["pair", "source", "all"]
SourceCombination = Literal["sum", "mean", "gate"]


class CrossModalReader(nn.Module):
    """Residual of one target modality from one source modality.

    `spatial` a: attention over tokens. `temporal` b: attention over time; a source with another number of tokens is
    first pooled to the target's. `spatiotemporal` joins their spikes as
    `r[t, b, n, c] = mean over n of a * mean over t of b`, which is not binary. With a semantic projection the residual
    then passes one linear spiking layer.

    Shape: target [T, B, N, C], source [T, B, M, C] -> residual [T, B, N, C]
    """

    def __init__(
        self,
        channels: int,
        *,
        num_heads: int,
        attention: AttentionKind,
        semantic_projection: bool,
        head_merge: HeadMerge,
        neuron: NeuronFactory,
        scale: CountScale = PUBLISHED_SCALE,
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
        """Map target [T, B, N, C] and source [T, B, M, C] to the residual [T, B, N, C]."""
        spikes: list[Tensor] = [
            attend(target, source) for attend in (self.spatial, self.temporal) if attend is not None
        ]
        residual = join_attentions(spikes)
        return residual if self.projection is None else self.projection(residual)


class CCSSA(ResidualFusion):
    """Each modality reads others and adds the residuals: `x' = x + sum over sources of alpha * residual`.

    For two modalities and the defaults this is the published method; with one modality tokens pass unchanged. If a
    sample lacks one of a pair's two modalities, its residual is 0.

    `sharing` decides how weights and time grow with the number of modalities N. A set of weights is that of one reader,
    C^2 for each of up to nine projections:

    | sharing | sets of weights | time | |
    |---|---|---|---|
    | `pair` | one per pair, N (N - 1) for topology `all` | as many | as published: one residual per pair |
    | `source` | one per modality | N | queries and outputs by target, keys and values by source |
    | `all` | one | N | the same weights for every modality |

    With `source` and `all` a target has one residual for all its sources: without a softmax, attention to several
    sources is the sum of the attentions, so counts are added before the attention neuron, and neuron, output layer and
    semantic projection run once per target. The residual is reported per pair as the source's share in it, see
    `snn_fusion.methods.residual.source_shares`; the shares sum to it. For two modalities `source` equals `pair`, weight
    for weight.

    `combine` decides how several sources are combined. `sum` adds them, as published; `mean` divides by the number of
    sources that a sample has (the counts if sources are read together, otherwise the residuals); `gate` has a learned
    spiking gate that shuts a source out in single time steps, see `SourceGates`.

    Args:
        modalities: their names.
        channels: token width C, divisible by num_heads.
        num_heads: attention heads h.
        attention: `spatial`, `temporal` or `spatiotemporal`.
        alpha: scale of the residual.
        learnable_alpha: learn one scale per pair, starting at `alpha`; `alphas` returns them.
        semantic_projection: one linear spiking layer on each residual, into the space where they are aligned.
        head_merge: see `snn_core.SpikingAttention`.
        topology: which modality reads which: `all`, `ring`, `star:<hub>`, or pairs (target, source).
        sharing: which pairs share weights: `pair` (none), `source` or `all`.
        combine: `sum`, `mean` or `gate`.
        scale: factor on the attention's counts, 0.25 as published, or `auto`: see `snn_fusion.methods.attention`.
        neuron: factory of each neuron layer.

    Raises:
        ValueError: channels not divisible by num_heads, or a topology that does not fit the modalities.
    """

    def __init__(
        self,
        modalities: Sequence[str],
        channels: int,
        *,
        num_heads: int = 16,
        attention: AttentionKind = "spatiotemporal",
        alpha: float = 1.5,
        learnable_alpha: bool = False,
        semantic_projection: bool = True,
        head_merge: HeadMerge = "ordered",
        topology: Topology = "all",
        sharing: WeightSharing = "pair",
        combine: SourceCombination = "sum",
        scale: CountScale = PUBLISHED_SCALE,
        neuron: NeuronFactory = LIF,
    ) -> None:
        super().__init__(modalities, topology=topology, alpha=alpha, learnable_alpha=learnable_alpha)
        if channels % num_heads:
            raise ValueError(f"channels must be divisible by num_heads, but {channels} is not by {num_heads}")
        self.combine: SourceCombination = combine
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

    def forward(self, tokens: dict[str, Tensor], presence: Presence = ALL_PRESENT) -> FusedTokens:
        """Map tokens [T, B, N, C] by modality to tokens plus alpha times their residuals."""
        sources_of = self.sources_in(tokens)
        fused = zero_absent(tokens, presence)
        if isinstance(self.readers, SharedReader):
            return self._read_together(self.readers, fused, sources_of, presence)
        residuals: dict[Pair, Tensor] = {
            (target, source): read_on_rows(
                self.readers[pair_name((target, source))],
                both_present(presence, target, source),
                fused[target],
                fused[source],
            )
            for target, sources in sources_of.items()
            for source in sources
        }
        weights = self._weights(residuals)
        for target, sources in sources_of.items():
            part = 1 / count_present(sources, presence) if self.combine == "mean" else 1.0
            for source in sources:
                pair = target, source
                fused[target] = fused[target] + weights[pair] * part * residuals[pair]
        return FusedTokens(fused, residuals)

    def _read_together(
        self, reader: SharedReader, tokens: dict[str, Tensor], sources_of: dict[str, list[str]], presence: Presence
    ) -> FusedTokens:
        shared = reader(tokens, sources_of, presence)
        residuals = split_by_share(shared, sources_of)
        weights = self._weights(residuals)
        fused = dict(tokens)
        for target, (residual, share) in shared.items():
            by_source = [weights[target, source] for source in sources_of[target]]
            fused[target] = tokens[target] + mean_weight(by_source, share) * residual
        return FusedTokens(fused, residuals, split=True)

    def _weights(self, residuals: dict[Pair, Tensor]) -> dict[Pair, ResidualWeight]:
        """Return the factor of each residual: alpha, times the gate's spikes if there are gates."""
        if self.gates is None:
            return {pair: self.alpha_of(pair) for pair in residuals}
        return {pair: self.alpha_of(pair) * gate for pair, gate in self.gates(residuals).items()}
