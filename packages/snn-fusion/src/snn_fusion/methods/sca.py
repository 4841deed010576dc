"""Spiking cross-attention that replaces the tokens, with a relative position bias."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from functools import reduce
from itertools import permutations
from typing import Literal

import torch
from einops import rearrange
from torch import Tensor, nn

from snn_core import LIF, NeuronFactory, ScaledSpike, SpikingAttention
from snn_fusion.methods.attention import PUBLISHED_SCALE
from snn_fusion.methods.base import FusedTokens, FusionMethod, Pair
from snn_fusion.methods.residual import check_modalities_known, pair_name
from snn_fusion.methods.tokens import any_present, pool_tokens, read_on_rows, zero_absent
from snn_fusion.presence import ALL_PRESENT, Presence, both_present


class PositionBias(nn.Module):
    """Bias on the score of token i reading token j, by their relative position on a square grid.

    Entry (i, j) is `P[row_i - row_j, column_i - column_j]` of one table for all heads, samples and time steps.

    Args:
        num_tokens: tokens N of the grid, a square number.
        kind: `learned`, a parameter that starts at 0; or `random`, drawn from N(0, 1) in every forward pass, as the
            authors' code does it: results then differ from call to call, in evaluation, too.
        generator: random generator for `random`; PyTorch's default one if None.

    Raises:
        ValueError: num_tokens is not a square.
    """

    def __init__(
        self, num_tokens: int, *, kind: Literal["learned", "random"], generator: torch.Generator | None = None
    ) -> None:
        super().__init__()
        self.side = math.isqrt(num_tokens)
        if num_tokens < 1 or self.side**2 != num_tokens:
            raise ValueError(
                "a relative position bias needs tokens on a square grid, such as 4, 16 or 64, but there are "
                f"{num_tokens}; use a square input, or leave this modality without bias"
            )
        width = 2 * self.side - 1
        self.table = nn.Parameter(torch.zeros(width, width)) if kind == "learned" else None
        self.generator = generator

    def forward(self, like: Tensor) -> Tensor:
        """Return the bias [N, N] in the dtype and on the device of `like`."""
        table = self.table
        if table is None:
            # The authors' table has a border that no pair of tokens reaches; drawing it as well gives their numbers.
            width = 2 * self.side + 1
            values = torch.randn(width, width, generator=self.generator, dtype=like.dtype, device=like.device)
            table = values[1:-1, 1:-1]
        index = torch.arange(self.side**2, device=like.device)
        row, column = index // self.side, index % self.side
        offset = self.side - 1
        return table[row[:, None] - row + offset, column[:, None] - column + offset].to(like.dtype)


class PositionBiasedAttention(SpikingAttention):
    """Spiking attention over tokens with a position bias and a neuron on the scores.

    `neuron(scale * neuron(query key^T + bias) value)`, then the output layer. A source with another number of tokens is
    pooled to the target's.

    Shape: target [T, B, N, C], source [T, B, M, C] -> spikes [T, B, N, C]
    """

    def __init__(
        self, channels: int, *, num_heads: int, bias: PositionBias, scale: float, neuron: NeuronFactory
    ) -> None:
        super().__init__(channels, num_heads=num_heads, over="tokens", scale=scale, neuron=neuron)
        self.bias = bias
        self.score = ScaledSpike(1.0, neuron=neuron)

    def forward(self, target: Tensor, source: Tensor | None = None) -> Tensor:
        """Map target [T, B, N, C] and source [T, B, M, C] to spikes [T, B, N, C].

        Raises:
            ValueError: the target's number of tokens is not the bias's.
        """
        if target.shape[2] != self.bias.side**2:
            raise ValueError(f"the position bias is for {self.bias.side**2} tokens, but there are {target.shape[2]}")
        source = pool_tokens(target if source is None else source, target.shape[2])
        q, k, v = (
            rearrange(layer(x), "t b n (h d) -> t b h n d", h=self.num_heads)
            for layer, x in ((self.query, target), (self.key, source), (self.value, source))
        )
        # Counts are exact only in float32; in 16 bits the bias would be rounded away beside them.
        dtype = torch.promote_types(q.dtype, torch.float32)
        with torch.autocast(q.device.type, enabled=False):
            counts = q.to(dtype) @ k.to(dtype).mT
            scores = self.score(counts + self.bias(counts))
            heads = (scores @ v.to(dtype)).to(v.dtype)
        return self.output(self.spike(rearrange(heads, "t b h n d -> t b n (h d)")))


class SCA(FusionMethod):
    """Spatial cross-attention: what a modality reads from the others replaces its tokens, without a residual.

    The baseline of S-CMRL (arXiv:2502.12488) for (audio, visual): audio reads visual by plain spatial attention, visual
    reads audio with a relative position bias. With more modalities each pair has its own weights and a target's tokens
    become the sum over its sources; a sample without any other modality keeps its tokens, as do all samples of a model
    with one modality. `residuals` holds what was read.

    The position bias is indexed by token, so a biased target's tokens must form a square grid, and a source with
    another number of tokens is pooled to it.

    Args:
        modalities: their names.
        channels: token width C, divisible by num_heads.
        num_heads: attention heads.
        num_tokens: number of tokens of each modality that reads with a bias.
        biased: modalities that read with a position bias; by default all but the first, as published for (audio,
            visual).
        position_bias: `learned`, or `random` as published, see `PositionBias`.
        generator: random generator of random biases.
        scale: factor on the attention's counts; 0.25 as published.
        neuron: factory of each neuron layer.

    Raises:
        ValueError: an unknown modality in `biased`, its number of tokens missing or not a square, or channels not
            divisible by num_heads.
    """

    def __init__(
        self,
        modalities: Sequence[str],
        channels: int,
        *,
        num_tokens: Mapping[str, int],
        num_heads: int = 16,
        biased: Sequence[str] | None = None,
        position_bias: Literal["learned", "random"] = "learned",
        generator: torch.Generator | None = None,
        scale: float = PUBLISHED_SCALE,
        neuron: NeuronFactory = LIF,
    ) -> None:
        super().__init__()
        self.modalities = tuple(modalities)
        biased = tuple(modalities[1:]) if biased is None else tuple(biased)
        for name in biased:
            if name not in modalities:
                raise ValueError(f"biased names {name!r}, but the modalities are {', '.join(modalities)}")
            if name not in num_tokens:
                raise ValueError(f"{name!r} reads with a position bias, so num_tokens needs its number of tokens")
        self.pairs: tuple[Pair, ...] = tuple(permutations(modalities, 2))

        def reader(target: str) -> nn.Module:
            if target not in biased:
                return SpikingAttention(channels, num_heads=num_heads, scale=scale, neuron=neuron)
            bias = PositionBias(num_tokens[target], kind=position_bias, generator=generator)
            return PositionBiasedAttention(channels, num_heads=num_heads, bias=bias, scale=scale, neuron=neuron)

        self.readers = nn.ModuleDict({pair_name(pair): reader(pair[0]) for pair in self.pairs})

    def forward(self, tokens: dict[str, Tensor], presence: Presence = ALL_PRESENT) -> FusedTokens:
        """Map tokens [T, B, N, C] by modality to what each read from the others, by modality and by pair."""
        check_modalities_known(tokens, self.modalities)
        tokens = zero_absent(tokens, presence)
        residuals: dict[Pair, Tensor] = {
            (target, source): read_on_rows(
                self.readers[pair_name((target, source))],
                both_present(presence, target, source),
                tokens[target],
                tokens[source],
            )
            for target, source in self.pairs
            if target in tokens and source in tokens
        }
        fused = dict(tokens)
        for target, x in tokens.items():
            sources = [source for reader, source in residuals if reader == target]
            if sources:
                total = reduce(torch.add, [residuals[target, source] for source in sources])
                has_source = any_present(presence, sources)
                fused[target] = total if has_source is None else torch.where(has_source[None, :, None, None], total, x)
        return FusedTokens(fused, residuals)
