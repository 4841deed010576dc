"""Build a model spec for a dataset: the only module that imports both libraries' specs."""

from __future__ import annotations

import math

from pydantic import ValidationError

from scmrl.config.encoders import ENCODER_OPTIONS, AutoOptions, EncoderOptions, encoder_for, validation_reasons
from scmrl.config.experiment import ModelOptions
from snn_datasets import DatasetInfo
from snn_fusion import BackboneSpec, ModelSpec

FULL_FROM = 64
"""Smallest side in pixels for which `auto` selects full patch splitting: below, it would leave fewer than 16 tokens."""
SERIES_STAGES = 4
"""Stages of the series encoder that `auto` selects for windows of up to 1,024 values."""
SERIES_TOKENS = 64
"""Most tokens that `auto` produces from a window."""


def model_spec(options: ModelOptions, info: DatasetInfo) -> ModelSpec:
    """Build the model spec for a dataset: one encoder per modality, one logit per class.

    `options.modalities` selects the encoders. For auto, and for modalities that it does not name: patch splitting for
    [C, H, W], padded to the required size; series for [C, L]; vector for [C], with or without time steps.

    Raises:
        ValueError: an encoder does not accept the shape of a modality, the data have a modality that the model
            excludes, time steps of data and model differ, or the model spec is invalid.
    """
    for name, encoder in options.modalities.items():
        # An encoder for a modality that is not read is valid: an ablation may read it in another run.
        if encoder is None and name in info.modalities:
            raise ValueError(f"model.modalities.{name} is none, but the data have it: remove it from data.modalities")
    timed = {name: modality.time_steps for name, modality in info.modalities.items() if modality.time_steps is not None}
    for name, steps in timed.items():
        if steps != options.time_steps:
            raise ValueError(
                f"{name} has {steps} time steps, but the model has {options.time_steps}: set --model.time_steps "
                f"{steps}, or --data.time_steps {options.time_steps}"
            )
    encoders = {
        name: encoder_for(_select_encoder(options, name, shape), shape, name) for name, shape in info.shapes.items()
    }
    try:
        return ModelSpec(
            encoders=encoders,
            num_classes=len(info.classes),
            **{name: getattr(options, name) for name in BackboneSpec.model_fields},
        )
    except ValidationError as error:
        raise ValueError(validation_reasons(error)) from None


def _select_encoder(options: ModelOptions, name: str, shape: tuple[int, ...]) -> EncoderOptions:
    """The specified encoder, or for auto the one that fits the shape."""
    specified = options.modalities.get(name) or AutoOptions()
    if not isinstance(specified, AutoOptions):
        return specified
    if len(shape) == 3:
        size = "full" if min(shape[1:]) >= FULL_FROM else "shallow"
        depth = size if options.patch_splitting == "auto" else options.patch_splitting
        return ENCODER_OPTIONS.parse({"kind": "patch_splitting", "depth": depth, "blocks": specified.blocks})
    if len(shape) == 1:
        return ENCODER_OPTIONS.parse({"kind": "vector", "blocks": specified.blocks})
    if len(shape) == 2:
        # Each stage halves the length; a long window needs more stages to give a practical number of tokens.
        stages = max(SERIES_STAGES, math.ceil(math.log2(shape[1] / SERIES_TOKENS)))
        return ENCODER_OPTIONS.parse({"kind": "series", "num_stages": stages, "blocks": specified.blocks})
    raise ValueError(
        f"{name} has inputs with {len(shape)} axes, {list(shape)}; encoders accept [channels], "
        f"[channels, length] or [channels, height, width]"
    )
