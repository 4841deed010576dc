"""Attention maps: coinciding spikes of queries, keys and values, counted from recorded layer outputs.

Without a softmax the score of two tokens is the number of spikes that query and key have in common, and the output is
the score times the value's spikes. So target token n reads from source token m

    read[n, m] = sum over time steps, heads and d, e of query[n, d] key[m, d] value[m, e].

The sum over n is how much of m was read; the sum over m is how much n read. Attention over time counts the same between
the time steps of one token position, where n = m. These counts enter the attention's neuron, before it fires and before
any scaling. The model is not changed: queries, keys and values are outputs of its layers.
"""

# PyTorch leaves some of its methods untyped.
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

from scmrl.explain.recording import ModuleOutputs
from snn_core import SpikingAttention
from snn_fusion import CCSSA, SCA, EncoderWithBlocks, FusionModel, Pair, QKFusion
from snn_fusion.methods.residual import pair_name
from snn_fusion.methods.sca import PositionBiasedAttention
from snn_fusion.methods.shared_reader import SharedAttention

TokenCounts = Mapping[str, int]
"""Number of tokens by modality."""
ReadCounts = tuple[Tensor, Tensor]
"""How much each target token read [N], and how much of each source token was read [M]."""


@dataclass(frozen=True, eq=False)
class AttentionProbe(ABC):
    """One attention of a model, with which a target reads a source."""

    target: str
    source: str

    @property
    @abstractmethod
    def modules(self) -> tuple[nn.Module, ...]:
        """Modules whose outputs are recorded."""

    @abstractmethod
    def count(self, outputs: ModuleOutputs, tokens: TokenCounts) -> ReadCounts:
        """Count coincidences of one sample from the outputs of `modules`."""

    def _spikes(self, name: str, output: Tensor | Mapping[tuple[str, int], Tensor], count: int) -> Tensor:
        """Return a modality's spikes [T, N, C] on a grid of `count` tokens, from its own or a shared layer."""
        return (output if isinstance(output, Tensor) else output[name, count])[:, 0].float()


@dataclass(frozen=True, eq=False)
class QueryKeyValueProbe(AttentionProbe):
    """Attention of queries to keys and values, over tokens or over time."""

    attention: SpikingAttention | SharedAttention

    @property
    def modules(self) -> tuple[nn.Module, ...]:
        """Queries, keys and values."""
        return self.attention.query, self.attention.key, self.attention.value

    def count(self, outputs: ModuleOutputs, tokens: TokenCounts) -> ReadCounts:
        """Count coincidences: between all tokens, or over time at each token of the target."""
        over, target, source = self.attention.over, tokens[self.target], tokens[self.source]
        grid = target if over == "time" else source
        query, key, value = (
            self._spikes(name, outputs[module], count)
            for module, name, count in zip(
                self.modules, (self.target, self.source, self.source), (target, grid, grid), strict=True
            )
        )
        by_target, of_source = coincidences(query, key, value, num_heads=self.attention.num_heads, over=over)
        return by_target, unpool(of_source, source)


@dataclass(frozen=True, eq=False)
class ScoreProbe(AttentionProbe):
    """Attention whose scores pass through a neuron: only scores that spike count."""

    attention: PositionBiasedAttention

    @property
    def modules(self) -> tuple[nn.Module, ...]:
        """Scores and values."""
        return self.attention.score, self.attention.value

    def count(self, outputs: ModuleOutputs, tokens: TokenCounts) -> ReadCounts:
        """Multiply spiking scores by the spikes of the values."""
        score, value = (outputs[module][:, 0].float() for module in self.modules)
        heads = rearrange(value, "t m (h d) -> t h m d", h=self.attention.num_heads)
        read = score * heads.sum(-1)[:, :, None]
        return read.sum((0, 1, 3)), unpool(read.sum((0, 1, 2)), tokens[self.source])


