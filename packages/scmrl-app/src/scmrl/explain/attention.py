"""Which tokens read which: coinciding spikes, counted from what a model's layers give while it runs.

Without a softmax the score of two tokens is a count, the spikes that query and key have in common, and what passes is
the score times the value's spikes. So what target token n reads of source token m is

    read[n, m] = sum over time steps, heads and d, e of query[n, d] key[m, d] value[m, e],

and its sum over n says how much of m was read, its sum over m how much n read. Attention over time counts the same
between the steps of one place, so there n = m. These are the counts that enter the attention's neuron, before it
decides and before anything is scaled.

Nothing in a model changes for that: queries, keys and values are outputs of its layers.
"""

# PyTorch leaves the types of some of its own methods open.
# pyright: reportUnknownMemberType=false
from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor, nn

from scmrl.explain.watching import Seen
from snn_core import SpikingAttention
from snn_fusion import CCSSA, SCA, EncoderWithBlocks, FusionModel, Pair, QKFusion
from snn_fusion.methods.residual import pair_name
from snn_fusion.methods.sca import PositionBiasedAttention
from snn_fusion.methods.shared_reader import SharedAttention

Places = Mapping[str, int]
"""How many tokens each modality has."""
Reading = tuple[Tensor, Tensor]
"""How much each token of the target read [N], and how much of each token of the source was read [M]."""


@dataclass(frozen=True, eq=False)
class Reader(ABC):
    """One place in a model where a target reads a source."""

    target: str
    source: str

    @property
    @abstractmethod
    def modules(self) -> tuple[nn.Module, ...]:
        """What to watch."""

    @abstractmethod
    def read(self, seen: Seen, places: Places) -> Reading:
        """The coincidences of one sample, from what all `modules` gave."""

    def _of(self, name: str, output: Tensor | Mapping[tuple[str, int], Tensor], count: int) -> Tensor:
        """A modality's spikes [T, N, C] on a grid of so many places, from a layer of its own or one that many share."""
        return (output if isinstance(output, Tensor) else output[name, count])[:, 0].float()


@dataclass(frozen=True, eq=False)
class Attending(Reader):
    """Attention of queries to keys and values, over tokens or over time."""

    attention: SpikingAttention | SharedAttention

    @property
    def modules(self) -> tuple[nn.Module, ...]:
        """Queries, keys and values."""
        return self.attention.query, self.attention.key, self.attention.value

    def read(self, seen: Seen, places: Places) -> Reading:
        """The coincidences, over tokens between all, over time at each place of the target."""
        over, target, source = self.attention.over, places[self.target], places[self.source]
        grid = target if over == "time" else source
        query, key, value = (
            self._of(name, seen[module], count)
            for module, name, count in zip(
                self.modules, (self.target, self.source, self.source), (target, grid, grid), strict=True
            )
        )
        by_target, of_source = coincidences(query, key, value, num_heads=self.attention.num_heads, over=over)
        return by_target, unpooled(of_source, source)


@dataclass(frozen=True, eq=False)
class Scoring(Reader):
    """Attention whose scores pass a neuron of their own: what counts is the scores that fired."""

    attention: PositionBiasedAttention

    @property
    def modules(self) -> tuple[nn.Module, ...]:
        """Scores and values."""
        return self.attention.score, self.attention.value

    def read(self, seen: Seen, places: Places) -> Reading:
        """Scores that fired, times the value's spikes."""
        score, value = (seen[module][:, 0].float() for module in self.modules)
        heads = rearrange(value, "t m (h d) -> t h m d", h=self.attention.num_heads)
        read = score * heads.sum(-1)[:, :, None]
        return read.sum((0, 1, 3)), unpooled(read.sum((0, 1, 2)), places[self.source])


