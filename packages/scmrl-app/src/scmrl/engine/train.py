"""Train one model: read this file to know what `scmrl train` does."""

# PyTorch leaves the types of some of its own methods open.
# pyright: reportUnknownMemberType=false
from __future__ import annotations

import math
import random
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.optim.lr_scheduler import LambdaLR
from torch.utils.data import DataLoader

from scmrl.assemble import model_spec
from scmrl.engine.evaluate import Evaluation, evaluate
from scmrl.engine.run_folder import append_jsonl, create_run_folder, environment, write_json
from scmrl.experiment import Experiment, TrainSpec
from scmrl.progress import Progress
from snn_core import record_firing_rates
from snn_datasets import DatasetSplits, collate, random_affine
from snn_fusion import FusionModel, ModelSpec, calibrate, from_pretrained, save_pretrained

WARMUP_FROM = 1e-6
"""Learning rate at the first step of the warm-up."""


@dataclass
class Run:
    """What a finished run knows; `report.summary` turns it into files."""

    experiment: Experiment
    folder: Path
    spec: ModelSpec
    classes: tuple[str, ...]
    history: list[dict[str, float]] = field(default_factory=list[dict[str, float]])
    """One record an epoch, as in metrics.jsonl."""
    best_epoch: int = 0
    validation: Evaluation | None = None
    """Of the best epoch."""
    test: Evaluation | None = None
    rates_first: dict[str, float] = field(default_factory=dict[str, float])
    """Firing rates of the cross-modal branch in the first training step, by layer."""
    rates_last: dict[str, float] = field(default_factory=dict[str, float])
    """The same in the last one."""
    seconds: float = 0.0


def train(experiment: Experiment, progress: Progress) -> Run:
    """Train, select the epoch on the validation split, test once.

    Raises:
        ValueError: something about the data, the model or the run's folder does not fit; nothing was trained.
        FloatingPointError: the loss became infinite or not a number; the best model so far is in the folder.
        KeyboardInterrupt: the user stopped the run; its text says where the best model so far is.
    """
    started = time.monotonic()
    device = pick_device(experiment.train.device)
    folder = create_run_folder(experiment)
    _seed_everything(experiment.seed)

    with progress.phase("preparing data", 1, "samples") as reading:
        splits = experiment.data.build(reading.update)
    spec = model_spec(experiment.model, splits.info)
    model = spec.build().to(device)
    run = Run(experiment, folder, spec, splits.info.classes)
    write_json(folder / "experiment.json", experiment.model_dump(mode="json"))
    write_json(folder / "environment.json", environment(experiment, str(device)))
    progress.say(_announcement(run, splits, model, device))

    if spec.init == "calibrated":
        calibrate(model, _first_samples(splits, experiment, device), target_rate=experiment.train.target_rate)
    try:
        _fit(run, model, splits, device, progress)
    except KeyboardInterrupt:
        kept = (
            f"the best model so far, of epoch {run.best_epoch}, is in {folder}" if run.best_epoch else f"see {folder}"
        )
        raise KeyboardInterrupt(f"{len(run.history)} of {experiment.train.epochs} epochs are done; {kept}") from None

    best = from_pretrained(folder).to(device)
    run.test = evaluate(best, splits.test, **_evaluation_options(run, device))
    run.seconds = time.monotonic() - started
    return run


def _fit(run: Run, model: FusionModel, splits: DatasetSplits, device: torch.device, progress: Progress) -> None:
    """The training loop: fills the run's history, and its folder with the best model so far."""
    options = run.experiment.train
    loader = DataLoader(
        splits.train,
        batch_size=min(options.batch_size, len(splits.train)),
        shuffle=True,
        drop_last=True,
        collate_fn=collate,
        generator=torch.Generator().manual_seed(run.experiment.seed),
    )
    optimiser = torch.optim.AdamW(_parameter_groups(model, options.weight_decay), lr=options.learning_rate)
    schedule = LambdaLR(optimiser, lambda step: _learning_rate(step, len(loader), options) / options.learning_rate)
    augmentation = torch.Generator().manual_seed(run.experiment.seed)
    last_step = options.epochs * len(loader) - 1
    step = 0
    for epoch in range(1, options.epochs + 1):
        model.train()
        totals = _Totals()
        began = time.monotonic()
        with progress.phase(f"epoch {epoch}/{options.epochs}", len(loader), "steps") as steps:
            for batch in loader:
                inputs = {name: _augment(x.to(device), options, augmentation) for name, x in batch["inputs"].items()}
                labels = batch["labels"].to(device)
                watched = step == 0 or step == last_step
                output, rates = _forward(model, inputs, watched)
                if watched:
                    run.rates_first, run.rates_last = run.rates_first or rates, rates
                loss = model.total_loss(output, labels)
                if not math.isfinite(loss.total.item()):
                    raise FloatingPointError(
                        f"the loss became {loss.total.item()} in epoch {epoch}, step {step}, on samples "
                        f"{', '.join(batch['ids'][:4])}, ...: try a lower --train.learning_rate "
                        f"(now {options.learning_rate:g})"
                    )
                optimiser.zero_grad(set_to_none=True)
                loss.total.backward()
                if options.gradient_clip:
                    nn.utils.clip_grad_norm_(model.parameters(), options.gradient_clip)
                optimiser.step()
                schedule.step()
                totals.add(loss.classification, loss.alignment, output.logits, labels)
                step += 1
                steps.advance()
        trained = time.monotonic() - began
        validation = evaluate(model, splits.val, **_evaluation_options(run, device))
        record = totals.means() | {
            "val_loss": validation.loss,
            "val_accuracy": validation.accuracy,
            "learning_rate": optimiser.param_groups[0]["lr"],
            "samples_per_second": totals.n / trained,
        }
        best = run.validation is None or _is_better(validation, run.validation)
        if best:
            save_pretrained(model, run.spec, run.folder)
            run.validation, run.best_epoch = validation, epoch
        run.history.append({"epoch": epoch} | record)
        append_jsonl(run.folder / "metrics.jsonl", run.history[-1])
        progress.epoch(epoch, options.epochs, record, best=best)


