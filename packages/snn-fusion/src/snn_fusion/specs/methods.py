"""Fusion method specs: how modalities read each other."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from math import isqrt
from typing import TYPE_CHECKING, Annotated, ClassVar, Literal

from pydantic import Field

from snn_fusion.specs.neurons import NeuronSpec
from snn_fusion.specs.registry import Registry
from snn_fusion.specs.spec import Spec
from snn_fusion.topology import pairs

if TYPE_CHECKING:
    from snn_fusion.methods.base import FusionMethod


class MethodSpec(Spec, ABC):
    """How modalities read each other."""

    makes_residuals: ClassVar[bool] = False
    """Whether the method returns residuals by pair, which alignment needs."""
    joint: ClassVar[bool] = False
    """Whether the model predicts from a joint representation of the method."""

    @abstractmethod
    def build(self, tokens: Mapping[str, int], *, channels: int, neuron: NeuronSpec) -> FusionMethod:
        """Build the method for modalities with these numbers of tokens."""

    def check_channels(self, channels: int) -> None:
        """Raise ValueError if the method does not support the token width."""

    def check_modalities(self, tokens: Mapping[str, int]) -> None:
        """Raise ValueError if the method does not support modalities with these numbers of tokens."""


METHODS: Registry[MethodSpec] = Registry("fusion method", "snn_fusion.methods", MethodSpec, default="ccssa")
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
    """Attention over the tokens of a time step, over the time steps of a token, or both."""
    num_heads: int = Field(default=16, ge=1)
    """Attention heads; the token width must be divisible by it."""
    topology: str | tuple[tuple[str, str], ...] = "all"
    """Which modality reads which: all; ring, each the next one; star:<hub>, hub and others each other; or (target,
    source) pairs."""
    sharing: Literal["pair", "source", "all"] = "pair"
    """Weight sharing: pair, none; source, one set per modality; all, one set for all."""
    combine: Literal["sum", "mean", "gate"] = "sum"
    """How the residuals of several sources are combined."""
    alpha: float = Field(default=1.5, ge=0)
    """Scale of the residual that a modality adds to itself."""
    learnable_alpha: bool = False
    """Learn one scale per pair, starting at alpha."""
    scale: Annotated[float, Field(gt=0)] | Literal["auto"] = 0.25
    """Factor on the counts of coinciding spikes before the neuron; auto adapts it to tokens and head width."""
    semantic_projection: bool = True
    """Project residuals into the shared semantic space by a linear spiking layer before they are added."""
    head_merge: Literal["ordered", "published"] = "ordered"
    """How temporal attention joins its heads. ordered: concatenated; published: mixed with time steps, as in the
    authors' code, whose checkpoints need it."""

    def build(self, tokens: Mapping[str, int], *, channels: int, neuron: NeuronSpec) -> FusionMethod:
        """Build the method for these modalities."""
        from snn_fusion.methods.ccssa import CCSSA

        return CCSSA(tuple(tokens), channels, **self.model_dump(exclude={"kind"}), neuron=neuron.build)

    def check_channels(self, channels: int) -> None:
        """Raise ValueError if the token width is not divisible by the heads."""
        _check_heads(channels, self.num_heads)

    def check_modalities(self, tokens: Mapping[str, int]) -> None:
        """Raise ValueError if the topology names unknown modalities."""
        pairs(self.topology, tuple(tokens))


@METHODS.register
class QKSpec(MethodSpec):
    """Query-key token attention across modalities: linear in tokens, and nearly so in the number of modalities.

    Source: the token attention of QKFormer (Zhou et al. 2024, arXiv:2403.16552) across modalities, similar to SNNergy
    (arXiv:2602.00701).
    """

    makes_residuals: ClassVar[bool] = True

    kind: Literal["qk"] = "qk"
    """Which fusion method: qk, a target's query spikes gate the keys of its sources."""
    num_heads: int = Field(default=16, ge=1)
    """Heads, each with its own gate; the token width must be divisible by it."""
    topology: str | tuple[tuple[str, str], ...] = "all"
    """Which modality reads which: all; ring; star:<hub>; or pairs (target, source)."""
    alpha: float = Field(default=1.0, ge=0)
    """Scale of the residual that a modality adds to itself; the initial one if it is learned."""
    learnable_alpha: bool = True
    """Learn one scale per pair, starting at alpha."""
    scale: float = Field(default=2.0, gt=0)
    """Factor on the query spike counts before the gate's neuron."""

    def build(self, tokens: Mapping[str, int], *, channels: int, neuron: NeuronSpec) -> FusionMethod:
        """Build the method for these modalities."""
        from snn_fusion.methods.qk import QKFusion

        return QKFusion(tuple(tokens), channels, **self.model_dump(exclude={"kind"}), neuron=neuron.build)

    def check_channels(self, channels: int) -> None:
        """Raise ValueError if the token width is not divisible by the heads."""
        _check_heads(channels, self.num_heads)

    def check_modalities(self, tokens: Mapping[str, int]) -> None:
        """Raise ValueError if the topology names unknown modalities."""
        pairs(self.topology, tuple(tokens))


