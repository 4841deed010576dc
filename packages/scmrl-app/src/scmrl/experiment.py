"""Everything that decides a run, as one typed, frozen value. Imports no PyTorch: help and checks are instant."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import Field, field_validator, model_validator

from scmrl.encoders import ENCODER_OPTIONS, EncoderOptions
from scmrl.overlay.faults import did_you_mean
from snn_datasets import AnyDataSpec, DigitsSpec
from snn_fusion.specs import BackboneSpec, Spec


class ModelOptions(BackboneSpec):
    """The model without what the data decide: modalities, their shapes, classes."""

    patch_splitting: Literal["auto", "full", "shallow"] = "auto"
    """How images become tokens where nothing else is said. full: one token for 16 x 16 pixels; shallow: one for 4 x 4;
    auto: full from 64 x 64 pixels on."""
    modalities: dict[str, Annotated[EncoderOptions, ENCODER_OPTIONS] | None] = Field(default_factory=dict)
    """Encoders by modality, in place of those that suit the data; none leaves the modality out."""


class TrainSpec(Spec):
    """How the model is trained: AdamW with linear warm-up and cosine decay."""

    epochs: int = Field(default=20, ge=1)
    """Passes over the training data."""
    batch_size: int = Field(default=32, ge=2)
    """Samples per optimiser step, over all processes; an incomplete last batch is left out of an epoch's training."""
    accumulate: int = Field(default=1, ge=1)
    """Parts that a step's batch is computed in, one after the other, to save memory; batch norm and alignment see one
    part at a time."""
    learning_rate: float = Field(default=2e-2, gt=0)
    """Highest learning rate, reached after the warm-up."""
    learning_rate_batch: int | None = Field(default=None, ge=1)
    """Batch size that learning_rate is meant for: it is scaled by batch_size over this (1024 as published); none: it
    is taken as it is."""
    final_learning_rate: float = Field(default=1e-5, ge=0)
    """Learning rate at the end of the cosine decay."""
    warmup_epochs: float = Field(default=2.0, ge=0)
    """Epochs over which the learning rate rises linearly from 1e-6."""
    weight_decay: float = Field(default=1e-2, ge=0)
    """AdamW's weight decay; applies to tensors of two or more dimensions only."""
    gradient_clip: float = Field(default=5.0, ge=0)
    """Largest norm of the gradient; 0 does not clip."""
    precision: Literal["float32", "bfloat16", "float16"] = "float32"
    """What matrix products and convolutions are computed in; membrane potentials stay float32."""
    average: float = Field(default=0.0, ge=0, lt=1)
    """Decay, per step, of the exponential moving average of the weights that is evaluated and kept; 0 keeps the weights
    themselves."""
    class_weights: Literal["none", "balanced"] = "none"
    """balanced: a class counts in the loss as if all had as many training samples."""
    patience: int | None = Field(default=None, ge=1)
    """Epochs without a better one after which training stops early; none: never."""
    selection: Literal["validation", "published"] = "validation"
    """Which split selects the epoch that is kept. published: the test split, as the authors' code does; what it then
    says of the test split is no estimate for new data, and every table says so."""
    augment_shift: float = Field(default=0.1, ge=0, lt=1)
    """Pictures (images, spectrograms, event frames) are moved at random by up to this share of height and width in
    training."""
    augment_scale: float = Field(default=0.12, ge=0, lt=1)
    """Pictures are stretched at random along each axis by up to this share in training."""
    noise_snr_db: tuple[float, float] | None = None
    """White Gaussian noise on every sense in training, drawn anew each epoch: power of the sense in its sample over
    power of the noise in dB, at random between these two; none: no noise."""
    share: float = Field(default=1.0, gt=0, le=1)
    """Share of the training samples to train on, the same of every class and at least one; which ones, the seed
    decides, and a smaller share is part of a larger one."""
    calibration_samples: int = Field(default=256, ge=16)
    """Training samples that set the firing rates before the first step, with model.init calibrated."""
    target_rate: float = Field(default=0.2, gt=0, lt=1)
    """Firing rate that calibration aims at, as a share of neurons and time steps."""
    workers: int = Field(default=0, ge=0, le=256)
    """Processes that read training samples, for each process that trains; 0 reads in the training process."""
    device: str = "auto"
    """Where to train: auto (a GPU if there is one), cpu, cuda, cuda:1, ..."""
    parallel: Literal["ddp", "fsdp"] = "ddp"
    """How processes started by torchrun share the model: ddp, each holds it all; fsdp, each holds a part of its
    parameters and of the optimiser's state."""
    synchronise_batch_norm: bool = True
    """Whether batch norm takes its statistics over all processes, so that their number changes nothing."""
    checkpoint_minutes: float = Field(default=10.0, gt=0)
    """Longest time between checkpoints; there is one after each epoch, too."""
    wandb: str | None = None
    """Weights & Biases project to report to as well; none: metrics.jsonl and TensorBoard alone."""

    @field_validator("noise_snr_db")
    @classmethod
    def _lower_first(cls, bounds: tuple[float, float] | None) -> tuple[float, float] | None:
        if bounds is not None and bounds[0] > bounds[1]:
            raise ValueError(f"the lower ratio comes first: {bounds[1]:g},{bounds[0]:g}")
        return bounds


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
    resume: bool = False
    """Go on with the run in `out` from its last checkpoint, to the same end as if it had not stopped; start it if it
    has none yet."""

    @model_validator(mode="after")
    def _read_what_is_encoded(self) -> Self:
        """Senses that the model leaves out are not read either, so that whoever sees the data sees what was used."""
        known, chosen = tuple(self.data.card().modalities), self.data.chosen()
        for name in self.model.modalities:
            if known and name not in known:
                raise ValueError(
                    f"model.modalities.{name}: the data have no such modality{did_you_mean(name, known)}; there are: "
                    f"{', '.join(known)}"
                )
        left_out = [name for name, encoder in self.model.modalities.items() if encoder is None]
        if left_out and not chosen:
            raise ValueError(
                f"model.modalities.{left_out[0]} is none, but only the files know what else there is: name the "
                "modalities to read in data.modalities"
            )
        rest = tuple(name for name in chosen if name not in left_out)
        if chosen and not rest:
            raise ValueError(f"model.modalities leaves out all that is read: {', '.join(chosen)}; keep one")
        if rest != chosen:
            # The experiment is frozen for everyone else.
            object.__setattr__(self, "data", self.data.model_copy(update={"modalities": rest}))
            self.model_fields_set.add("data")
        return self
