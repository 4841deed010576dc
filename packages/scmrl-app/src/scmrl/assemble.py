"""Where data and models meet: the only file that knows both libraries."""

from __future__ import annotations

from typing import Literal

from scmrl.experiment import ModelOptions
from snn_datasets import DatasetInfo
from snn_fusion import ModelSpec, PatchSplittingSpec

FULL_FROM = 64
"""Pixels from which `auto` chooses full patch splitting: below, it would leave fewer than 16 tokens."""


def model_spec(options: ModelOptions, info: DatasetInfo) -> ModelSpec:
    """The whole model for a dataset: one encoder a modality, one class a class.

    Raises:
        ValueError: a modality is no image or spectrogram, or its size does not suit the patch splitting.
    """
    return ModelSpec(
        encoders={name: _encoder(options.patch_splitting, name, shape) for name, shape in info.shapes.items()},
        num_classes=len(info.classes),
        **{name: getattr(options, name) for name in type(options).model_fields if name != "patch_splitting"},
    )


def _encoder(
    splitting: Literal["auto", "full", "shallow"], modality: str, shape: tuple[int, ...]
) -> PatchSplittingSpec:
    if len(shape) != 3:
        raise ValueError(f"modality {modality!r} has shape {shape}; patch splitting needs (channels, height, width)")
    channels, height, width = shape
    if splitting == "auto":
        splitting = "full" if min(height, width) >= FULL_FROM else "shallow"
    return PatchSplittingSpec(input_shape=(channels, height, width), depth=splitting)
