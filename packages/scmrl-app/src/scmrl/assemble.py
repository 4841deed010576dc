"""Where data and models meet: the only file that knows both libraries."""

from __future__ import annotations

import math

from pydantic import ValidationError

from scmrl.encoders import ENCODER_OPTIONS, AutoOptions, EncoderOptions, encoder_for, reasons
from scmrl.experiment import ModelOptions
from snn_datasets import DatasetInfo
from snn_fusion import BackboneSpec, ModelSpec

FULL_FROM = 64
"""Pixels from which `auto` chooses full patch splitting: below, it would leave fewer than 16 tokens."""
SERIES_STAGES = 4
"""Stages of the series encoder that `auto` chooses for windows of up to 1,024 values."""
SERIES_TOKENS = 64
"""Most tokens that `auto` makes of a window."""


def model_spec(options: ModelOptions, info: DatasetInfo) -> ModelSpec:
    """The whole model for a dataset: one encoder a modality, one class a class.

    `options.modalities` chooses the encoders. For auto, and for modalities that it does not name: [C, H, W] becomes
    tokens by patch splitting, padded to the size that it needs; [C, L] by series; [C], with time steps or without, by
    vector.

    Raises:
        ValueError: an encoder that does not suit the shape of a modality, a modality that the data have and the model
            leaves out, time steps of the data and the model that differ, or a model that does not fit together.
    """
    for name, encoder in options.modalities.items():
        # An encoder for a sense that is not read now is no mistake: another comparison reads it.
        if encoder is None and name in info.modalities:
            raise ValueError(f"model.modalities.{name} is none, but the data have it: leave it out of data.modalities")
    timed = {name: modality.time_steps for name, modality in info.modalities.items() if modality.time_steps is not None}
    for name, steps in timed.items():
        if steps != options.time_steps:
            raise ValueError(
                f"{name} has {steps} time steps, but the model {options.time_steps}: set --model.time_steps {steps}, "
                f"or --data.time_steps {options.time_steps}"
            )
    encoders = {name: encoder_for(_chosen(options, name, shape), shape, name) for name, shape in info.shapes.items()}
    try:
        return ModelSpec(
            encoders=encoders,
            num_classes=len(info.classes),
            **{name: getattr(options, name) for name in BackboneSpec.model_fields},
        )
    except ValidationError as error:
        raise ValueError(reasons(error)) from None


def _chosen(options: ModelOptions, name: str, shape: tuple[int, ...]) -> EncoderOptions:
    """The encoder that was asked for, or the one that suits."""
    asked = options.modalities.get(name) or AutoOptions()
    if not isinstance(asked, AutoOptions):
        return asked
    if len(shape) == 3:
        size = "full" if min(shape[1:]) >= FULL_FROM else "shallow"
        depth = size if options.patch_splitting == "auto" else options.patch_splitting
        return ENCODER_OPTIONS.parse({"kind": "patch_splitting", "depth": depth, "blocks": asked.blocks})
    if len(shape) == 1:
        return ENCODER_OPTIONS.parse({"kind": "vector", "blocks": asked.blocks})
    if len(shape) == 2:
        # Each stage halves the length; a long window needs more of them to become a number of tokens that is practical.
        stages = max(SERIES_STAGES, math.ceil(math.log2(shape[1] / SERIES_TOKENS)))
        return ENCODER_OPTIONS.parse({"kind": "series", "num_stages": stages, "blocks": asked.blocks})
    raise ValueError(
        f"{name} has inputs of {len(shape)} axes, {list(shape)}; there are encoders for [channels], "
        f"[channels, length] and [channels, height, width]"
    )
