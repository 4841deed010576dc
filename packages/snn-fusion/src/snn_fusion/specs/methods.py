"""Fusion methods: how modalities read each other."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from math import isqrt
from typing import TYPE_CHECKING, Annotated, ClassVar, Literal

from pydantic import Field

from snn_fusion.specs.base import Registry, Spec
from snn_fusion.specs.neurons import NeuronSpec
from snn_fusion.topology import pairs

if TYPE_CHECKING:
    from snn_fusion.methods.base import FusionMethod


class MethodSpec(Spec, ABC):
    """How modalities read each other."""

    makes_residuals: ClassVar[bool] = False
    """Whether the method tells what each modality read from each other, which alignment needs."""
    joint: ClassVar[bool] = False
    """Whether the method makes a joint representation, from which the model then predicts."""

    @abstractmethod
    def build(self, tokens: Mapping[str, int], *, channels: int, neuron: NeuronSpec) -> FusionMethod:
        """The method for modalities of so many tokens each."""

    def check_channels(self, channels: int) -> None:
        """Raise ValueError where the token width does not suit the method."""

    def check_modalities(self, tokens: Mapping[str, int]) -> None:
        """Raise ValueError where modalities of so many tokens each do not suit the method."""


METHODS: Registry[MethodSpec] = Registry("fusion method", MethodSpec, default="ccssa")
"""Every fusion method that a spec can name."""


def _check_heads(channels: int, num_heads: int) -> None:
    if channels % num_heads:
        divisors = [h for h in range(1, channels + 1) if channels % h == 0]
        raise ValueError(
            f"channels ({channels}) must be divisible by fusion.num_heads ({num_heads}); "
            f"with these channels num_heads can be {', '.join(map(str, divisors))}"
        )


@METHODS.register
class CCSSASpec(MethodSpec):
    """Cross-modal complementary spatiotemporal spiking attention, the residual learning of S-CMRL.

    Source: S-CMRL (He et al. 2025, arXiv:2502.12488).
    """

    makes_residuals: ClassVar[bool] = True

    kind: Literal["ccssa"] = "ccssa"
    """Which fusion method: ccssa, each modality reads others by spiking cross-attention."""
    attention: Literal["spatial", "temporal", "spatiotemporal"] = "spatiotemporal"
    """What a modality reads another over: places within a time step, time steps within a place, or both."""
    num_heads: int = Field(default=16, ge=1)
    """Attention heads; the token width must be divisible by it."""
    topology: str | tuple[tuple[str, str], ...] = "all"
    """Who reads whom: all; ring, each the next one; star:<hub>, the hub and each other one; or (target, source)s."""
    sharing: Literal["pair", "source", "all"] = "pair"
    """Which weights are shared: none between pairs, one set a modality, or one set for all."""
    combine: Literal["sum", "mean", "gate"] = "sum"
    """How what was read from several sources becomes one residual."""
    alpha: float = Field(default=1.5, ge=0)
    """Scale of the residual that a modality adds to itself."""
    learnable_alpha: bool = False
    """Learn one scale for each pair, which starts at alpha."""
    scale: Annotated[float, Field(gt=0)] | Literal["auto"] = 0.25
    """Factor on the counts of coinciding spikes before they reach the neuron; auto knows tokens and head width."""
    semantic_projection: bool = True
    """Whether residuals pass a linear spiking layer into the shared semantic space before they are added."""
    head_merge: Literal["ordered", "published"] = "ordered"
    """How temporal attention joins its heads: side by side, or mixed with time as in the authors' code."""

    def build(self, tokens: Mapping[str, int], *, channels: int, neuron: NeuronSpec) -> FusionMethod:
        """The method for these modalities."""
        from snn_fusion.methods.ccssa import CCSSA

        return CCSSA(tuple(tokens), channels, **self.model_dump(exclude={"kind"}), neuron=neuron.build)

    def check_channels(self, channels: int) -> None:
        """Heads must divide the token width."""
        _check_heads(channels, self.num_heads)

    def check_modalities(self, tokens: Mapping[str, int]) -> None:
        """The topology must name modalities that are there."""
        pairs(self.topology, tuple(tokens))


@METHODS.register
class QKSpec(MethodSpec):
    """Query-key token attention across modalities: linear in tokens, and almost so in the number of modalities.

    Source: the token attention of QKFormer (Zhou et al. 2024, arXiv:2403.16552) across modalities, in the spirit of
    SNNergy (arXiv:2602.00701).
    """

    makes_residuals: ClassVar[bool] = True

    kind: Literal["qk"] = "qk"
    """Which fusion method: qk, a target's query spikes gate the keys of its sources."""
    num_heads: int = Field(default=16, ge=1)
    """Heads, each with a gate of its own; the token width must be divisible by it."""
    topology: str | tuple[tuple[str, str], ...] = "all"
    """Who reads whom: all; ring; star:<hub>; or pairs of (target, source)."""
    alpha: float = Field(default=1.0, ge=0)
    """Scale of the residual that a modality adds to itself, at the start where it is learned."""
    learnable_alpha: bool = True
    """Learn one scale for each pair, which starts at alpha."""
    scale: float = Field(default=2.0, gt=0)
    """Factor on the counted query spikes before they reach the gate's neuron."""

    def build(self, tokens: Mapping[str, int], *, channels: int, neuron: NeuronSpec) -> FusionMethod:
        """The method for these modalities."""
        from snn_fusion.methods.qk import QKFusion

        return QKFusion(tuple(tokens), channels, **self.model_dump(exclude={"kind"}), neuron=neuron.build)

    def check_channels(self, channels: int) -> None:
        """Heads must divide the token width."""
        _check_heads(channels, self.num_heads)

    def check_modalities(self, tokens: Mapping[str, int]) -> None:
        """The topology must name modalities that are there."""
        pairs(self.topology, tuple(tokens))


