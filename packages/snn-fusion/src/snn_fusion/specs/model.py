"""The spec of a whole model."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated, Literal, Self

from pydantic import Field, ValidationInfo, field_validator, model_validator

from snn_fusion.specs.alignment import ALIGNMENTS, AlignmentSpec, ClassContrastiveSpec
from snn_fusion.specs.encoders import ENCODERS, AutoSpec, EncoderSpec
from snn_fusion.specs.methods import METHODS, CCSSASpec, MethodSpec
from snn_fusion.specs.neurons import NEURONS, LIFSpec, NeuronSpec
from snn_fusion.specs.spec import Spec

if TYPE_CHECKING:
    from snn_fusion.encoders.encoder import Encoder
    from snn_fusion.model import FusionModel
    from snn_fusion.readout import Readout


class ReadoutSpec(Spec):
    """From fused tokens to class scores."""

    combine: Literal["add", "concat"] = "add"
    """How the modalities' features are joined before the linear head."""
    mlp_expansion: int = Field(default=4, ge=0)
    """Hidden width of the spiking MLP, in multiples of the token width; 0 omits the MLP."""

    def build(
        self,
        modalities: tuple[str, ...],
        *,
        channels: int,
        num_classes: int,
        neuron: NeuronSpec,
        joint: bool = False,
    ) -> Readout:
        """Build the readout of these modalities; `joint` predicts from the method's joint representation."""
        from snn_fusion.readout import Readout

        return Readout(
            modalities,
            channels,
            num_classes,
            combine=self.combine,
            mlp_expansion=self.mlp_expansion,
            joint=joint,
            neuron=neuron.build,
        )


class BackboneSpec(Spec):
    """A model without what depends on the data: its modalities, their shapes and the classes."""

    channels: int = Field(default=64, ge=8, multiple_of=8)
    """Token width C, the same for every modality."""
    time_steps: int = Field(default=4, ge=1)
    """Time steps T for static inputs; inputs with a time axis determine T themselves."""
    neuron: Annotated[NeuronSpec, NEURONS] = LIFSpec()
    """The neuron of every layer."""
    fusion: Annotated[MethodSpec, METHODS] = CCSSASpec()
    """How modalities read each other."""
    alignment: Annotated[AlignmentSpec, ALIGNMENTS] | None = ClassContrastiveSpec()
    """Loss that aligns the residuals of one class across modalities; none: no such loss."""
    readout: ReadoutSpec = ReadoutSpec()
    """From fused tokens to class scores."""
    label_smoothing: float = Field(default=0.1, ge=0, lt=1)
    """Fraction of the target that the classification loss spreads over all classes."""
    modality_dropout: float = Field(default=0.0, ge=0, lt=1)
    """Probability in training of dropping each modality of a sample; at least one remains."""
    init: Literal["calibrated", "calibrated_fusion", "uncalibrated"] = "calibrated"
    """Initial firing rates. calibrated: every layer is calibrated on a batch of training data before the first step
    (see `snn_fusion.calibrate`); calibrated_fusion: only the layers between modalities; uncalibrated: PyTorch's default
    initialization, with which the cross-modal branch starts silent, as in the authors' code."""

    @model_validator(mode="after")
    def _check_fusion(self) -> Self:
        self.fusion.check_channels(self.channels)
        if self.alignment is not None and not self.fusion.makes_residuals:
            raise ValueError(
                f"alignment needs residuals, but fusion.kind {self.fusion.model_dump()['kind']} has none: set "
                "alignment to none as well"
            )
        return self


class ModelSpec(BackboneSpec):
    """A whole model: `ModelSpec(...).build()` returns a `FusionModel`."""

    input_shapes: Mapping[str, tuple[int, ...]]
    """Shape of each modality's input, without time and batch: [channels, height, width], [channels, samples], [values]
    or [tokens, width]."""
    encoders: Mapping[str, Annotated[EncoderSpec, ENCODERS]] = Field(default_factory=dict)
    """Encoder of each modality; by default the one that suits its shape."""
    num_classes: int = Field(ge=2)
    """Classes K."""
    fit_inputs: bool = False
    """Zero-pad or flatten inputs whose shape their encoder does not accept, instead of refusing them."""

    @field_validator("input_shapes")
    @classmethod
    def _check_names(cls, input_shapes: Mapping[str, tuple[int, ...]]) -> Mapping[str, tuple[int, ...]]:
        if not input_shapes:
            raise ValueError("a model needs at least one modality")
        for name in input_shapes:
            if not re.fullmatch(r"[A-Za-z][A-Za-z0-9_-]*", name):
                raise ValueError(f"a modality's name is a letter, then letters, digits, _ or -, but one is {name!r}")
        return input_shapes

    @field_validator("encoders")
    @classmethod
    def _resolve_encoders(cls, encoders: Mapping[str, EncoderSpec], info: ValidationInfo) -> Mapping[str, EncoderSpec]:
        shapes: Mapping[str, tuple[int, ...]] | None = info.data.get("input_shapes")
        if shapes is None:  # which is a fault itself
            return encoders
        for name in encoders:
            if name not in shapes:
                raise ValueError(f"encoders.{name}: input_shapes has no {name}, but {', '.join(shapes)}")
        resolved: dict[str, EncoderSpec] = {}
        for name, shape in shapes.items():
            try:
                resolved[name] = encoders.get(name, AutoSpec()).resolve(shape)
            except ValueError as error:
                raise ValueError(f"input_shapes.{name}: {error}") from None
        return resolved

    @model_validator(mode="after")
    def _check_modalities(self) -> Self:
        for name, encoder in self.encoders.items():
            if encoder.blocks.depth and self.channels % encoder.blocks.num_heads:
                raise ValueError(
                    f"channels ({self.channels}) must be divisible by encoders.{name}.blocks.num_heads "
                    f"({encoder.blocks.num_heads})"
                )
        self.fusion.check_modalities(self.num_tokens)
        return self

    @property
    def num_tokens(self) -> dict[str, int]:
        """Tokens N of each modality.

        Raises:
            ValueError: a shape that its encoder does not accept.
        """
        tokens: dict[str, int] = {}
        for name, encoder in self.encoders.items():
            shape = self.input_shapes[name]
            try:
                tokens[name] = encoder.count_tokens(encoder.fitted_shape(shape) if self.fit_inputs else shape)
            except ValueError as error:
                raise ValueError(f"input_shapes.{name}: {error}") from None
        return tokens

    def build(self) -> FusionModel:
        """Build the model with PyTorch's default initialization; `init` says whether to calibrate it afterward."""
        from snn_fusion.model import FusionModel

        encoders: dict[str, Encoder] = {
            name: encoder.build(
                self.input_shapes[name],
                channels=self.channels,
                time_steps=self.time_steps,
                neuron=self.neuron,
                fit=self.fit_inputs,
            )
            for name, encoder in self.encoders.items()
        }
        return FusionModel(
            encoders,
            self.fusion.build(self.num_tokens, channels=self.channels, neuron=self.neuron),
            self.readout.build(
                tuple(self.encoders),
                channels=self.channels,
                num_classes=self.num_classes,
                neuron=self.neuron,
                joint=self.fusion.joint,
            ),
            alignment=None if self.alignment is None else self.alignment.build(),
            alignment_weight=0.0 if self.alignment is None else self.alignment.weight,
            label_smoothing=self.label_smoothing,
            modality_dropout=self.modality_dropout,
        )
