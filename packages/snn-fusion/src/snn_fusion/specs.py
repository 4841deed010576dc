"""Everything about a model that can be configured, as typed, frozen data.

Specs are plain pydantic models: they validate before any tensor exists, survive a round trip through JSON, and
`build()` the modules, which know nothing of specs. This file imports no PyTorch, so that reading, checking and
printing a spec is instant.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

if TYPE_CHECKING:
    from torch import nn

    from snn_core import LIF
    from snn_fusion.alignment import ClassContrastive
    from snn_fusion.encoders.patch_splitting import PatchSplitting
    from snn_fusion.methods import FusionMethod
    from snn_fusion.model import FusionModel
    from snn_fusion.readout import Readout


class Spec(BaseModel):
    """Frozen data that refuses unknown fields; a field's docstring is its help text."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True, validate_default=True)


class LIFSpec(Spec):
    """Leaky integrate-and-fire neurons (`snn_core.LIF`)."""

    kind: Literal["lif"] = "lif"
    """Which neuron."""
    tau: float = Field(default=2.0, ge=1)
    """Membrane time constant in time steps."""
    v_threshold: float = Field(default=1.0, gt=0)
    """Membrane potential at which the neuron fires."""
    v_reset: float | None = 0.0
    """Membrane potential after a spike; none subtracts the threshold instead (soft reset)."""
    decay_input: bool = True
    """Whether the input current, too, is divided by tau."""
    detach_reset: bool = True
    """No gradient through the spike in the reset."""
    detach_membrane: bool = True
    """No gradient through the membrane potential between time steps, as S-CMRL was published."""
    surrogate: Literal["sigmoid", "atan", "triangle", "rectangle", "fast_sigmoid", "erf"] = "sigmoid"
    """Derivative that stands in for the spike's in the backward pass."""
    slope: float = Field(default=4.0, gt=0)
    """The surrogate's slope: larger is narrower and higher."""

    def build(self) -> LIF:
        """One neuron layer."""
        from snn_core import LIF

        return LIF(**self.model_dump(exclude={"kind"}))


