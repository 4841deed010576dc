"""Readers whose weights are shared between pairs: each source and each target is computed once."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial

import torch
from torch import Tensor, nn

from snn_core import NeuronFactory, ScaledSpike, SpikingLinear
from snn_fusion.methods.attention import (
    AttentionAxis,
    AttentionKind,
    AttentionSource,
    CountScale,
    HeadMerge,
    auto_scale,
    coincidence_counts,
    coincidence_counts_by_source,
    join_attentions,
)
from snn_fusion.methods.base import Pair
from snn_fusion.methods.residual import source_shares
from snn_fusion.methods.tokens import ModalityLayers, TokenKey, active_samples, count_present, pool_tokens
from snn_fusion.presence import Presence


class SharedAttention(nn.Module):
    """`SpikingAttention` from every target to all its sources at once.

    Queries, neuron and output layer belong to the target, keys and values to the source; see `SharedReader` for
    `one_for_all` and `average`.

    Shape: tokens [T, B, N, C] by modality -> by target spikes [T, B, N, C] and coincidences by source [T, B, N, S]
    """

    def __init__(
        self,
        targets: Sequence[str],
        sources: Sequence[str],
        channels: int,
        *,
        num_heads: int,
        over: AttentionAxis,
        head_merge: HeadMerge,
        scale: CountScale,
        average: bool,
        one_for_all: bool,
        neuron: NeuronFactory,
    ) -> None:
        super().__init__()
        self.num_heads = num_heads
        self.over: AttentionAxis = over
        self.head_merge: HeadMerge = head_merge
        self.auto = scale == "auto"
        self.average = average
        linear = partial(SpikingLinear, channels, channels, neuron=neuron)
        count = partial(ScaledSpike, 1.0 if scale == "auto" else scale, neuron=neuron)
        self.query = ModalityLayers({name: linear() for name in targets}, shared=one_for_all)
        self.key = ModalityLayers({name: linear() for name in sources}, shared=one_for_all)
        self.value = ModalityLayers({name: linear() for name in sources}, shared=one_for_all)
        self.spike = ModalityLayers({name: count() for name in targets}, shared=one_for_all)
        self.output = ModalityLayers({name: linear() for name in targets}, shared=one_for_all)

    def forward(
        self,
        tokens: Mapping[str, Tensor],
        sources_of: Mapping[str, Sequence[str]],
        presence: Presence,
        target_rows: Presence,
        source_rows: Presence,
    ) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
        """Return spikes by target, and coincidences by source for each target with several sources.

        `target_rows` are the samples in which a target has a source to read, `source_rows` those in which a source has
        a target.
        """
        grids = {target: (target, tokens[target].shape[2]) for target in sources_of}
        queries = self.query({grid: tokens[target] for target, grid in grids.items()}, target_rows)
        source_grids = {
            target: [self._source_grid(source, tokens, grids[target][1]) for source in sources]
            for target, sources in sources_of.items()
        }
        inputs = {grid: pool_tokens(tokens[grid[0]], grid[1]) for of in source_grids.values() for grid in of}
        keys, values = self.key(inputs, source_rows), self.value(inputs, source_rows)
        prepared = {
            grid: AttentionSource(keys[grid], values[grid], num_heads=self.num_heads, over=self.over) for grid in inputs
        }
        counts: dict[TokenKey, Tensor] = {}
        by_source: dict[str, Tensor] = {}
        for target, sources in sources_of.items():
            query, selected = queries[grids[target]], [prepared[grid] for grid in source_grids[target]]
            total = coincidence_counts(query, selected, num_heads=self.num_heads, head_merge=self.head_merge)
            counts[grids[target]] = self._scale_counts(total, selected, sources, presence)
            if len(sources) > 1:
                by_source[target] = coincidence_counts_by_source(query, selected)
        spikes = self.output(self.spike(counts, {}), target_rows)
        return {target: spikes[grid] for target, grid in grids.items()}, by_source

    def _source_grid(self, source: str, tokens: Mapping[str, Tensor], target_tokens: int) -> TokenKey:
        """Over time, tokens are paired by index, so the source is pooled to the target's token count."""
        return source, target_tokens if self.over == "time" else tokens[source].shape[2]

    def _scale_counts(
        self, counts: Tensor, selected: Sequence[AttentionSource], sources: Sequence[str], presence: Presence
    ) -> Tensor:
        if self.average and len(sources) > 1:
            counts = counts / count_present(sources, presence)
        if self.auto:
            length = sum(source.length for source in selected)
            length = length // len(selected) if self.average else length
            counts = counts * auto_scale(length, counts.shape[-1] // self.num_heads)
        return counts


class SharedReader(nn.Module):
    """`CrossModalReader` with weights shared between pairs: every target reads all its sources at once.

    Args:
        pairs: (target, source) pairs.
        channels: token width C, divisible by num_heads.
        num_heads: attention heads.
        attention: `spatial`, `temporal` or `spatiotemporal`.
        semantic_projection: one linear spiking layer on each target's residual.
        head_merge: see `snn_core.SpikingAttention`.
        scale: factor on the counts, or `auto`.
        average: divide the counts by the number of sources that a sample has.
        one_for_all: use one set of weights for all modalities instead of one each.
        neuron: factory of each neuron layer.
    """

    def __init__(
        self,
        pairs: Sequence[Pair],
        channels: int,
        *,
        num_heads: int,
        attention: AttentionKind,
        semantic_projection: bool,
        head_merge: HeadMerge,
        scale: CountScale,
        average: bool,
        one_for_all: bool,
        neuron: NeuronFactory,
    ) -> None:
        super().__init__()
        targets = list(dict.fromkeys(target for target, _ in pairs))
        sources = list(dict.fromkeys(source for _, source in pairs))
        attend = partial(
            SharedAttention,
            targets,
            sources,
            channels,
            num_heads=num_heads,
            scale=scale,
            average=average,
            one_for_all=one_for_all,
            neuron=neuron,
        )
        self.spatial: nn.Module | None = None
        self.temporal: nn.Module | None = None
        self.projection: nn.Module | None = None
        if attention != "temporal":
            self.spatial = attend(over="tokens", head_merge="ordered")
        if attention != "spatial":
            self.temporal = attend(over="time", head_merge=head_merge)
        if semantic_projection:
            project = partial(SpikingLinear, channels, channels, bias=True, norm=False, neuron=neuron)
            self.projection = ModalityLayers({name: project() for name in targets}, shared=one_for_all)

    def forward(
        self, tokens: Mapping[str, Tensor], sources_of: Mapping[str, Sequence[str]], presence: Presence
    ) -> dict[str, tuple[Tensor, Tensor | None]]:
        """Map tokens [T, B, N, C] by modality to each target's residual [T, B, N, C] and source shares [T, B, N, S].

        The shares are the mean of those of the two attentions; None for a single source. Rows of samples that lack the
        target or all its sources are 0.
        """
        if not sources_of:
            return {}
        target_rows, source_rows = active_samples(sources_of, presence)
        attentions = [attend for attend in (self.spatial, self.temporal) if attend is not None]
        outputs = [attend(tokens, sources_of, presence, target_rows, source_rows) for attend in attentions]
        residuals = {target: join_attentions([spikes[target] for spikes, _ in outputs]) for target in sources_of}
        if self.projection is not None:
            inputs = {(target, residual.shape[2]): residual for target, residual in residuals.items()}
            projected = self.projection(inputs, target_rows)
            residuals = {target: projected[target, residual.shape[2]] for target, residual in residuals.items()}
        result: dict[str, tuple[Tensor, Tensor | None]] = {}
        for target, sources in sources_of.items():
            each = [source_shares(counts[target], sources, presence) for _, counts in outputs if target in counts]
            residual = residuals[target]
            result[target] = residual, torch.stack(each).mean(0).to(residual.dtype) if each else None
        return result
