"""Cross-modal query-key attention: linear in tokens, channels and modalities."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial, reduce

import torch
from einops import rearrange
from torch import Tensor

from snn_core import LIF, NeuronFactory, ScaledSpike, SpikingLinear
from snn_fusion.methods import EVERYWHERE, Fused
from snn_fusion.methods.residual import ResidualFusion, shares, split_by_share, weigh
from snn_fusion.methods.tokens import ByModality, Placed, blank_absent, pool_tokens, reading_and_read
from snn_fusion.presence import Presence
from snn_fusion.topology import Topology


class QKFusion(ResidualFusion):
    """Each target's query spikes decide which of its sources' tokens pass: `x' = x + alpha * output(gate * keys)`.

    The token attention of QKFormer (Zhou et al. 2024, arXiv:2403.16552) across modalities, in the spirit of SNNergy
    (arXiv:2602.00701), which fuses by query-key attention of linear cost: a target's query spikes are counted over the
    channels of a head, a neuron fires on the count, and its spikes let the key spikes of the same place through. There
    are no scores between tokens, so the cost is linear in tokens and channels. Keys of all sources are added before
    they are gated, and queries, keys and outputs belong to one modality each, so that almost everything is linear in
    the number of modalities, too. What a target read is reported for each pair as the source's share in the keys that
    passed, see `snn_fusion.methods.residual.shares`.

    For two modalities each direction is `snn_core.QKAttention`; for one tokens pass unchanged. A source with another
    number of tokens is pooled to the target's places first. Where a sample lacks one of a pair's two modalities, its
    residual is 0.

    Args:
        modalities: their names.
        channels: token width C, divisible by num_heads.
        num_heads: heads h, each with a gate of its own.
        alpha: scale of the residual.
        learnable_alpha: learn one scale a pair, from `alpha` on; `alphas` tells them.
        topology: who reads whom: `all`, `ring`, `star:<hub>`, or pairs (target, source).
        scale: factor on the query counts before they reach the gate's neuron. With 2 and `LIF()`, one query spike
            opens the gate.
        neuron: makes each neuron layer.

    Raises:
        ValueError: channels not divisible by num_heads, or a topology that does not fit the modalities.
    """

    def __init__(
        self,
        modalities: Sequence[str],
        channels: int,
        *,
        num_heads: int = 16,
        alpha: float = 1.0,
        learnable_alpha: bool = True,
        topology: Topology = "all",
        scale: float = 2.0,
        neuron: NeuronFactory = LIF,
    ) -> None:
        super().__init__(modalities, topology=topology, alpha=alpha, learnable_alpha=learnable_alpha)
        if channels % num_heads:
            raise ValueError(f"channels must be divisible by num_heads, but {channels} is not by {num_heads}")
        self.num_heads = num_heads
        linear = partial(SpikingLinear, channels, channels, neuron=neuron)
        targets = dict.fromkeys(target for target, _ in self.pairs)
        sources = dict.fromkeys(source for _, source in self.pairs)
        self.query = ByModality({name: linear() for name in targets})
        self.key = ByModality({name: linear() for name in sources})
        self.gate = ByModality({name: ScaledSpike(scale, neuron=neuron) for name in targets})
        self.output = ByModality({name: linear() for name in targets})

    def forward(self, tokens: dict[str, Tensor], presence: Presence = EVERYWHERE) -> Fused:
        """Tokens [T, B, N, C] by modality -> tokens plus alpha times what each read."""
        sources_of = self.sources_in(tokens)
        tokens = blank_absent(tokens, presence)
        reading, read_by_any = reading_and_read(sources_of, presence)
        places = {target: (target, tokens[target].shape[2]) for target in sources_of}

        queries = self.query({place: tokens[target] for target, place in places.items()}, reading)
        gates = self.gate({place: self._count(query) for place, query in queries.items()}, {})
        grids = {(s, places[t][1]): tokens[s] for t, sources in sources_of.items() for s in sources}
        keys = self.key({place: pool_tokens(x, place[1]) for place, x in grids.items()}, read_by_any)
        counted = {place: self._count(key).detach() for place, key in keys.items()}

        passed: dict[Placed, Tensor] = {}
        share: dict[str, Tensor | None] = {}
        for target, sources in sources_of.items():
            place = places[target]
            read = [(source, place[1]) for source in sources]
            gate = gates[place]
            total = rearrange(reduce(torch.add, [keys[p] for p in read]), "t b n (h d) -> t b n h d", h=self.num_heads)
            passed[place] = rearrange(gate.unsqueeze(-1).to(total.dtype) * total, "t b n h d -> t b n (h d)")
            by_source = torch.stack([(gate.detach() * counted[p]).sum(-1) for p in read], -1)
            share[target] = shares(by_source, sources, presence).to(total.dtype) if len(sources) > 1 else None
        outputs = self.output(passed, reading)

        both = {target: (outputs[place], share[target]) for target, place in places.items()}
        residuals = split_by_share(both, sources_of)
        fused = dict(tokens)
        for target, sources in sources_of.items():
            alphas = [self.alpha_of((target, source)) for source in sources]
            fused[target] = tokens[target] + weigh(alphas, share[target]) * outputs[places[target]]
        return Fused(fused, residuals, split=True)

    def _count(self, spikes: Tensor) -> Tensor:
        """Spikes of each head [T, B, N, C] -> [T, B, N, h], exact whatever the dtype."""
        heads = rearrange(spikes, "t b n (h d) -> t b n h d", h=self.num_heads)
        return heads.sum(-1, dtype=torch.promote_types(spikes.dtype, torch.float32))
