"""Everything that decides a run, as one typed, frozen value. Imports no PyTorch: help and checks are instant."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from pydantic import Field

from snn_datasets import AnyDataSpec, DigitsSpec
from snn_fusion.specs import BackboneSpec, Spec


class ModelOptions(BackboneSpec):
    """The model without what the data decide: modalities, their shapes, classes."""

    patch_splitting: Literal["auto", "full", "shallow"] = "auto"
    """How inputs become tokens. full: one token for 16 x 16 pixels; shallow: one for 4 x 4; auto: full from 64 x 64
    pixels on."""


class TrainSpec(Spec):
    """How the model is trained: AdamW with linear warm-up and cosine decay."""

    epochs: int = Field(default=20, ge=1)
    """Passes over the training data."""
    batch_size: int = Field(default=32, ge=2)
    """Samples per step; an incomplete last batch is left out of an epoch's training."""
    learning_rate: float = Field(default=2e-2, gt=0)
    """Highest learning rate, reached after the warm-up."""
    final_learning_rate: float = Field(default=1e-5, ge=0)
    """Learning rate at the end of the cosine decay."""
    warmup_epochs: float = Field(default=2.0, ge=0)
    """Epochs over which the learning rate rises linearly from 1e-6."""
    weight_decay: float = Field(default=1e-2, ge=0)
    """AdamW's weight decay; applies to tensors of two or more dimensions only."""
    augment_shift: float = Field(default=0.1, ge=0, lt=1)
    """Training inputs are moved at random by up to this share of their height and width."""
    augment_scale: float = Field(default=0.12, ge=0, lt=1)
    """Training inputs are stretched at random along each axis by up to this share."""
    gradient_clip: float = Field(default=5.0, ge=0)
    """Largest norm of the gradient; 0 does not clip."""
    calibration_samples: int = Field(default=256, ge=16)
    """Training samples that set the firing rates before the first step, with model.init calibrated."""
    target_rate: float = Field(default=0.2, gt=0, lt=1)
    """Firing rate that calibration aims at, as a share of neurons and time steps."""
    device: str = "auto"
    """Where to train: auto (a GPU if there is one), cpu, cuda, cuda:1, ..."""


class Experiment(Spec):
    """One training run."""

    data: AnyDataSpec = DigitsSpec()
    """What to train on."""
    model: ModelOptions = ModelOptions()
    """What to train."""
    train: TrainSpec = TrainSpec()
    """How to train it."""
    seed: int = Field(default=0, ge=0, lt=2**32)
    """Decides the initial weights and the order of the samples; the data have a seed of their own."""
    out: Path | None = None
    """Folder of the run, new or empty; none: runs/<date>-<time>-<data>-<modalities>."""
