"""Build a model spec for a dataset: the only module that imports both libraries' specs."""

from __future__ import annotations

from pydantic import ValidationError

from scmrl.config.experiment import ModelOptions
from snn_datasets import DatasetInfo
from snn_fusion import AutoSpec, BackboneSpec, EncoderSpec, ModelSpec, PatchSplittingSpec


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
    encoders = {name: _select_encoder(options, name, shape) for name, shape in info.shapes.items()}
    try:
        return ModelSpec(
            input_shapes=info.shapes,
            encoders=encoders,
            num_classes=len(info.classes),
            fit_inputs=any(encoders[name].fitted_shape(shape) != shape for name, shape in info.shapes.items()),
            **{name: getattr(options, name) for name in BackboneSpec.model_fields},
        )
    except ValidationError as error:
        reasons = [str(detail.get("ctx", {}).get("error", detail["msg"])) for detail in error.errors()]
        raise ValueError("; ".join(reasons)) from None


def _select_encoder(options: ModelOptions, name: str, shape: tuple[int, ...]) -> EncoderSpec:
    """The specified encoder, or for auto the one that fits the shape."""
    encoder = options.modalities.get(name) or AutoSpec()
    if isinstance(encoder, AutoSpec) and options.patch_splitting != "auto" and len(shape) == 3:
        encoder = PatchSplittingSpec(depth=options.patch_splitting, blocks=encoder.blocks)
    try:
        encoder = encoder.resolve(shape)
        encoder.count_tokens(encoder.fitted_shape(shape))
    except ValueError as error:
        raise ValueError(f"model.modalities.{name}: {error}; use auto or another kind") from None
    return encoder
