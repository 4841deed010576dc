"""The whole model."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated, Literal, Self

from pydantic import Field, field_validator, model_validator

from snn_fusion.specs.alignment import ALIGNMENTS, AlignmentSpec, ClassContrastiveSpec
from snn_fusion.specs.base import Spec
from snn_fusion.specs.encoders import ENCODERS, EncoderSpec
from snn_fusion.specs.methods import METHODS, CCSSASpec, MethodSpec
from snn_fusion.specs.neurons import NEURONS, LIFSpec, NeuronSpec

if TYPE_CHECKING:
    from snn_fusion.encoders.encoder import Encoder
    from snn_fusion.model import FusionModel
    from snn_fusion.readout import Readout


class ReadoutSpec(Spec):
    """From fused tokens to class scores."""

    combine: Literal["add", "concat"] = "add"
    """How the modalities' features are joined before the linear head."""
    mlp_expansion: int = Field(default=4, ge=0)
    """Width of the spiking MLP's middle, in multiples of the token width; 0 reads tokens without an MLP."""

    def build(
        self,
        modalities: tuple[str, ...],
        *,
        channels: int,
        num_classes: int,
        neuron: NeuronSpec,
        joint: bool = False,
    ) -> Readout:
        """The readout for these modalities; `joint` predicts from the method's joint representation."""
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
    """A model without what the data decide: its modalities, their shapes and the classes."""

    channels: int = Field(default=64, ge=8, multiple_of=8)
    """Token width C, the same for every modality."""
    time_steps: int = Field(default=4, ge=1)
    """Time steps T for which a static input is shown. Inputs that have a time axis bring their own."""
    neuron: Annotated[NeuronSpec, NEURONS] = LIFSpec()
    """The neuron of every layer."""
    fusion: Annotated[MethodSpec, METHODS] = CCSSASpec()
    """How modalities read each other."""
    alignment: Annotated[AlignmentSpec, ALIGNMENTS] | None = ClassContrastiveSpec()
    """Loss that pulls the residuals of one class together across modalities; none: no such loss."""
    readout: ReadoutSpec = ReadoutSpec()
    """From fused tokens to class scores."""
    label_smoothing: float = Field(default=0.1, ge=0, lt=1)
    """Share of the target that the classification loss spreads over all classes."""
    modality_dropout: float = Field(default=0.0, ge=0, lt=1)
    """In training, each modality of a sample is taken away with this probability; one always stays."""
    init: Literal["calibrated", "calibrated_fusion", "published"] = "calibrated"
    """How firing rates start. calibrated: a batch of training data sets that of every layer before the first step (see
    `snn_fusion.calibrate`); calibrated_fusion: of the layers between modalities alone; published: none, and the
    cross-modal branch starts silent, as in the authors' code."""

    @model_validator(mode="after")
    def _fusion_fits(self) -> Self:
        self.fusion.check_channels(self.channels)
        if self.alignment is not None and not self.fusion.makes_residuals:
            raise ValueError(
                f"alignment needs residuals, and fusion.kind {self.fusion.model_dump()['kind']} makes none: set "
                "alignment to none, too"
            )
        return self


class ModelSpec(BackboneSpec):
    """A whole model: `ModelSpec(...).build()` gives a `FusionModel`."""

    encoders: Mapping[str, Annotated[EncoderSpec, ENCODERS]]
    """One encoder a modality, by the modality's name."""
    num_classes: int = Field(ge=2)
    """Classes K."""

    @field_validator("encoders")
    @classmethod
    def _names(cls, encoders: Mapping[str, EncoderSpec]) -> Mapping[str, EncoderSpec]:
        if not encoders:
            raise ValueError("a model needs at least one modality")
        for name in encoders:
            if not re.fullmatch(r"[A-Za-z][A-Za-z0-9_-]*", name):
                raise ValueError(f"a modality's name is a letter, then letters, digits, _ or -, but one is {name!r}")
        return encoders

    @model_validator(mode="after")
    def _modalities_fit(self) -> Self:
        for name, encoder in self.encoders.items():
            if encoder.blocks.depth and self.channels % encoder.blocks.num_heads:
                raise ValueError(
                    f"channels ({self.channels}) must be divisible by encoders.{name}.blocks.num_heads "
                    f"({encoder.blocks.num_heads})"
                )
        self.fusion.check_modalities({name: encoder.num_tokens for name, encoder in self.encoders.items()})
        return self

    def build(self) -> FusionModel:
        """The model, with PyTorch's default initialization; `init` says whether it is to be calibrated then."""
        from snn_fusion.model import FusionModel

        names = tuple(self.encoders)
        encoders: dict[str, Encoder] = {
            name: encoder.build(channels=self.channels, time_steps=self.time_steps, neuron=self.neuron)
            for name, encoder in self.encoders.items()
        }
        tokens = {name: encoder.num_tokens for name, encoder in self.encoders.items()}
        return FusionModel(
            encoders,
            self.fusion.build(tokens, channels=self.channels, neuron=self.neuron),
            self.readout.build(
                names,
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
