"""Spiking attention between modalities: several sources at once, different token counts, automatic scale."""

from __future__ import annotations

from collections.abc import Sequence
from functools import reduce
from typing import Literal

import torch
from einops import rearrange
from torch import Tensor

from snn_core import LIF, NeuronFactory, SpikingAttention, spiking_attention
from snn_fusion.methods.tokens import pool_tokens

AttentionAxis = Literal["tokens", "time"]
HeadMerge = Literal["ordered", "published"]
AttentionKind = Literal["spatial", "temporal", "spatiotemporal"]
"""Attention over tokens, over time, or both joined."""
CountScale = float | Literal["auto"]
"""Factor on the counts of coinciding spikes before the attention neuron, or `auto`, see `auto_scale`."""

PUBLISHED_SCALE = 0.25

_HEADS = {"tokens": "t b n (h d) -> t b h n d", "time": "t b n (h d) -> b n h t d"}


def auto_scale(length: int, head_width: int) -> float:
    """Return a factor on coincidence counts that makes the drive independent of the source's length.

    A count sums over `length` source tokens (or time steps) of `head_width` channels each; if all spikes are
    independent with rate p, its mean is `length * head_width * p^3`. The scale `256 / (length * head_width)` makes the
    mean drive 1 at p = 16 %, and equals the published 0.25 for 64 tokens and heads of width 16. It is at most 2: then a
    single coincidence makes `LIF()` fire, and more would only leave the surrogate's range.
    """
    return min(2.0, 256 / (length * head_width))


class AttentionSource:
    """Keys and values [T, B, M, C] of one source, prepared once for all targets that read it.

    Where the source is at least as long as a head is wide, it is stored as the state `key^T value`, and several sources
    are summed; otherwise keys and values are stored, and several sources are concatenated.
    """

    def __init__(self, key: Tensor, value: Tensor, *, num_heads: int, over: AttentionAxis) -> None:
        # Counts are exact only in float32, see `spiking_attention`.
        dtype = torch.promote_types(key.dtype, torch.float32)
        self.over: AttentionAxis = over
        self.key, self.value = (rearrange(x.to(dtype), _HEADS[over], h=num_heads) for x in (key, value))
        self.length, width = self.key.shape[-2:]
        self.state: Tensor | None = None
        if width <= self.length:
            with torch.autocast(key.device.type, enabled=False):
                self.state = self.key.mT @ self.value

    def reach(self) -> Tensor:
        """Return the counts that a spike of each query channel adds: [T, B, C] over tokens, [B, N, C] over time."""
        state = self.state
        total = (self.key * self.value.sum(-1, keepdim=True)).sum(-2) if state is None else state.sum(-1)
        return rearrange(total, "t b h d -> t b (h d)" if self.over == "tokens" else "b n h d -> b n (h d)")


def coincidence_counts(
    query: Tensor, sources: Sequence[AttentionSource], *, num_heads: int, head_merge: HeadMerge
) -> Tensor:
    """Sum `query key^T value` of each head over sources: query [T, B, N, C] -> counts [T, B, N, C].

    Without a softmax this equals attention to the concatenated sources. Over tokens the sources may differ in length;
    over time they have the query's tokens. See `snn_core.SpikingAttention` for `head_merge`.
    """
    over = sources[0].over
    q = rearrange(query, _HEADS[over], h=num_heads)
    states = [source.state for source in sources if source.state is not None]
    if len(states) == len(sources):
        with torch.autocast(query.device.type, enabled=False):
            counts = (q.to(states[0].dtype) @ reduce(torch.add, states)).to(query.dtype)
    else:
        counts = spiking_attention(
            q, *(torch.cat(x, -2) for x in zip(*((s.key, s.value) for s in sources), strict=True))
        )
    if over == "tokens":
        return rearrange(counts, "t b h n d -> t b n (h d)")
    if head_merge == "ordered":
        return rearrange(counts, "b n h t d -> t b n (h d)")
    flat = rearrange(counts, "b n h t d -> b n (h t d)")
    return rearrange(flat, "b n (t c) -> t b n c", t=query.shape[0])


@torch.no_grad()
def coincidence_counts_by_source(query: Tensor, sources: Sequence[AttentionSource]) -> Tensor:
    """Count a token's coincidences by source: query [T, B, N, C] -> [T, B, N, S], without gradient.

    These are the terms that `coincidence_counts` sums over sources and channels, at the cost of one vector product per
    source. With published head merging they are reported at the token and step where they were counted.
    """
    reach = torch.stack([source.reach() for source in sources], -1)
    with torch.autocast(query.device.type, enabled=False):
        if sources[0].over == "tokens":
            return query.to(reach.dtype) @ reach
        return rearrange(rearrange(query.to(reach.dtype), "t b n c -> b n t c") @ reach, "b n t s -> t b n s")


def join_attentions(spikes: Sequence[Tensor]) -> Tensor:
    """Join spatial a and temporal b [T, B, N, C] as mean_n(a) * mean_t(b); return a single attention unchanged."""
    if len(spikes) == 1:
        return spikes[0]
    over_tokens, over_time = spikes
    return over_tokens.mean(2, keepdim=True) * over_time.mean(0, keepdim=True)


class CrossAttention(SpikingAttention):
    """`SpikingAttention` between two modalities whose token counts may differ, optionally with an automatic scale.

    Over time, where tokens are paired by index, the source is first pooled to the target's token count (`pool_tokens`).

    Shape: target [T, B, N, C], source [T, B, M, C] -> spikes [T, B, N, C]

    Args:
        channels: token width C.
        num_heads: attention heads; C must be divisible by it.
        over: `tokens` or `time`.
        scale: a number, or `auto`.
        head_merge: see `snn_core.SpikingAttention`.
        neuron: factory of each neuron layer.
    """

    def __init__(
        self,
        channels: int,
        *,
        num_heads: int,
        over: AttentionAxis,
        scale: CountScale = PUBLISHED_SCALE,
        head_merge: HeadMerge = "ordered",
        neuron: NeuronFactory = LIF,
    ) -> None:
        fixed = 1.0 if scale == "auto" else scale
        super().__init__(channels, num_heads=num_heads, over=over, scale=fixed, head_merge=head_merge, neuron=neuron)
        self.auto = scale == "auto"

    def forward(self, target: Tensor, source: Tensor | None = None) -> Tensor:
        """Map target [T, B, N, C] and source [T, B, M, C] to spikes [T, B, N, C]."""
        source = target if source is None else source
        if self.over == "time":
            source = pool_tokens(source, target.shape[2])
        if not self.auto:
            return super().forward(target, source)
        sources = [AttentionSource(self.key(source), self.value(source), num_heads=self.num_heads, over=self.over)]
        counts = coincidence_counts(self.query(target), sources, num_heads=self.num_heads, head_merge=self.head_merge)
        return self.output(self.spike(counts * auto_scale(sources[0].length, target.shape[-1] // self.num_heads)))
