"""Everything that decides a run, as one typed, frozen value. Imports no PyTorch: help and checks are instant."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import Field, field_validator, model_validator

from scmrl.encoders import ENCODER_OPTIONS, EncoderOptions
from scmrl.overlay.faults import did_you_mean
from snn_datasets import AnyDataSpec, DigitsSpec
from snn_fusion import BackboneSpec, Spec


class ModelOptions(BackboneSpec):
    """The model without what the data decide: modalities, their shapes, classes."""

    patch_splitting: Literal["auto", "full", "shallow"] = "auto"
    """How images become tokens where nothing else is said. full: one token for 16 x 16 pixels; shallow: one for 4 x 4;
    auto: full from 64 x 64 pixels on."""
    modalities: dict[str, Annotated[EncoderOptions, ENCODER_OPTIONS] | None] = Field(default_factory=dict)
    """Encoders by modality, in place of those that suit the data; none leaves the modality out."""


EPOCHS, BATCH_SIZE, WARMUP_EPOCHS = 20, 32, 2.0
"""What `auto` gives from 512 training samples on."""
PLENTY = 10**6
"""As many training samples as make `auto` say what it says of any large dataset."""
SMALLEST_BATCH = 4
"""Batch norm and the alignment loss need several samples."""
STEPS_PER_EPOCH, STEPS, WARMUP_STEPS = 16, 600, 60
"""Optimizer steps that `auto` aims at: in an epoch, in all, and in the warm-up."""


@dataclass(frozen=True)
class Schedule:
    """How long a run trains, and in steps of which size: `TrainSpec` with numbers in place of `auto`."""

    epochs: int
    batch_size: int
    warmup_epochs: float


class TrainSpec(Spec):
    """How the model is trained: AdamW with linear warm-up and cosine decay."""

    epochs: Annotated[int, Field(ge=1)] | Literal["auto"] = "auto"
    """Passes over the training data. auto: 20, or as many as make 600 optimizer steps."""
    batch_size: Annotated[int, Field(ge=2)] | Literal["auto"] = "auto"
    """Samples per optimizer step, over all processes. auto: 32, and fewer (16, 8, 4) where that would make fewer than
    16 steps an epoch. An incomplete last batch is left out; which samples that are differs from epoch to epoch."""
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
    warmup_epochs: Annotated[float, Field(ge=0)] | Literal["auto"] = "auto"
    """Epochs over which the learning rate rises linearly from 1e-6. auto: 2, or as many as make 60 steps, at most two
    thirds of all."""
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
    """Which split selects the epoch that is kept. validation: the best accuracy after the warm-up, and the lowest loss
    among equals. published: the test split and any epoch, as the authors' code does; what it then says of the test
    split is no estimate for new data, and every table says so."""
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
    parameters and of the optimizer's state."""
    synchronize_batch_norm: bool = True
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

    def schedule(self, samples: int, parts: int = 1) -> Schedule:
        """Epochs, batch size and warm-up for a number of training samples.

        Few samples are trained on in smaller batches and for more epochs: with 41 samples, batches of 32 would make
        one step an epoch, and 20 steps in all teach a network nothing.

        Args:
            samples: how many training samples there are.
            parts: how many equal parts a batch is computed in (processes times `accumulate`).
        """
        batch_size = self.batch_size
        if batch_size == "auto":
            batch_size = BATCH_SIZE
            while batch_size > SMALLEST_BATCH and samples < batch_size * STEPS_PER_EPOCH:
                batch_size //= 2
            # Every part is as large as the others, and holds two samples or more.
            batch_size = parts * max(-(-batch_size // parts), 2 if parts > 1 else 1)
        steps = max(1, samples // batch_size)
        epochs = max(EPOCHS, -(-STEPS // steps)) if self.epochs == "auto" else self.epochs
        warmup_epochs = self.warmup_epochs
        if warmup_epochs == "auto":
            # Short runs reach the full learning rate, too.
            warmup_epochs = min(max(WARMUP_EPOCHS, WARMUP_STEPS / steps), 2 * epochs / 3)
        return Schedule(epochs, batch_size, warmup_epochs)

    def fixed(self, schedule: Schedule) -> Self:
        """The same with a schedule's numbers in place of `auto`."""
        return self.model_copy(update=asdict(schedule))

    @property
    def evaluation_batch_size(self) -> int:
        """Samples at a time where nothing is trained; it changes nothing but speed."""
        return 2 * (BATCH_SIZE if self.batch_size == "auto" else self.batch_size)


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
    has none yet. More train.epochs than before extend it."""
    init_from: Path | None = None
    """Run folder whose weights the model starts with, wherever names and shapes fit; none: the weights are drawn."""

    @model_validator(mode="after")
    def _read_what_is_encoded(self) -> Self:
        """Senses that the model leaves out are not read either, so that whoever sees the data sees what was used."""
        known, chosen = tuple(self.data.card().modalities), self.data.selected_modalities()
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
