"""Reading with weights shared between pairs: what belongs to a source or a target is computed once."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial

import torch
from torch import Tensor, nn

from snn_core import NeuronFactory, ScaledSpike, SpikingLinear
from snn_fusion.methods import Pair
from snn_fusion.methods.attention import (
    Attention,
    HeadMerge,
    Over,
    Readable,
    Scale,
    auto_scale,
    coincidences,
    coincidences_by_source,
    join_attentions,
)
from snn_fusion.methods.residual import shares
from snn_fusion.methods.tokens import ByModality, Placed, number_present, pool_tokens, reading_and_read
from snn_fusion.presence import Presence


class SharedAttention(nn.Module):
    """`SpikingAttention` from every target to all its sources at once.

    Queries, neuron and output layer belong to the target, keys and values to the source; see `CCSSA` for `one_for_all`
    and `average`.

    Shape: tokens [T, B, N, C] by modality -> by target spikes [T, B, N, C] and coincidences by source [T, B, N, S]
    """

    def __init__(
        self,
        targets: Sequence[str],
        sources: Sequence[str],
        channels: int,
        *,
        num_heads: int,
        over: Over,
        head_merge: HeadMerge,
        scale: Scale,
        average: bool,
        one_for_all: bool,
        neuron: NeuronFactory,
    ) -> None:
        super().__init__()
        self.num_heads = num_heads
        self.over: Over = over
        self.head_merge: HeadMerge = head_merge
        self.auto = scale == "auto"
        self.average = average
        linear = partial(SpikingLinear, channels, channels, neuron=neuron)
        count = partial(ScaledSpike, 1.0 if scale == "auto" else scale, neuron=neuron)
        self.query = ByModality({name: linear() for name in targets}, shared=one_for_all)
        self.key = ByModality({name: linear() for name in sources}, shared=one_for_all)
        self.value = ByModality({name: linear() for name in sources}, shared=one_for_all)
        self.spike = ByModality({name: count() for name in targets}, shared=one_for_all)
        self.output = ByModality({name: linear() for name in targets}, shared=one_for_all)

    def forward(
        self,
        tokens: Mapping[str, Tensor],
        sources_of: Mapping[str, Sequence[str]],
        presence: Presence,
        reading: Presence,
        read_by_any: Presence,
    ) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
        """Spikes by target, and by target with several sources how many coincidences each gave.

        `reading` names the samples in which a target has something to read, `read_by_any` those in which a source has
        someone to read it.
        """
        places = {target: (target, tokens[target].shape[2]) for target in sources_of}
        queries = self.query({place: tokens[target] for target, place in places.items()}, reading)
        read = {
            target: [self._place(source, tokens, places[target][1]) for source in sources]
            for target, sources in sources_of.items()
        }
        grids = {place: pool_tokens(tokens[place[0]], place[1]) for placed in read.values() for place in placed}
        keys, values = self.key(grids, read_by_any), self.value(grids, read_by_any)
        readable = {p: Readable(keys[p], values[p], num_heads=self.num_heads, over=self.over) for p in grids}
        counts: dict[Placed, Tensor] = {}
        by_source: dict[str, Tensor] = {}
        for target, sources in sources_of.items():
            query, chosen = queries[places[target]], [readable[place] for place in read[target]]
            found = coincidences(query, chosen, num_heads=self.num_heads, head_merge=self.head_merge)
            counts[places[target]] = self._scaled(found, chosen, sources, presence)
            if len(sources) > 1:
                by_source[target] = coincidences_by_source(query, chosen)
        spikes = self.output(self.spike(counts, {}), reading)
        return {target: spikes[place] for target, place in places.items()}, by_source

    def _place(self, source: str, tokens: Mapping[str, Tensor], places_of_target: int) -> Placed:
        """Over time tokens are paired by place, so the source is read on the target's grid; else on its own."""
        return source, places_of_target if self.over == "time" else tokens[source].shape[2]

    def _scaled(self, counts: Tensor, chosen: Sequence[Readable], sources: Sequence[str], presence: Presence) -> Tensor:
        if self.average and len(sources) > 1:
            counts = counts / number_present(sources, presence)
        if self.auto:
            read = sum(source.length for source in chosen)
            read = read // len(chosen) if self.average else read
            counts = counts * auto_scale(read, counts.shape[-1] // self.num_heads)
        return counts


class SharedReader(nn.Module):
    """What every target reads from all its sources: `CrossModalReader` with weights shared between pairs.

    Args:
        pairs: who reads whom.
        channels: token width C, divisible by num_heads.
        num_heads: attention heads.
        attention: `spatial`, `temporal` or `spatiotemporal`.
        semantic_projection: one linear spiking layer on each target's residual.
        head_merge: see `snn_core.SpikingAttention`.
        scale: factor on the counts, or `auto`.
        average: divide the counts by the number of sources that a sample has.
        one_for_all: one set of weights for all modalities instead of one each.
        neuron: makes each neuron layer.
    """

    def __init__(
        self,
        pairs: Sequence[Pair],
        channels: int,
        *,
        num_heads: int,
        attention: Attention,
        semantic_projection: bool,
        head_merge: HeadMerge,
        scale: Scale,
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
            self.projection = ByModality({name: project() for name in targets}, shared=one_for_all)

    def forward(
        self, tokens: Mapping[str, Tensor], sources_of: Mapping[str, Sequence[str]], presence: Presence
    ) -> dict[str, tuple[Tensor, Tensor | None]]:
        """Tokens [T, B, N, C] by modality -> by target its residual [T, B, N, C] and the sources' shares [T, B, N, S].

        The shares are the mean of those in the two attentions; None for a single source. Rows of samples that lack the
        target or all its sources are 0.
        """
        if not sources_of:
            return {}
        reading, read_by_any = reading_and_read(sources_of, presence)
        attentions = [attend for attend in (self.spatial, self.temporal) if attend is not None]
        read = [attend(tokens, sources_of, presence, reading, read_by_any) for attend in attentions]
        residuals = {target: join_attentions([spikes[target] for spikes, _ in read]) for target in sources_of}
        if self.projection is not None:
            placed = {(target, residual.shape[2]): residual for target, residual in residuals.items()}
            projected = self.projection(placed, reading)
            residuals = {target: projected[target, residual.shape[2]] for target, residual in residuals.items()}
        found: dict[str, tuple[Tensor, Tensor | None]] = {}
        for target, sources in sources_of.items():
            each = [shares(counts[target], sources, presence) for _, counts in read if target in counts]
            residual = residuals[target]
            found[target] = residual, torch.stack(each).mean(0).to(residual.dtype) if each else None
        return found
