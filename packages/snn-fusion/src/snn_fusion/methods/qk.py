"""Cross-modal query-key attention: linear in tokens, channels and modalities."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial, reduce

import torch
from einops import rearrange
from torch import Tensor

from snn_core import LIF, NeuronFactory, ScaledSpike, SpikingLinear
from snn_fusion.methods.base import FusedTokens
from snn_fusion.methods.residual import ResidualFusion, mean_weight, source_shares, split_by_share
from snn_fusion.methods.tokens import ModalityLayers, TokenKey, active_samples, pool_tokens, zero_absent
from snn_fusion.presence import ALL_PRESENT, Presence
from snn_fusion.topology import Topology


class QKFusion(ResidualFusion):
    """A target's query spikes gate the keys of its sources: `x' = x + alpha * output(gate * keys)`.

    The token attention of QKFormer (Zhou et al. 2024, arXiv:2403.16552) across modalities, similar to SNNergy
    (arXiv:2602.00701), which fuses by query-key attention of linear cost. A target's query spikes are counted over the
    channels of a head, a neuron fires on the count, and its spikes pass the key spikes of the same token. There are no
    scores between tokens, so the cost is linear in tokens and channels. Keys of all sources are added before they are
    gated, and queries, keys and outputs belong to one modality each, so nearly everything is linear in the number of
    modalities as well. The residual is reported per pair as the source's share in the keys that passed, see
    `snn_fusion.methods.residual.source_shares`.

    For two modalities each direction is `snn_core.QKAttention`; with one modality tokens pass unchanged. A source with
    another number of tokens is first pooled to the target's. If a sample lacks one of a pair's two modalities, its
    residual is 0.

    Args:
        modalities: their names.
        channels: token width C, divisible by num_heads.
        num_heads: heads h, each with its own gate.
        alpha: scale of the residual.
        learnable_alpha: learn one scale per pair, starting at `alpha`; `alphas` returns them.
        topology: which modality reads which: `all`, `ring`, `star:<hub>`, or pairs (target, source).
        scale: factor on the query counts before the gate's neuron. With 2 and `LIF()`, one query spike opens the gate.
        neuron: factory of each neuron layer.

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
        self.query = ModalityLayers({name: linear() for name in targets})
        self.key = ModalityLayers({name: linear() for name in sources})
        self.gate = ModalityLayers({name: ScaledSpike(scale, neuron=neuron) for name in targets})
        self.output = ModalityLayers({name: linear() for name in targets})

    def forward(self, tokens: dict[str, Tensor], presence: Presence = ALL_PRESENT) -> FusedTokens:
        """Map tokens [T, B, N, C] by modality to tokens plus alpha times their residuals."""
        sources_of = self.sources_in(tokens)
        tokens = zero_absent(tokens, presence)
        target_rows, source_rows = active_samples(sources_of, presence)
        grids = {target: (target, tokens[target].shape[2]) for target in sources_of}

        queries = self.query({grid: tokens[target] for target, grid in grids.items()}, target_rows)
        gates = self.gate({grid: self._count(query) for grid, query in queries.items()}, {})
        inputs = {(s, grids[t][1]): tokens[s] for t, sources in sources_of.items() for s in sources}
        keys = self.key({grid: pool_tokens(x, grid[1]) for grid, x in inputs.items()}, source_rows)
        key_counts = {grid: self._count(key).detach() for grid, key in keys.items()}

        gated: dict[TokenKey, Tensor] = {}
        share: dict[str, Tensor | None] = {}
        for target, sources in sources_of.items():
            grid = grids[target]
            source_grids = [(source, grid[1]) for source in sources]
            gate = gates[grid]
            total = reduce(torch.add, [keys[source] for source in source_grids])
            total = rearrange(total, "t b n (h d) -> t b n h d", h=self.num_heads)
            gated[grid] = rearrange(gate.unsqueeze(-1).to(total.dtype) * total, "t b n h d -> t b n (h d)")
            by_source = torch.stack([(gate.detach() * key_counts[source]).sum(-1) for source in source_grids], -1)
            share[target] = source_shares(by_source, sources, presence).to(total.dtype) if len(sources) > 1 else None
        outputs = self.output(gated, target_rows)

        residuals = split_by_share(
            {target: (outputs[grid], share[target]) for target, grid in grids.items()}, sources_of
        )
        fused = dict(tokens)
        for target, sources in sources_of.items():
            alphas = [self.alpha_of((target, source)) for source in sources]
            fused[target] = tokens[target] + mean_weight(alphas, share[target]) * outputs[grids[target]]
        return FusedTokens(fused, residuals, split=True)

    def _count(self, spikes: Tensor) -> Tensor:
        """Count the spikes of each head [T, B, N, C] -> [T, B, N, h], exactly in any dtype."""
        heads = rearrange(spikes, "t b n (h d) -> t b n h d", h=self.num_heads)
        return heads.sum(-1, dtype=torch.promote_types(spikes.dtype, torch.float32))
