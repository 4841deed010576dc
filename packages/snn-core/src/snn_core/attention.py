"""Spiking attention without softmax: scores are counts of coinciding spikes (Zhou et al. 2023, arXiv:2209.15425).

Tokens attend over places (one time step at a time) or over time (one place at a time), to themselves or to another
modality's tokens.
"""

from __future__ import annotations

from typing import Literal

from einops import rearrange
from torch import Tensor, nn

from snn_core.layers import NeuronFactory, ScaledSpike, SpikingLinear
from snn_core.neurons import LIF


def spiking_attention(query: Tensor, key: Tensor, value: Tensor) -> Tensor:
    """`query key^T value`, multiplied in the cheaper order.

    Without a softmax the product is associative, and for spikes every intermediate is a small integer, so both orders
    agree bit for bit in float32 (as long as counts stay below 2^24).

    Shape: query [..., N, d], key [..., M, d], value [..., M, e] -> [..., N, e]
    """
    n, d = query.shape[-2:]
    m, e = value.shape[-2:]
    scores_first = n * m * (d + e)
    state_first = d * e * (n + m)
    if state_first < scores_first:
        return query @ (key.mT @ value)
    return (query @ key.mT) @ value


class SpikingAttention(nn.Module):
    """Target tokens read source tokens; with no source they read themselves.

    query from the target, key and value from the source, each linear -> batch norm -> neuron; heads of width
    C / num_heads; `neuron(scale * query key^T value)`; then one more linear -> batch norm -> neuron. Equations: the
    spatial and temporal halves of CCSSA in S-CMRL (He et al. 2025, arXiv:2502.12488).

    Shape: target [T, B, N, C], source [T, B, M, C] -> spikes [T, B, N, C]; over time M must be N.

    Args:
        channels: token width C.
        num_heads: heads h; C must be divisible by it.
        over: `tokens` attends over places within a time step, `time` over time steps within a place.
        scale: factor on the counts before they reach the neuron; 0.25 as published, whatever the head width.
        head_merge: how heads become channels again when attending over time. `ordered` puts the h heads of width d
            side by side; `published` reads `[h, T, d]` as `[T, h d]`, which mixes heads and time steps as the
            authors' code does. Over tokens the two are the same.
        neuron: makes each of the five neuron layers.

    Raises:
        ValueError: channels not divisible by num_heads.
    """

    def __init__(
        self,
        channels: int,
        *,
        num_heads: int,
        over: Literal["tokens", "time"] = "tokens",
        scale: float = 0.25,
        head_merge: Literal["ordered", "published"] = "ordered",
        neuron: NeuronFactory = LIF,
    ) -> None:
        super().__init__()
        if channels % num_heads:
            raise ValueError(f"channels must be divisible by num_heads, but {channels} is not by {num_heads}")
        self.num_heads = num_heads
        self.over: Literal["tokens", "time"] = over
        self.head_merge: Literal["ordered", "published"] = head_merge
        self.query = SpikingLinear(channels, channels, neuron=neuron)
        self.key = SpikingLinear(channels, channels, neuron=neuron)
        self.value = SpikingLinear(channels, channels, neuron=neuron)
        self.spike = ScaledSpike(scale, neuron=neuron)
        self.output = SpikingLinear(channels, channels, neuron=neuron)

    def forward(self, target: Tensor, source: Tensor | None = None) -> Tensor:
        """Target [T, B, N, C] (and source [T, B, M, C]) -> spikes [T, B, N, C].

        Raises:
            ValueError: attention over time between different numbers of tokens.
        """
        source = target if source is None else source
        query, key, value = self.query(target), self.key(source), self.value(source)
        counts = self._over_tokens(query, key, value) if self.over == "tokens" else self._over_time(query, key, value)
        return self.output(self.spike(counts))

    def _over_tokens(self, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        q, k, v = (rearrange(x, "t b n (h d) -> t b h n d", h=self.num_heads) for x in (query, key, value))
        return rearrange(spiking_attention(q, k, v), "t b h n d -> t b n (h d)")

    def _over_time(self, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        if query.shape != key.shape:
            raise ValueError(
                "attention over time pairs tokens by place and needs equal shapes, but the target's tokens are "
                f"{tuple(query.shape)} and the source's {tuple(key.shape)}"
            )
        q, k, v = (rearrange(x, "t b n (h d) -> b n h t d", h=self.num_heads) for x in (query, key, value))
        counts = spiking_attention(q, k, v)
        if self.head_merge == "ordered":
            return rearrange(counts, "b n h t d -> t b n (h d)")
        flat = rearrange(counts, "b n h t d -> b n (h t d)")
        return rearrange(flat, "b n (t c) -> t b n c", t=query.shape[0])