class PatchSplittingSpec(Spec):
    """Spiking patch splitting: convolutions that turn an image or spectrogram into tokens."""

    kind: Literal["patch_splitting"] = "patch_splitting"
    """Which encoder."""
    input_shape: tuple[int, int, int]
    """Channels, height and width of the input."""
    depth: Literal["full", "shallow"] = "full"
    """full: four stages, one token for 16 x 16 pixels; shallow: two stages, one token for 4 x 4."""

    @property
    def stride(self) -> int:
        """Pixels along a token's edge."""
        return 16 if self.depth == "full" else 4

    @property
    def num_tokens(self) -> int:
        """Tokens N."""
        return (self.input_shape[1] // self.stride) * (self.input_shape[2] // self.stride)

    @model_validator(mode="after")
    def _check(self) -> Self:
        channels, height, width = self.input_shape
        if min(self.input_shape) < 1:
            raise ValueError(f"input_shape is (channels, height, width), all at least 1, but it is {self.input_shape}")
        if height % self.stride or width % self.stride:
            smaller = " or use depth shallow (multiples of 4)" if self.depth == "full" else ""
            raise ValueError(
                f"{self.depth} patch splitting needs height and width that are multiples of {self.stride}, but "
                f"input_shape is {channels} x {height} x {width}: resize the input{smaller}"
            )
        return self

    def build(self, *, channels: int, time_steps: int, neuron: LIFSpec) -> PatchSplitting:
        """An encoder to tokens of width `channels`."""
        from snn_fusion.encoders.patch_splitting import PatchSplitting

        return PatchSplitting(
            self.input_shape[0], channels, depth=self.depth, time_steps=time_steps, neuron=neuron.build
        )


class CCSSASpec(Spec):
    """Cross-modal complementary spatiotemporal spiking attention, the residual learning of S-CMRL."""

    kind: Literal["ccssa"] = "ccssa"
    """Which fusion method: ccssa, each modality reads the others by spiking cross-attention."""
    attention: Literal["spatial", "temporal", "spatiotemporal"] = "spatiotemporal"
    """What a modality reads another over: places within a time step, time steps within a place, or both."""
    num_heads: int = Field(default=16, ge=1)
    """Attention heads; the token width must be divisible by it."""
    alpha: float = Field(default=1.5, ge=0)
    """Scale of the residual that a modality adds to itself."""
    semantic_projection: bool = True
    """Whether residuals pass a linear spiking layer into the shared semantic space before they are added."""
    head_merge: Literal["ordered", "published"] = "ordered"
    """How temporal attention joins its heads: side by side, or mixed with time as in the authors' code."""

    def build(self, modalities: tuple[str, ...], *, channels: int, neuron: LIFSpec) -> FusionMethod:
        """The method for these modalities."""
        from snn_fusion.methods.ccssa import CCSSA

        return CCSSA(modalities, channels, **self.model_dump(exclude={"kind"}), neuron=neuron.build)


class NoFusionSpec(Spec):
    """Modalities do not read each other; they meet in the readout only."""

    kind: Literal["none"] = "none"
    """Which fusion method: none, modalities meet in the readout only."""

    def build(self, modalities: tuple[str, ...], *, channels: int, neuron: LIFSpec) -> FusionMethod:
        """The method for these modalities."""
        from snn_fusion.methods import NoFusion

        return NoFusion()


FusionSpec = Annotated[CCSSASpec | NoFusionSpec, Field(discriminator="kind")]


class ClassContrastiveSpec(Spec):
    """Class-wise contrastive alignment of the residuals (SAO in the S-CMRL paper)."""

    kind: Literal["class_contrastive"] = "class_contrastive"
    """Which alignment loss."""
    temperature: float = Field(default=0.1, gt=0)
    """Divides the similarities; smaller is stricter. Published: 0.07 (CREMA-D), 0.08 (UrbanSound8K-AV)."""
    weight: float = Field(default=1.0, ge=0)
    """Factor of this loss beside the classification loss."""

    def build(self) -> ClassContrastive:
        """The loss."""
        from snn_fusion.alignment import ClassContrastive

        return ClassContrastive(temperature=self.temperature)


class ReadoutSpec(Spec):
    """From fused tokens to class scores."""

    combine: Literal["add", "concat"] = "add"
    """How the modalities' features are joined before the linear head."""
    mlp_expansion: int = Field(default=4, ge=1)
    """Width of the spiking MLP's middle, in multiples of the token width."""

    def build(self, modalities: tuple[str, ...], *, channels: int, num_classes: int, neuron: LIFSpec) -> Readout:
        """The readout for these modalities."""
        from snn_fusion.readout import Readout

        return Readout(
            modalities,
            channels,
            num_classes,
            combine=self.combine,
            mlp_expansion=self.mlp_expansion,
            neuron=neuron.build,
        )


class BackboneSpec(Spec):
    """A model without what the data decide: its modalities, their shapes and the classes."""

    channels: int = Field(default=64, ge=8, multiple_of=8)
    """Token width C, the same for every modality."""
    time_steps: int = Field(default=4, ge=1)
    """Time steps T for which a static input is shown. Inputs that have a time axis bring their own."""
    neuron: LIFSpec = LIFSpec()
    """The neuron of every layer."""
    fusion: FusionSpec = CCSSASpec()
    """How modalities read each other."""
    alignment: ClassContrastiveSpec | None = ClassContrastiveSpec()
    """Loss that pulls the residuals of one class together across modalities; none: no such loss."""
    readout: ReadoutSpec = ReadoutSpec()
    """From fused tokens to class scores."""
    label_smoothing: float = Field(default=0.1, ge=0, lt=1)
    """Share of the target that the classification loss spreads over all classes."""
    init: Literal["calibrated", "published"] = "calibrated"
    """published: the cross-modal branch starts silent, as in the authors' code; calibrated: a batch of training data
    sets the firing rate of each of its layers before the
    first step (see `snn_fusion.calibrate`)."""

    @model_validator(mode="after")
    def _fusion_fits(self) -> Self:
        if isinstance(self.fusion, CCSSASpec) and self.channels % self.fusion.num_heads:
            divisors = [h for h in range(1, self.channels + 1) if self.channels % h == 0]
            raise ValueError(
                f"channels ({self.channels}) must be divisible by fusion.num_heads ({self.fusion.num_heads}); "
                f"with these channels num_heads can be {', '.join(map(str, divisors))}"
            )
        if isinstance(self.fusion, NoFusionSpec) and self.alignment is not None:
            raise ValueError("alignment needs residuals, and fusion.kind none makes none: set alignment to none, too")
        return self


class ModelSpec(BackboneSpec):
    """A whole model: `ModelSpec(...).build()` gives a `FusionModel`."""

    encoders: Mapping[str, PatchSplittingSpec]
    """One encoder a modality, by the modality's name."""
    num_classes: int = Field(ge=2)
    """Classes K."""

    @field_validator("encoders")
    @classmethod
    def _names(cls, encoders: Mapping[str, PatchSplittingSpec]) -> Mapping[str, PatchSplittingSpec]:
        if not encoders:
            raise ValueError("a model needs at least one modality")
        for name in encoders:
            if not re.fullmatch(r"[A-Za-z][A-Za-z0-9_-]*", name):
                raise ValueError(f"a modality's name is a letter, then letters, digits, _ or -, but one is {name!r}")
        return encoders

    @model_validator(mode="after")
    def _tokens_fit(self) -> Self:
        counts = {name: encoder.num_tokens for name, encoder in self.encoders.items()}
        over_time = isinstance(self.fusion, CCSSASpec) and self.fusion.attention != "spatial"
        if over_time and len(set(counts.values())) > 1:
            shown = ", ".join(f"{name} has {count} tokens" for name, count in counts.items())
            raise ValueError(
                f"attention over time pairs tokens by place, but {shown}: give the inputs one size, or set "
                "fusion.attention to spatial"
            )
        return self

    def build(self) -> FusionModel:
        """The model, with PyTorch's default initialisation; `init` says whether it is to be calibrated then."""
        from snn_fusion.model import FusionModel

        names = tuple(self.encoders)
        encoders: dict[str, nn.Module] = {
            name: encoder.build(channels=self.channels, time_steps=self.time_steps, neuron=self.neuron)
            for name, encoder in self.encoders.items()
        }
        return FusionModel(
            encoders,
            self.fusion.build(names, channels=self.channels, neuron=self.neuron),
            self.readout.build(names, channels=self.channels, num_classes=self.num_classes, neuron=self.neuron),
            alignment=None if self.alignment is None else self.alignment.build(),
            alignment_weight=0.0 if self.alignment is None else self.alignment.weight,
            label_smoothing=self.label_smoothing,
        )
