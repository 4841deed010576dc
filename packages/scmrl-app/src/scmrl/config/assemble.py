"""Build a model spec for a dataset: the only module that imports both libraries' specs."""

from __future__ import annotations

from pydantic import ValidationError

from scmrl.config.experiment import ModelOptions
from snn_datasets import DatasetInfo
from snn_fusion import AutoSpec, BackboneSpec, ModelSpec


def model_spec(options: ModelOptions, info: DatasetInfo) -> ModelSpec:
    """Build the model spec for a dataset: one encoder per modality, one logit per class.

    `options.encoders` selects the encoders. For auto, and for modalities that it does not name: patch splitting for
    [C, H, W], padded to the required size; series for [C, L]; vector for [C], with or without time steps.

    Raises:
        ValueError: an encoder does not accept the shape of a modality, the data have a modality that the model
            excludes, time steps of data and model differ, or the model spec is invalid.
    """
    for name, encoder in options.encoders.items():
        # An encoder for a modality that is not read is valid: an ablation may read it in another run.
        if encoder is None and name in info.modalities:
            raise ValueError(f"model.encoders.{name} is none, but the data have it: remove it from data.modalities")
    timed = {name: modality.time_steps for name, modality in info.modalities.items() if modality.time_steps is not None}
    for name, steps in timed.items():
        if steps != options.time_steps:
            raise ValueError(
                f"{name} has {steps} time steps, but the model has {options.time_steps}: set --model.time_steps "
                f"{steps}, or --data.time_steps {options.time_steps}"
            )
    encoders = {name: options.encoders.get(name) or AutoSpec() for name in info.shapes}
    for name, encoder in encoders.items():
        try:
            encoder.count_tokens(encoder.fitted_shape(info.shapes[name]))
        except ValueError as error:
            raise ValueError(f"model.encoders.{name}: {error}; use auto or another kind") from None
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
