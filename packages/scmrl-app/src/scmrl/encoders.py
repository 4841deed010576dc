"""Encoders as an experiment names them: without what the data decide. Imports no PyTorch.

A model's encoder knows the shape of its input; an experiment's does not, as only the data know it. `assemble` puts both
together. Data that no encoder takes as they are, such as a grid of 10 x 10 taxels, are padded or flattened for one.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, Literal, get_args

from pydantic import ValidationError, create_model

from snn_fusion.encoders.token_counts import PATCH_STRIDE
from snn_fusion.specs.base import Registry, Spec
from snn_fusion.specs.encoders import (
    ENCODERS,
    BlocksSpec,
    EncoderSpec,
    Fittable,
    FittedSpec,
    PatchSplittingSpec,
    SeriesSpec,
    TokensSpec,
    VectorSpec,
    shape_of,
)

OF_THE_DATA = ("input_shape", "in_channels")
"""Fields of an encoder's spec that the data decide."""
FLATTENS = ("series", "vector")
"""Encoders with places along one axis or none, for which further axes are flattened."""


class EncoderOptions(Spec):
    """From a modality's raw input to tokens, whatever the shape of that input."""

    blocks: BlocksSpec = BlocksSpec(depth=0)
    """Spiking Transformer blocks after the encoder."""


class _EncoderChoice(Registry[EncoderOptions]):
    """The encoders of `snn_fusion` and of its plug-ins, each without what the data decide."""

    def specs(self) -> Mapping[str, type[EncoderOptions]]:
        for spec in ENCODERS.specs().values():
            self.offer(spec)
        return super().specs()

    def offer(self, spec: type[EncoderSpec]) -> None:
        """Make the options of one encoder, unless they are there."""
        if spec is not FittedSpec and not super()._has(spec.model_fields["kind"].default):
            fields: dict[str, Any] = {
                name: (field.annotation, field)
                for name, field in spec.model_fields.items()
                if name not in (*OF_THE_DATA, "blocks")
            }
            name = f"{spec.__name__.removesuffix('Spec')}Options"
            made = create_model(name, __base__=EncoderOptions, __doc__=spec.__doc__, __module__=__name__, **fields)
            self.register(made)

    def _has(self, kind: object) -> bool:
        if isinstance(kind, str) and not super()._has(kind):
            self.specs()  # it may be a plug-in's
        return super()._has(kind)


ENCODER_OPTIONS = _EncoderChoice("encoder", EncoderOptions, default="auto")
"""Every encoder that an experiment can name."""


@ENCODER_OPTIONS.register
class AutoOptions(EncoderOptions):
    """What suits the data: patch splitting for [C, H, W], series for [C, L], vector for [C]."""

    kind: Literal["auto"] = "auto"
    """Which encoder: auto, the one that suits the shape of the data."""


for _spec in (PatchSplittingSpec, SeriesSpec, VectorSpec, TokensSpec):
    # Those of plug-ins follow when they are asked for: importing them may take long.
    ENCODER_OPTIONS.offer(_spec)


def encoder_for(options: EncoderOptions, shape: tuple[int, ...], modality: str) -> EncoderSpec:
    """The encoder's spec for inputs of a shape, padded or flattened where it takes no such inputs.

    Images [C, H, W] are padded with zeros, evenly on both sides, to the next multiples that patch splitting needs.
    For `series`, [C, H, W] becomes [C, H W]; for `vector`, everything becomes one axis.

    Args:
        options: of any kind but auto.
        shape: axes of the input, without time and batch.
        modality: its name, for messages.

    Raises:
        ValueError: the encoder does not take inputs of so many axes, or refuses its options.
    """
    fields = options.model_dump()
    spec_type = ENCODERS.specs()[fields["kind"]]
    axes = _axes_of(spec_type)
    taken = shape
    if fields["kind"] == "patch_splitting" and len(shape) == 3:
        stride = PATCH_STRIDE[fields["depth"]]
        taken = (shape[0], *(-(-size // stride) * stride for size in shape[1:]))
    elif fields["kind"] in FLATTENS and axes is not None and len(shape) > axes:
        taken = (*shape[: axes - 1], math.prod(shape[axes - 1 :]))
    if axes is not None and len(taken) != axes:
        raise ValueError(
            f"model.modalities.{modality}.kind {fields['kind']} takes inputs of {axes} axes, but {modality} is "
            f"{list(shape)}: give auto, or a kind that suits"
        )
    known = {"in_channels": taken[0]} if "in_channels" in spec_type.model_fields else {"input_shape": taken}
    try:
        return _fitted(spec_type.model_validate({**fields, **known}), shape)
    except ValidationError as error:
        raise ValueError(f"model.modalities.{modality}: {reasons(error)}") from None


def reasons(error: ValidationError) -> str:
    """What a spec said when it refused its fields."""
    return "; ".join(str(detail.get("ctx", {}).get("error", detail["msg"])) for detail in error.errors())


def _fitted(encoder: EncoderSpec, shape: tuple[int, ...]) -> EncoderSpec:
    if shape_of(encoder) == shape:
        return encoder
    assert isinstance(encoder, Fittable)  # every other one takes the shape that it was given
    # Blocks stay outside, where the model's spec looks for them.
    inner = encoder.model_copy(update={"blocks": BlocksSpec(depth=0)})
    return FittedSpec(input_shape=shape, encoder=inner, blocks=encoder.blocks)


def _axes_of(spec_type: type[EncoderSpec]) -> int | None:
    """How many axes an encoder's input has; None where its type does not tell."""
    if "in_channels" in spec_type.model_fields:
        return 1
    field = spec_type.model_fields.get("input_shape")
    sizes = get_args(field.annotation) if field is not None else ()
    return len(sizes) if sizes and Ellipsis not in sizes else None