@METHODS.register
class WeightAttentionSpec(MethodSpec):
    """Each modality is multiplied by one weight a time step that it and the others give it.

    Source: the attention of Liu et al. 2022 (Event-based Multimodal Spiking Neural Network with Attention Mechanism,
    ICASSP) as S-CMRL (arXiv:2502.12488) compares with it.
    """

    kind: Literal["weight_attention"] = "weight_attention"
    """Which fusion method: weight_attention, modalities are weighted, nothing is added."""

    def build(self, tokens: Mapping[str, int], *, channels: int, neuron: NeuronSpec) -> FusionMethod:
        """The method for these modalities; it has no neurons."""
        from snn_fusion.methods.weight_attention import WeightAttention

        return WeightAttention(tuple(tokens), channels)


@METHODS.register
class SCASpec(MethodSpec):
    """Spatial cross-attention: what a modality reads takes the place of its tokens.

    Source: the spiking cross-attention of SMMT (Guo et al. 2023, doi:10.1109/TCDS.2023.3327081) as S-CMRL
    (arXiv:2502.12488) compares with it.
    """

    makes_residuals: ClassVar[bool] = True

    kind: Literal["sca"] = "sca"
    """Which fusion method: sca, spatial cross-attention without a residual."""
    num_heads: int = Field(default=16, ge=1)
    """Attention heads; the token width must be divisible by it."""
    biased: tuple[str, ...] | None = None
    """Modalities that read with a position bias and have a square grid of tokens; none: all but the first."""
    position_bias: Literal["learned", "random"] = "learned"
    """learned, or random: drawn anew in every forward pass, as in the authors' code."""
    scale: Annotated[float, Field(gt=0)] = 0.25
    """Factor on the counts of coinciding spikes before they reach the neuron."""

    def build(self, tokens: Mapping[str, int], *, channels: int, neuron: NeuronSpec) -> FusionMethod:
        """The method for these modalities."""
        from snn_fusion.methods.sca import SCA

        return SCA(tuple(tokens), channels, num_tokens=tokens, **self.model_dump(exclude={"kind"}), neuron=neuron.build)

    def check_channels(self, channels: int) -> None:
        """Heads must divide the token width."""
        _check_heads(channels, self.num_heads)

    def check_modalities(self, tokens: Mapping[str, int]) -> None:
        """A position bias needs a square grid."""
        names = tuple(tokens)
        for name in names[1:] if self.biased is None else self.biased:
            if name not in tokens:
                raise ValueError(f"fusion.biased names {name!r}, but the modalities are {', '.join(names)}")
            if len(names) > 1 and isqrt(tokens[name]) ** 2 != tokens[name]:
                raise ValueError(
                    f"{name!r} reads with a position bias, which needs a square grid of tokens, but it has "
                    f"{tokens[name]}: give it a square input, or leave it out of fusion.biased"
                )


@METHODS.register
class CMCISpec(MethodSpec):
    """All modalities meet in one joint representation, from which the class is predicted.

    Source: Cross-modality Current Integration (Jiang et al. 2023, doi:10.1007/978-981-99-8067-3_12) as S-CMRL
    (arXiv:2502.12488) compares with it.
    """

    joint: ClassVar[bool] = True

    kind: Literal["cmci"] = "cmci"
    """Which fusion method: cmci, a joint representation, with a head and a loss for each modality besides."""
    mlp_expansion: int = Field(default=4, ge=1)
    """Width of the joint MLP's middle, in multiples of the token width."""

    def build(self, tokens: Mapping[str, int], *, channels: int, neuron: NeuronSpec) -> FusionMethod:
        """The method for these modalities."""
        from snn_fusion.methods.cmci import CMCI

        # The first modality's places, also for samples that lack it.
        places = next(iter(tokens.values()))
        return CMCI(tuple(tokens), channels, num_tokens=places, mlp_expansion=self.mlp_expansion, neuron=neuron.build)


@METHODS.register
class NoFusionSpec(MethodSpec):
    """Modalities do not read each other; they meet in the readout only."""

    kind: Literal["none"] = "none"
    """Which fusion method: none, modalities meet in the readout only."""

    def build(self, tokens: Mapping[str, int], *, channels: int, neuron: NeuronSpec) -> FusionMethod:
        """The method for these modalities."""
        from snn_fusion.methods.no_fusion import NoFusion

        return NoFusion()
