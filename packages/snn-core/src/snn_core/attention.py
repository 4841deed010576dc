"""Spiking attention without softmax: scores are counts of coinciding spikes (Zhou et al. 2023, arXiv:2209.15425).

Tokens attend over tokens (within one time step) or over time (at one token index), to themselves or to the tokens of
another modality. Without a softmax the product is associative, which makes attention linear in the number of tokens;
query-key attention (Zhou et al. 2024, arXiv:2403.16552) is also linear in the channels.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from itertools import combinations
from typing import Literal

import torch
from einops import rearrange
from torch import Tensor, nn

from snn_core.layers import NeuronFactory, ScaledSpike, SpikingLinear
from snn_core.neurons.lif import LIF

Order = Literal["auto", "scores_first", "state_first"]
"""Order of the products in `query key^T value`: `(query key^T) value`, `query (key^T value)`, or the cheaper one."""


def spiking_attention(
    query: Tensor, key: Tensor, value: Tensor, *, scale: float = 1.0, order: Order = "auto"
) -> Tensor:
    """Compute `scale * query key^T value` in the cheaper order.

    Without a softmax the product is associative, and for spikes every intermediate result is a whole number, so both
    orders are bit-identical for counts below 2^24. Products are computed in float32 for every dtype and under autocast
    (16 bits represent counts only up to 256 or 2048 exactly). The scale is applied last, before rounding to the dtype
    of the query. With `torch.backends.cuda.matmul.allow_tf32` the limit is 2^11.

    Shape: query [..., N, d], key [..., M, d], value [..., M, e] -> [..., N, e]; leading axes are broadcast.

    Args:
        query: spikes of the target tokens.
        key: spikes of the source tokens.
        value: values of the source tokens.
        scale: factor on the counts.
        order: `scores_first` stores N * M scores, `state_first` a state of d * e; `auto` chooses the one with fewer
            multiply-adds.

    Raises:
        ValueError: the shapes do not match, or the order is unknown.
    """
    if (
        min(query.dim(), key.dim(), value.dim()) < 2
        or query.shape[-1] != key.shape[-1]
        or key.shape[-2] != value.shape[-2]
        or not _can_broadcast(query.shape[:-2], key.shape[:-2], value.shape[:-2])
    ):
        raise ValueError(
            "query [..., N, d], key [..., M, d] and value [..., M, e] must share d, M and leading axes, but they are "
            f"{tuple(query.shape)}, {tuple(key.shape)} and {tuple(value.shape)}"
        )
    first = _cheaper_order(query.shape, key.shape, value.shape) if order == "auto" else order
    if first not in ("scores_first", "state_first"):
        raise ValueError(f"order must be auto, scores_first or state_first, but it is {order!r}")
    dtype = torch.promote_types(query.dtype, torch.float32)
    with torch.autocast(query.device.type, enabled=False):
        q, k, v = query.to(dtype), key.to(dtype), value.to(dtype)
        counts = q @ (k.mT @ v) if first == "state_first" else (q @ k.mT) @ v
        scaled = counts if scale == 1 else counts * scale
        return scaled.to(query.dtype) if query.is_floating_point() else scaled


def _can_broadcast(*leading: torch.Size) -> bool:
    """Return whether these leading axes can be broadcast."""
    return all(
        a == b or a == 1 or b == 1
        for one, other in combinations(leading, 2)
        for a, b in zip(reversed(one), reversed(other), strict=False)
    )


def _cheaper_order(query: torch.Size, key: torch.Size, value: torch.Size) -> Order:
    """Return the order with fewer multiply-adds, counting each product once per index of its leading axes."""
    (*q, n, d), (*k, m, _), (*v, _, e) = query, key, value
    scores_first = _products(q, k) * n * m * d + _products(q, k, v) * n * m * e
    state_first = _products(k, v) * m * d * e + _products(q, k, v) * n * d * e
    return "state_first" if state_first < scores_first else "scores_first"


def _products(*leading: list[int]) -> int:
    """Return the number of matrix products of tensors with these leading axes."""
    shape = torch.broadcast_shapes(*leading)  # pyright: ignore[reportUnknownMemberType, reportUnknownVariableType]
    return math.prod(shape)  # pyright: ignore[reportUnknownArgumentType]


def query_key_attention(query: Tensor, key: Tensor, fire: Callable[[Tensor], Tensor]) -> Tensor:
    """Gate the keys of each token by the spike count of its query.

    Token attention of QKFormer (Zhou et al. 2024, arXiv:2403.16552): `fire(sum of query over d) * key`. The query
    selects tokens, separately in each head; tokens do not interact, so the cost is linear in tokens and channels.

    Shape: query [T, ..., N, d], key [T, ..., N, e] -> [T, ..., N, e]

    Args:
        query: spikes, counted for each token.
        key: spikes of the same tokens.
        fire: neuron from counts [T, ..., N, 1] to spikes of the same shape, the gate.

    Raises:
        ValueError: query and key differ in an axis other than the last.
    """
    if query.shape[:-1] != key.shape[:-1]:
        raise ValueError(
            "query-key attention gates each token and needs a key for every query, but the query is "
            f"{tuple(query.shape)} and the key {tuple(key.shape)}; pool one of them first"
        )
    # Sum in float32 under mixed precision too: the neuron must not get a rounded count.
    counts = query.sum(-1, keepdim=True, dtype=torch.promote_types(query.dtype, torch.float32))
    return fire(counts).to(key.dtype) * key


def _check_tokens(target: Tensor, source: Tensor, channels: int) -> None:
    """Raise `ValueError` unless the shapes are target [T, B, N, C] and source [T, B, M, C]."""
    if (
        target.dim() != 4
        or source.dim() != 4
        or target.shape[:2] != source.shape[:2]
        or target.shape[-1] != channels
        or source.shape[-1] != channels
    ):
        raise ValueError(
            f"target [T, B, N, {channels}] and source [T, B, M, {channels}] must share T, B and channels,"
            f" but the target is {tuple(target.shape)} and the source {tuple(source.shape)}"
        )


class SpikingAttention(nn.Module):
    """Target tokens attend to source tokens, or to themselves without a source.

    query from the target, key and value from the source, each linear -> batch norm -> neuron; heads of width
    C / num_heads; `neuron(scale * query key^T value)`; then linear -> batch norm -> neuron. Equations: the spatial and
    temporal parts of CCSSA in S-CMRL (He et al. 2025, arXiv:2502.12488).

    Shape: target [T, B, N, C], source [T, B, M, C] -> spikes [T, B, N, C]; over time M must be N.

    Args:
        channels: token width C.
        num_heads: heads h; C must be divisible by it.
        over: `tokens` attends over tokens within a time step, `time` over time steps at a token index.
        scale: factor on the counts before the neuron; 0.25 for every head width, as published.
        head_merge: how heads are merged into channels when attending over time. `ordered` concatenates the h heads of
            width d; `published` reads `[h, T, d]` as `[T, h d]`, which mixes heads and time steps as the authors' code
            does. Over tokens both are the same.
        neuron: builds each of the five neurons.

    Raises:
        ValueError: channels is not divisible by num_heads.
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
        self.channels = channels
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
            ValueError: the shapes are wrong, or numbers of tokens differ in attention over time.
        """
        source = target if source is None else source
        _check_tokens(target, source, self.channels)
        query, key, value = self.query(target), self.key(source), self.value(source)
        counts = self._over_tokens(query, key, value) if self.over == "tokens" else self._over_time(query, key, value)
        return self.output(self.spike(counts))

    def _over_tokens(self, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        q, k, v = (rearrange(x, "t b n (h d) -> t b h n d", h=self.num_heads) for x in (query, key, value))
        return rearrange(spiking_attention(q, k, v), "t b h n d -> t b n (h d)")

    def _over_time(self, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        if query.shape != key.shape:
            raise ValueError(
                "attention over time pairs tokens by index and needs equal shapes, but the target's tokens are "
                f"{tuple(query.shape)} and the source's {tuple(key.shape)}"
            )
        q, k, v = (rearrange(x, "t b n (h d) -> b n h t d", h=self.num_heads) for x in (query, key, value))
        counts = spiking_attention(q, k, v)
        if self.head_merge == "ordered":
            return rearrange(counts, "b n h t d -> t b n (h d)")
        flat = rearrange(counts, "b n h t d -> b n (h t d)")
        return rearrange(flat, "b n (t c) -> t b n c", t=query.shape[0])


class QKAttention(nn.Module):
    """Target tokens gate the source tokens, or themselves without a source.

    query from the target and key from the source, each linear -> batch norm -> neuron; in each head of width
    C / num_heads `neuron(scale * sum of query) * key`, see `query_key_attention`; then linear -> batch norm -> neuron
    (Zhou et al. 2024, arXiv:2403.16552). Token n of the target gates token n of the source, so across modalities they
    must correspond.

    Shape: target [T, B, N, C], source [T, B, N, C] -> spikes [T, B, N, C]

    Args:
        channels: token width C.
        num_heads: heads h; C must be divisible by it.
        scale: factor on the counts before the gate. With 2 and `LIF()`, one query spike opens the gate, as in the
            authors' code, which uses a threshold of 0.5 instead.
        neuron: builds each of the four neurons.

    Raises:
        ValueError: channels is not divisible by num_heads.
    """

    def __init__(self, channels: int, *, num_heads: int, scale: float = 2.0, neuron: NeuronFactory = LIF) -> None:
        super().__init__()
        if channels % num_heads:
            raise ValueError(f"channels must be divisible by num_heads, but {channels} is not by {num_heads}")
        self.channels = channels
        self.num_heads = num_heads
        self.query = SpikingLinear(channels, channels, neuron=neuron)
        self.key = SpikingLinear(channels, channels, neuron=neuron)
        self.gate = ScaledSpike(scale, neuron=neuron)
        self.output = SpikingLinear(channels, channels, neuron=neuron)

    def forward(self, target: Tensor, source: Tensor | None = None) -> Tensor:
        """Target [T, B, N, C] (and source [T, B, N, C]) -> spikes [T, B, N, C].

        Raises:
            ValueError: the shapes are wrong, or the numbers of tokens differ.
        """
        source = target if source is None else source
        _check_tokens(target, source, self.channels)
        if target.shape[2] != source.shape[2]:
            raise ValueError(
                "query-key attention gates each source token and needs as many target tokens, but the "
                f"target is {tuple(target.shape)} and the source {tuple(source.shape)}; pool one of them first"
            )
        query, key = (
            rearrange(x, "t b n (h d) -> t b h n d", h=self.num_heads) for x in (self.query(target), self.key(source))
        )
        return self.output(rearrange(query_key_attention(query, key, self.gate), "t b h n d -> t b n (h d)"))
