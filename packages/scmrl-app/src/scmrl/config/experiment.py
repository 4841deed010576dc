"""All settings of a run as one typed, frozen value. Imports no PyTorch: help and checks are instant."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import Field, field_validator, model_validator

from scmrl.config.overlay.faults import did_you_mean
from snn_datasets import AnyDataSpec, DigitsSpec
from snn_fusion import ENCODERS, BackboneSpec, EncoderSpec, Spec


class ModelOptions(BackboneSpec):
    """The model without what the data determine: modalities, their shapes, classes."""

    encoders: dict[str, Annotated[EncoderSpec, ENCODERS] | None] = Field(default_factory=dict)
    """Encoders by modality, in place of the automatic ones; none excludes the modality."""


EPOCHS, BATCH_SIZE, WARMUP_EPOCHS = 20, 32, 2.0
"""Values of `auto` from 512 training samples on."""
SHIFT, SCALE = 0.1, 0.12
"""Values of `auto` for augmentation for data that do not augment."""
AUTO_FIELDS = ("epochs", "batch_size", "warmup_epochs", "augment_shift", "augment_scale")
"""Fields of TrainSpec that may be `auto`; a run stores the numbers in place of it."""
MANY_SAMPLES = 10**6
"""A number of training samples for which `auto` gives its values for large datasets."""
SMALLEST_BATCH = 4
"""Batch norm and the alignment loss need several samples."""
STEPS_PER_EPOCH, STEPS, WARMUP_STEPS = 16, 600, 60
"""Fewest optimizer steps that `auto` aims at: per epoch, in total, and in the warm-up."""


@dataclass(frozen=True)
class Schedule:
    """Epochs, batch size and warm-up of a run, with `auto` resolved."""

    epochs: int
    batch_size: int
    warmup_epochs: float


class TrainSpec(Spec):
    """Training: AdamW with linear warm-up and cosine decay."""

    epochs: Annotated[int, Field(ge=1)] | Literal["auto"] = "auto"
    """Passes over the training data. auto: 20, or more to reach 600 optimizer steps."""
    batch_size: Annotated[int, Field(ge=2)] | Literal["auto"] = "auto"
    """Samples per optimizer step, over all processes. auto: 32, or less (16, 8, 4) to reach 16 steps per epoch. An
    incomplete last batch is dropped; the order of samples changes every epoch."""
    accumulate: int = Field(default=1, ge=1)
    """Number of parts that a batch is split into to save memory (gradient accumulation); batch norm and alignment use
    one part at a time."""
    learning_rate: float = Field(default=2e-2, gt=0)
    """Peak learning rate, reached after the warm-up."""
    learning_rate_batch: int | None = Field(default=None, ge=1)
    """Reference batch size: learning_rate is multiplied by batch_size over this (1024 as published); none: no
    scaling."""
    final_learning_rate: float = Field(default=1e-5, ge=0)
    """Learning rate at the end of the cosine decay."""
    warmup_epochs: Annotated[float, Field(ge=0)] | Literal["auto"] = "auto"
    """Epochs over which the learning rate rises linearly from 1e-6. auto: 2, or more to reach 60 steps, at most two
    thirds of all epochs."""
    weight_decay: float = Field(default=1e-2, ge=0)
    """AdamW's weight decay, for tensors with two or more dimensions only."""
    gradient_clip: float = Field(default=5.0, ge=0)
    """Largest norm of the gradient; 0 does not clip."""
    precision: Literal["float32", "bfloat16", "float16"] = "float32"
    """Precision of matrix products and convolutions; membrane potentials stay float32."""
    average: float = Field(default=0.0, ge=0, lt=1)
    """Decay per step of an exponential moving average of the weights, which is then evaluated and saved; 0: no
    average."""
    class_weights: Literal["none", "balanced"] = "none"
    """balanced: weight the loss of each class inversely to its number of training samples."""
    patience: int | None = Field(default=None, ge=1)
    """Epochs without improvement after which training stops early; none: never."""
    selection: Literal["validation", "test"] = "validation"
    """Split that selects the best epoch. validation: highest validation accuracy after the warm-up, then lowest loss.
    test: highest test accuracy of all epochs, as in the authors' code; the test accuracy is then no estimate for new
    data, and every table says so."""
    augment_shift: Annotated[float, Field(ge=0, lt=1)] | Literal["auto"] = "auto"
    """Largest random shift of images, spectrograms and event frames in training, as a fraction of height and width.
    auto: 0.1, or 0 if the data have augmentation."""
    augment_scale: Annotated[float, Field(ge=0, lt=1)] | Literal["auto"] = "auto"
    """Largest random stretch of images, spectrograms and event frames in training, as a fraction of each axis. auto:
    0.12, or 0 if the data have augmentation."""
    noise_snr_db: tuple[float, float] | None = None
    """White Gaussian noise on every modality in training, redrawn each epoch: signal-to-noise ratio in dB, uniform
    between these two; none: no noise."""
    fraction: float = Field(default=1.0, gt=0, le=1)
    """Fraction of the training samples to train on, stratified by class, at least one per class; the seed selects them,
    and a smaller fraction is part of a larger one."""
    calibration_samples: int = Field(default=256, ge=16)
    """Training samples that calibrate the firing rates before the first step, with model.init calibrated."""
    target_rate: float = Field(default=0.2, gt=0, lt=1)
    """Target firing rate of the calibration, in spikes per neuron and time step."""
    workers: int = Field(default=0, ge=0, le=256)
    """Data loader workers per training process; 0 loads in the training process."""
    device: str = "auto"
    """Where to train: auto (a GPU if there is one), cpu, cuda, cuda:1, ..."""
    parallel: Literal["ddp", "fsdp"] = "ddp"
    """Strategy for processes started by torchrun. ddp: each holds the whole model; fsdp: parameters and optimizer state
    are sharded."""
    synchronize_batch_norm: bool = True
    """Compute batch norm statistics over all processes, so that their number does not affect the result."""
    checkpoint_minutes: float = Field(default=10.0, gt=0)
    """Longest time between checkpoints; each epoch ends with one, too."""
    wandb: str | None = None
    """Weights & Biases project to log to; none: only metrics.jsonl and TensorBoard."""

    @field_validator("noise_snr_db")
    @classmethod
    def _lower_first(cls, bounds: tuple[float, float] | None) -> tuple[float, float] | None:
        if bounds is not None and bounds[0] > bounds[1]:
            raise ValueError(f"the lower ratio must come first: {bounds[1]:g},{bounds[0]:g}")
        return bounds

    def schedule(self, samples: int, parts: int = 1) -> Schedule:
        """Resolve `auto` for a number of training samples.

        Few samples need smaller batches and more epochs: with 41 samples, batches of 32 would make one step per epoch,
        and a network learns nothing in 20 steps.

        Args:
            samples: number of training samples.
            parts: number of equal parts of a batch (world size times `accumulate`).
        """
        batch_size = self.batch_size
        if batch_size == "auto":
            batch_size = BATCH_SIZE
            while batch_size > SMALLEST_BATCH and samples < batch_size * STEPS_PER_EPOCH:
                batch_size //= 2
            # All parts have the same size, of two samples or more.
            batch_size = parts * max(-(-batch_size // parts), 2 if parts > 1 else 1)
        steps = max(1, samples // batch_size)
        epochs = max(EPOCHS, -(-STEPS // steps)) if self.epochs == "auto" else self.epochs
        warmup_epochs = self.warmup_epochs
        if warmup_epochs == "auto":
            # Short runs must reach the peak learning rate, too.
            warmup_epochs = min(max(WARMUP_EPOCHS, WARMUP_STEPS / steps), 2 * epochs / 3)
        return Schedule(epochs, batch_size, warmup_epochs)

    def with_numbers(self, schedule: Schedule, *, data_augment: bool) -> Self:
        """Return a copy without `auto`.

        Args:
            schedule: epochs, batch size and warm-up.
            data_augment: whether the data augment their samples.
        """
        amounts = {"augment_shift": 0.0 if data_augment else SHIFT, "augment_scale": 0.0 if data_augment else SCALE}
        amounts = {name: amount for name, amount in amounts.items() if getattr(self, name) == "auto"}
        return self.model_copy(update={**asdict(schedule), **amounts})

    @property
    def evaluation_batch_size(self) -> int:
        """Batch size of evaluation; affects speed only."""
        return 2 * (BATCH_SIZE if self.batch_size == "auto" else self.batch_size)


class Experiment(Spec):
    """One training run."""

    data: AnyDataSpec = DigitsSpec()
    """The data."""
    model: ModelOptions = ModelOptions()
    """The model."""
    train: TrainSpec = TrainSpec()
    """The training."""
    seed: int = Field(default=0, ge=0, lt=2**32)
    """Seed of the initial weights and the order of samples; the data have a separate seed."""
    out: Path | None = None
    """Run folder, new or empty; none: runs/<date>-<time>-<data>-<modalities>."""
    resume: bool = False
    """Resume the run in `out` from its last checkpoint, with the same result as an uninterrupted run; start it if it
    has no checkpoint yet. A larger train.epochs extends it."""
    init_from: Path | None = None
    """Run folder from which to load initial weights where names and shapes match; none: random weights."""

    @model_validator(mode="after")
    def _skip_excluded_modalities(self) -> Self:
        """Remove modalities that the model excludes from the data, so that the data name what is used."""
        known, selected = tuple(self.data.card.modalities), self.data.selected_modalities()
        for name in self.model.encoders:
            if known and name not in known:
                raise ValueError(
                    f"model.encoders.{name}: the data have no such modality{did_you_mean(name, known)}; there are: "
                    f"{', '.join(known)}"
                )
        excluded = [name for name, encoder in self.model.encoders.items() if encoder is None]
        if excluded and not selected:
            raise ValueError(
                f"model.encoders.{excluded[0]} is none, but the other modalities are only known from the files: name "
                "the modalities to read in data.modalities"
            )
        remaining = tuple(name for name in selected if name not in excluded)
        if selected and not remaining:
            raise ValueError(f"model.encoders excludes all modalities that are read: {', '.join(selected)}; keep one")
        if remaining != selected:
            # A frozen model cannot assign to its field.
            object.__setattr__(self, "data", self.data.model_copy(update={"modalities": remaining}))
            self.model_fields_set.add("data")
        return self
