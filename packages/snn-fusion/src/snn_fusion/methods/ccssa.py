"""Cross-modal complementary spatiotemporal spiking attention as residual learning (S-CMRL, arXiv:2502.12488)."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import permutations
from typing import Literal

from torch import Tensor, nn

from snn_core import LIF, NeuronFactory, SpikingAttention, SpikingLinear
from snn_fusion.methods import Fused, FusionMethod, Pair

Attention = Literal["spatial", "temporal", "spatiotemporal"]


class CrossModalReader(nn.Module):
    """What one target modality reads from one source modality.

    `spatial` a: attention over tokens; `temporal` b: attention over time. `spatiotemporal` joins their spikes as
    `r[t, b, n, c] = mean over n of a * mean over t of b`, which is not binary. With a semantic projection the residual
    then passes one linear spiking layer.

    Shape: target [T, B, N, C], source [T, B, M, C] -> residual [T, B, N, C]; M = N unless attention is spatial.
    """

    def __init__(
        self,
        channels: int,
        *,
        num_heads: int,
        attention: Attention,
        semantic_projection: bool,
        head_merge: Literal["ordered", "published"],
        neuron: NeuronFactory,
    ) -> None:
        super().__init__()
        self.spatial: nn.Module | None = None
        self.temporal: nn.Module | None = None
        self.projection: nn.Module | None = None
        if attention != "temporal":
            self.spatial = SpikingAttention(channels, num_heads=num_heads, over="tokens", neuron=neuron)
        if attention != "spatial":
            self.temporal = SpikingAttention(
                channels, num_heads=num_heads, over="time", head_merge=head_merge, neuron=neuron
            )
        if semantic_projection:
            self.projection = SpikingLinear(channels, channels, bias=True, norm=False, neuron=neuron)

    def forward(self, target: Tensor, source: Tensor) -> Tensor:
        """Target [T, B, N, C] reads source [T, B, M, C] -> residual [T, B, N, C]."""
        read: list[Tensor] = [attend(target, source) for attend in (self.spatial, self.temporal) if attend is not None]
        if len(read) == 2:
            over_tokens, over_time = read
            residual = over_tokens.mean(2, keepdim=True) * over_time.mean(0, keepdim=True)
        else:
            (residual,) = read
        return residual if self.projection is None else self.projection(residual)


class CCSSA(FusionMethod):
    """Each modality reads every other one and adds what it read: `x' = x + alpha * sum of residuals`.

    For two modalities this is the published method; for one there is nothing to read and tokens pass unchanged. Every
    ordered pair (target, source) has weights of its own.

    Args:
        modalities: their names.
        channels: token width C, divisible by num_heads.
        num_heads: attention heads h.
        attention: `spatial`, `temporal` or `spatiotemporal`.
        alpha: scale of the residual.
        semantic_projection: one linear spiking layer on each residual, into the space where they are aligned.
        head_merge: see `snn_core.SpikingAttention`.
        neuron: makes each neuron layer.
    """

    def __init__(
        self,
        modalities: Sequence[str],
        channels: int,
        *,
        num_heads: int = 16,
        attention: Attention = "spatiotemporal",
        alpha: float = 1.5,
        semantic_projection: bool = True,
        head_merge: Literal["ordered", "published"] = "ordered",
        neuron: NeuronFactory = LIF,
    ) -> None:
        super().__init__()
        self.alpha = alpha
        self.pairs: tuple[Pair, ...] = tuple(permutations(modalities, 2))
        self.readers = nn.ModuleDict(
            {
                reader_name(pair): CrossModalReader(
                    channels,
                    num_heads=num_heads,
                    attention=attention,
                    semantic_projection=semantic_projection,
                    head_merge=head_merge,
                    neuron=neuron,
                )
                for pair in self.pairs
            }
        )

    def forward(self, tokens: dict[str, Tensor]) -> Fused:
        """Tokens [T, B, N, C] by modality -> tokens plus alpha times what each read."""
        residuals = {
            (target, source): self.readers[reader_name((target, source))](tokens[target], tokens[source])
            for target, source in self.pairs
        }
        fused = dict(tokens)
        for (target, _), residual in residuals.items():
            fused[target] = fused[target] + self.alpha * residual
        return Fused(fused, residuals)


def reader_name(pair: Pair) -> str:
    """The name under which a pair's weights are stored."""
    return f"{pair[0]}_reads_{pair[1]}"