def _augment(x: Tensor, options: TrainSpec, generator: torch.Generator) -> Tensor:
    """Each input moved and stretched by amounts of its own, unless both are switched off."""
    if not (options.augment_shift or options.augment_scale):
        return x
    return random_affine(x, shift=options.augment_shift, scale=options.augment_scale, generator=generator)


def _forward(model: FusionModel, inputs: Mapping[str, Tensor], watched: bool) -> tuple[Any, dict[str, float]]:
    """A forward pass, with the cross-modal branch's firing rates where they are asked for."""
    if not watched:
        return model(inputs), {}
    with record_firing_rates(model.fusion) as rates:
        output = model(inputs)
    return output, rates


def _is_better(new: Evaluation, old: Evaluation) -> bool:
    """Higher accuracy; with equal accuracy, lower loss."""
    return (new.accuracy, -new.loss) > (old.accuracy, -old.loss)


class _Totals:
    """Sums over an epoch's batches, weighted by samples."""

    def __init__(self) -> None:
        self.n = 0
        self.loss = self.alignment = self.right = 0.0

    def add(self, loss: Tensor, alignment: Tensor, logits: Tensor, labels: Tensor) -> None:
        size = len(labels)
        self.n += size
        self.loss += float(loss.detach()) * size
        self.alignment += float(alignment.detach()) * size
        self.right += float((logits.argmax(1) == labels).sum())

    def means(self) -> dict[str, float]:
        return {
            "train_loss": self.loss / self.n,
            "alignment_loss": self.alignment / self.n,
            "train_accuracy": self.right / self.n,
        }


def _parameter_groups(model: nn.Module, weight_decay: float) -> list[dict[str, Any]]:
    """Weight decay for matrices and kernels, none for biases and normalisations."""
    parameters = list(model.parameters())
    return [
        {"params": [p for p in parameters if p.dim() >= 2], "weight_decay": weight_decay},
        {"params": [p for p in parameters if p.dim() < 2], "weight_decay": 0.0},
    ]


def _learning_rate(step: int, steps_per_epoch: int, options: TrainSpec) -> float:
    """Linear warm-up, then cosine decay, by step."""
    warmup = options.warmup_epochs * steps_per_epoch
    if step < warmup:
        return WARMUP_FROM + (options.learning_rate - WARMUP_FROM) * step / warmup
    share = (step - warmup) / max(1.0, options.epochs * steps_per_epoch - warmup)
    span = options.learning_rate - options.final_learning_rate
    return options.final_learning_rate + span * (1 + math.cos(math.pi * min(1.0, share))) / 2


def _evaluation_options(run: Run, device: torch.device) -> dict[str, Any]:
    return {"num_classes": len(run.classes), "batch_size": 2 * run.experiment.train.batch_size, "device": device}


def _first_samples(splits: DatasetSplits, experiment: Experiment, device: torch.device) -> dict[str, Tensor]:
    """Training inputs for calibration, spread evenly over the split because it may be ordered by class."""
    count = min(experiment.train.calibration_samples, len(splits.train))
    places = [index * len(splits.train) // count for index in range(count)]
    batch = collate([splits.train[place] for place in places])
    return {name: x.to(device) for name, x in batch["inputs"].items()}


def pick_device(name: str) -> torch.device:
    """The device of that name; `auto` is a GPU if there is one.

    Raises:
        ValueError: no such device here.
    """
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError) as error:
        reason = str(error).splitlines()[0]
        raise ValueError(f"--train.device {name} cannot be used here ({reason}); auto always can") from error
    return device


def _seed_everything(seed: int) -> None:
    random.seed(seed)
    np.random.seed(seed)
    torch.manual_seed(seed)


def _announcement(run: Run, splits: DatasetSplits, model: FusionModel, device: torch.device) -> str:
    parameters = sum(p.numel() for p in model.parameters())
    sizes = f"{len(splits.train)} training, {len(splits.val)} validation, {len(splits.test)} test samples"
    return (
        f"{splits.info.name}: {sizes}, {len(run.classes)} classes, {' and '.join(model.modalities)}; "
        f"{parameters:,} parameters on {device}; run folder {run.folder}"
    )