@METHODS.register
class WeightAttentionSpec(MethodSpec):
    """Each modality is multiplied by one weight per time step, computed from it and the others.

    Source: the attention of Liu et al. 2022 (Event-based Multimodal Spiking Neural Network with Attention Mechanism,
    ICASSP), in the form of the baseline of S-CMRL (arXiv:2502.12488).
    """

    kind: Literal["weight_attention"] = "weight_attention"
    """Which fusion method: weight_attention, modalities are weighted, without residuals."""

    def build(self, tokens: Mapping[str, int], *, channels: int, neuron: NeuronSpec) -> FusionMethod:
        """Build the method for these modalities; it has no neurons."""
        from snn_fusion.methods.weight_attention import WeightAttention

        return WeightAttention(tuple(tokens), channels)


@METHODS.register
class SCASpec(MethodSpec):
    """Spatial cross-attention: what a modality reads replaces its tokens.

    Source: the spiking cross-attention of SMMT (Guo et al. 2023, doi:10.1109/TCDS.2023.3327081), in the form of the
    baseline of S-CMRL (arXiv:2502.12488).
    """

    makes_residuals: ClassVar[bool] = True

    kind: Literal["sca"] = "sca"
    """Which fusion method: sca, spatial cross-attention without a residual."""
    num_heads: int = Field(default=16, ge=1)
    """Attention heads; the token width must be divisible by it."""
    biased: tuple[str, ...] | None = None
    """Modalities that read with a position bias and have a square grid of tokens; none: all but the first."""
    position_bias: Literal["learned", "random"] = "learned"
    """learned, or random: drawn in every forward pass, as in the authors' code."""
    scale: Annotated[float, Field(gt=0)] = 0.25
    """Factor on the counts of coinciding spikes before the neuron."""

    def build(self, tokens: Mapping[str, int], *, channels: int, neuron: NeuronSpec) -> FusionMethod:
        """Build the method for these modalities."""
        from snn_fusion.methods.sca import SCA

        return SCA(tuple(tokens), channels, num_tokens=tokens, **self.model_dump(exclude={"kind"}), neuron=neuron.build)

    def check_channels(self, channels: int) -> None:
        """Raise ValueError if the token width is not divisible by the heads."""
        _check_heads(channels, self.num_heads)

    def check_modalities(self, tokens: Mapping[str, int]) -> None:
        """Raise ValueError if a modality with a position bias has no square grid of tokens."""
        names = tuple(tokens)
        for name in names[1:] if self.biased is None else self.biased:
            if name not in tokens:
                raise ValueError(f"fusion.biased names {name!r}, but the modalities are {', '.join(names)}")
            if len(names) > 1 and isqrt(tokens[name]) ** 2 != tokens[name]:
                raise ValueError(
                    f"{name!r} reads with a position bias, which needs a square grid of tokens, but it has "
                    f"{tokens[name]}: use a square input, or remove it from fusion.biased"
                )


@METHODS.register
class CMCISpec(MethodSpec):
    """The class is predicted from a joint representation of all modalities.

    Source: Cross-modality Current Integration (Jiang et al. 2023, doi:10.1007/978-981-99-8067-3_12), in the form of the
    baseline of S-CMRL (arXiv:2502.12488).
    """

    joint: ClassVar[bool] = True

    kind: Literal["cmci"] = "cmci"
    """Which fusion method: cmci, a joint representation, with an additional head and loss per modality."""
    mlp_expansion: int = Field(default=4, ge=1)
    """Hidden width of the joint MLP, in multiples of the token width."""

    def build(self, tokens: Mapping[str, int], *, channels: int, neuron: NeuronSpec) -> FusionMethod:
        """Build the method for these modalities."""
        from snn_fusion.methods.cmci import CMCI

        # The first modality's number of tokens, also for samples that lack it.
        count = next(iter(tokens.values()))
        return CMCI(tuple(tokens), channels, num_tokens=count, mlp_expansion=self.mlp_expansion, neuron=neuron.build)


@METHODS.register
class NoFusionSpec(MethodSpec):
    """Modalities do not read each other; they are joined only in the readout."""

    kind: Literal["none"] = "none"
    """Which fusion method: none, modalities are joined only in the readout."""

    def build(self, tokens: Mapping[str, int], *, channels: int, neuron: NeuronSpec) -> FusionMethod:
        """Build the method for these modalities."""
        from snn_fusion.methods.no_fusion import NoFusion

        return NoFusion()
