"""Encoder options of an experiment, without the input shape. Imports no PyTorch.

An encoder spec of a model has an input shape; that of an experiment does not, because only the data know it. `assemble`
combines both. Inputs that no encoder accepts, such as a grid of 10 x 10 taxels, are padded or flattened.
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

SHAPE_FIELDS = ("input_shape", "in_channels")
"""Fields of an encoder spec that the data determine."""
FLATTENING_KINDS = ("series", "vector")
"""Encoders with at most one spatial axis, for which further axes are flattened."""


class EncoderOptions(Spec):
    """An encoder from a modality's raw input of any shape to tokens."""

    blocks: BlocksSpec = BlocksSpec(depth=0)
    """Spiking Transformer blocks after the encoder."""


class _EncoderChoice(Registry[EncoderOptions]):
    """The encoders of `snn_fusion` and of its plug-ins, without the shape fields."""

    def specs(self) -> Mapping[str, type[EncoderOptions]]:
        for spec in ENCODERS.specs().values():
            self.offer(spec)
        return super().specs()

    def offer(self, spec: type[EncoderSpec]) -> None:
        """Register the options of one encoder unless they are registered."""
        if spec is not FittedSpec and not super()._has(spec.model_fields["kind"].default):
            fields: dict[str, Any] = {
                name: (field.annotation, field)
                for name, field in spec.model_fields.items()
                if name not in (*SHAPE_FIELDS, "blocks")
            }
            name = f"{spec.__name__.removesuffix('Spec')}Options"
            self.register(
                create_model(name, __base__=EncoderOptions, __doc__=spec.__doc__, __module__=__name__, **fields)
            )

    def _has(self, kind: object) -> bool:
        if isinstance(kind, str) and not super()._has(kind):
            self.specs()  # loads plug-ins, which may have it
        return super()._has(kind)


ENCODER_OPTIONS = _EncoderChoice("encoder", EncoderOptions, default="auto")
"""Every encoder that an experiment can name."""


@ENCODER_OPTIONS.register
class AutoOptions(EncoderOptions):
    """The encoder that fits the data: patch splitting for [C, H, W], series for [C, L], vector for [C]."""

    kind: Literal["auto"] = "auto"
    """Kind of encoder; auto: the one that fits the shape of the data."""


for _spec in (PatchSplittingSpec, SeriesSpec, VectorSpec, TokensSpec):
    # Plug-ins are loaded on demand: importing them may take long.
    ENCODER_OPTIONS.offer(_spec)


def encoder_for(options: EncoderOptions, shape: tuple[int, ...], modality: str) -> EncoderSpec:
    """Build the encoder spec for an input shape, padding or flattening inputs that the encoder does not accept.

    Images [C, H, W] are zero-padded, evenly on both sides, to the next multiples that patch splitting needs. For
    `series`, [C, H, W] becomes [C, H W]; for `vector`, all axes are flattened.

    Args:
        options: of any kind but auto.
        shape: input shape, without time and batch.
        modality: its name, for messages.

    Raises:
        ValueError: the encoder does not accept this number of axes, or an option is invalid.
    """
    fields = options.model_dump()
    spec_type = ENCODERS.specs()[fields["kind"]]
    axes = _axes_of(spec_type)
    encoder_shape = shape
    if fields["kind"] == "patch_splitting" and len(shape) == 3:
        stride = PATCH_STRIDE[fields["depth"]]
        encoder_shape = (shape[0], *(-(-size // stride) * stride for size in shape[1:]))
    elif fields["kind"] in FLATTENING_KINDS and axes is not None and len(shape) > axes:
        encoder_shape = (*shape[: axes - 1], math.prod(shape[axes - 1 :]))
    if axes is not None and len(encoder_shape) != axes:
        raise ValueError(
            f"model.modalities.{modality}.kind {fields['kind']} accepts inputs with {axes} axes, but {modality} is "
            f"{list(shape)}: use auto, or a kind that fits"
        )
    is_vector = "in_channels" in spec_type.model_fields
    shape_fields = {"in_channels": encoder_shape[0]} if is_vector else {"input_shape": encoder_shape}
    try:
        return _fit(spec_type.model_validate({**fields, **shape_fields}), shape)
    except ValidationError as error:
        raise ValueError(f"model.modalities.{modality}: {validation_reasons(error)}") from None


def validation_reasons(error: ValidationError) -> str:
    """The messages of a validation error, in one line."""
    return "; ".join(str(detail.get("ctx", {}).get("error", detail["msg"])) for detail in error.errors())


def _fit(encoder: EncoderSpec, shape: tuple[int, ...]) -> EncoderSpec:
    """Wrap the encoder in a FittedSpec if its input shape differs from the data's."""
    if shape_of(encoder) == shape:
        return encoder
    assert isinstance(encoder, Fittable)  # all others have the shape of the data
    # Blocks stay in the outer spec, where the model spec expects them.
    inner = encoder.model_copy(update={"blocks": BlocksSpec(depth=0)})
    return FittedSpec(input_shape=shape, encoder=inner, blocks=encoder.blocks)


def _axes_of(spec_type: type[EncoderSpec]) -> int | None:
    """Number of axes of an encoder's input; None if its type does not determine it."""
    if "in_channels" in spec_type.model_fields:
        return 1
    field = spec_type.model_fields.get("input_shape")
    sizes = get_args(field.annotation) if field is not None else ()
    return len(sizes) if sizes and Ellipsis not in sizes else None