@dataclass(frozen=True, eq=False)
class GateProbe(AttentionProbe):
    """Query-key attention: the target's gate at a token passes or blocks the source's spikes of that token."""

    fusion: QKFusion

    @property
    def modules(self) -> tuple[nn.Module, ...]:
        """Gates and keys."""
        return self.fusion.gate, self.fusion.key

    def count(self, outputs: ModuleOutputs, tokens: TokenCounts) -> ReadCounts:
        """Count the key spikes that pass the gate."""
        count = tokens[self.target]
        gate = self._spikes(self.target, outputs[self.fusion.gate], count)
        key = self._spikes(self.source, outputs[self.fusion.key], count)
        heads = rearrange(key, "t n (h d) -> t n h d", h=self.fusion.num_heads)
        read = (gate * heads.sum(-1)).sum((0, 2))
        return read, unpool(read, tokens[self.source])


def coincidences(
    query: Tensor, key: Tensor, value: Tensor, *, num_heads: int, over: Literal["tokens", "time"]
) -> ReadCounts:
    """Count how much each target token reads and how much of each source token is read; see the module docstring.

    Both sums are computed without forming the product of tokens with tokens.

    Shape: query [T, N, C], key and value [T, M, C] -> [N] and [M]; M = N over time
    """
    axes = "t n (h d) -> t h n d" if over == "tokens" else "t n (h d) -> n h t d"
    q, k, v = (rearrange(x, axes, h=num_heads) for x in (query, key, value))
    values = v.sum(-1, keepdim=True)
    by_target = (q * (k * values).sum(-2, keepdim=True)).sum(-1)
    of_source = (k * q.sum(-2, keepdim=True)).sum(-1) * values.squeeze(-1)
    summed = (0, 1) if over == "tokens" else (1, 2)
    return by_target.sum(summed), of_source.sum(summed)


def unpool(read: Tensor, tokens: int) -> Tensor:
    """Distribute counts on a pooled grid [positions] to the original tokens [tokens]; the sum is preserved.

    A pooled position is the mean of its tokens, so each of them gets an equal part.
    """
    if len(read) == tokens:
        return read
    weights = F.adaptive_avg_pool1d(torch.eye(tokens, device=read.device)[None], len(read))[0]
    return weights @ read


def find_probes(model: FusionModel) -> list[AttentionProbe]:
    """Return a probe for every attention: between modalities, and in the Transformer blocks of encoders.

    Unknown fusion methods and those without attention over tokens have none.
    """
    probes: list[AttentionProbe] = []
    for name in model.modalities:
        encoder = model.encoders[name]
        if isinstance(encoder, EncoderWithBlocks):
            blocks = [m for m in encoder.blocks.modules() if isinstance(m, SpikingAttention)]
            probes += [QueryKeyValueProbe(name, name, block) for block in blocks]
    fusion = model.fusion
    if isinstance(fusion, QKFusion):
        probes += [GateProbe(*pair, fusion) for pair in fusion.pairs]
    elif isinstance(fusion, CCSSA | SCA):
        for pair in fusion.pairs:
            readers = fusion.readers[pair_name(pair)] if isinstance(fusion.readers, nn.ModuleDict) else fusion.readers
            for module in readers.modules():
                if isinstance(module, PositionBiasedAttention):
                    probes.append(ScoreProbe(*pair, module))
                elif isinstance(module, SpikingAttention | SharedAttention):
                    probes.append(QueryKeyValueProbe(*pair, module))
    return probes


def attention_maps(probes: list[AttentionProbe], outputs: ModuleOutputs, tokens: TokenCounts) -> dict[Pair, ReadCounts]:
    """Return the mean counts of all probes by (target, source), each relative to its mean over tokens.

    1 means as much as with uniform attention; 0 everywhere means that nothing was read. Probes that counted nothing
    are excluded from the mean. Probes that did not run, because a modality is absent, yield no map.
    """
    counts: dict[Pair, list[ReadCounts]] = {}
    for probe in probes:
        if all(module in outputs for module in probe.modules) and {probe.target, probe.source} <= tokens.keys():
            counts.setdefault((probe.target, probe.source), []).append(probe.count(outputs, tokens))
    return {
        pair: (_mean_relative([c[0] for c in each]), _mean_relative([c[1] for c in each]))
        for pair, each in counts.items()
    }


def _mean_relative(counts: list[Tensor]) -> Tensor:
    nonzero = [count / count.mean() for count in counts if count.sum() > 0]
    return torch.stack(nonzero).mean(0) if nonzero else torch.zeros_like(counts[0])