@dataclass(frozen=True, eq=False)
class Gating(Reader):
    """Query-key attention: the target's gate at a place lets the source's spikes of that place through."""

    fusion: QKFusion

    @property
    def modules(self) -> tuple[nn.Module, ...]:
        """Gates and keys."""
        return self.fusion.gate, self.fusion.key

    def read(self, seen: Seen, places: Places) -> Reading:
        """The key spikes that pass."""
        count = places[self.target]
        gate = self._of(self.target, seen[self.fusion.gate], count)
        key = self._of(self.source, seen[self.fusion.key], count)
        heads = rearrange(key, "t n (h d) -> t n h d", h=self.fusion.num_heads)
        read = (gate * heads.sum(-1)).sum((0, 2))
        return read, unpooled(read, places[self.source])


def coincidences(
    query: Tensor, key: Tensor, value: Tensor, *, num_heads: int, over: Literal["tokens", "time"]
) -> Reading:
    """How much each target token reads, and how much of each source token is read, as the module says.

    Both sums are taken before the product of tokens with tokens, which is never formed.

    Shape: query [T, N, C], key and value [T, M, C] -> [N] and [M]; over time M is N
    """
    axes = "t n (h d) -> t h n d" if over == "tokens" else "t n (h d) -> n h t d"
    q, k, v = (rearrange(x, axes, h=num_heads) for x in (query, key, value))
    values = v.sum(-1, keepdim=True)
    by_target = (q * (k * values).sum(-2, keepdim=True)).sum(-1)
    of_source = (k * q.sum(-2, keepdim=True)).sum(-1) * values.squeeze(-1)
    summed = (0, 1) if over == "tokens" else (1, 2)
    return by_target.sum(summed), of_source.sum(summed)


def unpooled(read: Tensor, tokens: int) -> Tensor:
    """What was read on a grid to which tokens were pooled [places] -> of each token [tokens].

    A place is the mean of its tokens, so each takes its equal part of what was read there; the sum stays.
    """
    if len(read) == tokens:
        return read
    weights = F.adaptive_avg_pool1d(torch.eye(tokens, device=read.device)[None], len(read))[0]
    return weights @ read


def readers_of(model: FusionModel) -> list[Reader]:
    """Every place where tokens read tokens: between modalities, and in Transformer blocks within one.

    Fusion methods that are not known here, or have no attention over places, have none.
    """
    found: list[Reader] = []
    for name in model.modalities:
        encoder = model.encoders[name]
        if isinstance(encoder, EncoderWithBlocks):
            found += [Attending(name, name, m) for m in encoder.blocks.modules() if isinstance(m, SpikingAttention)]
    fusion = model.fusion
    if isinstance(fusion, QKFusion):
        found += [Gating(*pair, fusion) for pair in fusion.pairs]
    elif isinstance(fusion, CCSSA | SCA):
        for pair in fusion.pairs:
            own = fusion.readers[pair_name(pair)] if isinstance(fusion.readers, nn.ModuleDict) else fusion.readers
            for module in own.modules():
                if isinstance(module, PositionBiasedAttention):
                    found.append(Scoring(*pair, module))
                elif isinstance(module, SpikingAttention | SharedAttention):
                    found.append(Attending(*pair, module))
    return found


def maps(readers: list[Reader], seen: Seen, places: Places) -> dict[Pair, Reading]:
    """By (target, source) the readings of all its attentions, each in units of the even share, on average.

    1 means as much as if all tokens were read (or read) alike; 0 everywhere that nothing was read. Attentions that
    counted nothing are left out of the average. Readers that did not run, because a modality is absent, have no map.
    """
    found: dict[Pair, list[Reading]] = {}
    for reader in readers:
        if all(module in seen for module in reader.modules) and {reader.target, reader.source} <= places.keys():
            found.setdefault((reader.target, reader.source), []).append(reader.read(seen, places))
    return {
        pair: (_even([r[0] for r in readings]), _even([r[1] for r in readings])) for pair, readings in found.items()
    }


def _even(counts: list[Tensor]) -> Tensor:
    alive = [count / count.mean() for count in counts if count.sum() > 0]
    return torch.stack(alive).mean(0) if alive else torch.zeros_like(counts[0])
