"""Train one model: what `scmrl train` does, from data to the tested model."""

# PyTorch leaves the types of some of its own methods open.
# pyright: reportUnknownMemberType=false
from __future__ import annotations

import math
import random
import time
from contextlib import nullcontext
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from scmrl.config.assemble import model_spec
from scmrl.config.experiment import AUTO_FIELDS, Experiment, Schedule, TrainSpec
from scmrl.console.progress import Progress
from scmrl.engine import average
from scmrl.engine.augmentation import augment, has_augmentation
from scmrl.engine.batches import accumulate_totals, calibration_batch, class_weights, to_device, training_batches
from scmrl.engine.checkpoints import checkpoint
from scmrl.engine.checkpoints.checkpoint import Position, TrainingState
from scmrl.engine.checkpoints.state import Generators
from scmrl.engine.diagnostics import lag_note, rate_warnings
from scmrl.engine.evaluate import SplitPredictions, predict_split
from scmrl.engine.failures import (
    NonFinite,
    abbreviate,
    divergence_message,
    explain_failure,
    non_finite_warning,
    skipped_warning,
)
from scmrl.engine.interruption import Interruption
from scmrl.engine.metrics_writer import MetricsWriter
from scmrl.engine.parallel import (
    Processes,
    clip_gradient,
    gather_batch,
    join_processes,
    leave_processes,
    no_sync,
    unwrap,
    wrap_model,
)
from scmrl.engine.run import Run
from scmrl.engine.schedule import learning_rate, parameter_groups
from scmrl.engine.subset import take_fraction
from scmrl.run_folder.checksummed import write_checksummed
from scmrl.run_folder.files import (
    EXPERIMENT,
    INPUTS,
    create_run_folder,
    environment,
    peak_memory,
    read_experiment,
    with_absolute_paths,
    write_json,
)
from scmrl.run_folder.inputs import save_inputs
from scmrl.run_folder.open import restore_data
from snn_core import record_firing_rates, spiking_layers
from snn_datasets import Batch, DatasetSplits, SampleDataset
from snn_fusion import FusionModel, Loss, calibrate, from_pretrained, load_weights, save_pretrained


def train(experiment: Experiment, progress: Progress) -> Run:
    """Train, select the epoch on the validation split, test once.

    Raises:
        ValueError: the data, the model or the run folder is invalid; nothing was trained.
        FloatingPointError: the loss or its gradient is inf or NaN; the last good checkpoint is in the folder.
        OSError: a file cannot be written, or another process is gone; the message says which and how to resume.
        MemoryError: out of memory.
        KeyboardInterrupt, Stopped: the user or a scheduler stopped the run; the message says how to resume.
    """
    with Interruption() as interruption:
        processes, threads = join_processes(experiment.train.device), torch.get_num_threads()
        try:
            return _train(experiment, processes, progress if processes.is_rank0 else progress.mute(), interruption)
        except (RuntimeError, MemoryError) as error:
            message = explain_failure(error, interruption.folder, experiment.train, processes)
            if message is None:
                raise
            raise message from error
        finally:
            torch.set_num_threads(threads)
            leave_processes(processes)


@dataclass(frozen=True)
class RunFolder:
    """The run's folder as this training found it."""

    path: Path
    previous: TrainSpec | None
    """Training options with which the run was last started; None for a new run."""
    has_inputs: bool
    """Whether the folder describes the data, which must then be the same."""
    has_checkpoint: bool
    """Whether the training resumes from a checkpoint; otherwise it starts from the beginning."""


def _open_folder(experiment: Experiment) -> RunFolder:
    """Create the run's folder, or read what a resumed run has in it."""
    path = create_run_folder(experiment)
    has_checkpoint = bool(checkpoint.complete_checkpoints(path))
    return RunFolder(
        path,
        previous=read_experiment(path).train if (path / EXPERIMENT).is_file() else None,
        has_inputs=has_checkpoint or (path / INPUTS).is_file(),
        has_checkpoint=has_checkpoint,
    )


def _train(experiment: Experiment, processes: Processes, progress: Progress, interruption: Interruption) -> Run:
    experiment, start = with_absolute_paths(experiment), time.monotonic()
    if experiment.init_from is not None and not (experiment.init_from / "model.safetensors").is_file():
        raise FileNotFoundError(f"--init-from {experiment.init_from} has no model.safetensors; name a run folder")
    folder = processes.on_rank0(lambda: _open_folder(experiment))
    interruption.folder = folder.path
    _seed_everything(experiment.seed)

    with progress.phase("preparing data", 1, "samples") as reading:
        data = experiment.data.build(reading.update)
    if folder.has_inputs:
        data = restore_data(data, experiment.data, folder.path, progress)
    splits = take_fraction(data, experiment.train.fraction, seed=experiment.seed)
    parts = processes.world_size * experiment.train.accumulate
    experiment, schedule = _resolve_auto(experiment, folder.previous, data, samples=len(splits.train), parts=parts)
    spec = model_spec(experiment.model, splits.info)
    model = spec.build().to(processes.device)
    run = Run(experiment, schedule, folder.path, spec, splits, Position(), is_rank0=processes.is_rank0)

    def write_settings() -> None:
        write_checksummed(run.folder / EXPERIMENT, experiment.model_dump(mode="json"))
        write_json(run.folder / "environment.json", environment(experiment, str(processes.device)))
        if not folder.has_inputs:
            save_inputs(data, run.folder, seed=experiment.data.seed)

    processes.on_rank0(write_settings)
    progress.info(_announcement(run, model, processes))
    for note in splits.info.notes:
        progress.info(f"note: {note}")

    preparation = time.monotonic() - start
    if not folder.has_checkpoint:
        if folder.previous is not None:
            progress.info("there is no checkpoint to resume from yet: starting from the beginning")
        _initialize(model, run, processes, progress)
    trainer = Trainer(run, model, processes, progress, interruption)
    generators = trainer.load_checkpoint(folder.previous) if folder.has_checkpoint else None
    trainer.fit(generators)
    best = from_pretrained(run.folder, require_checksums=True).to(processes.device)
    run.validation = trainer.test(best, splits.val, "validation")
    run.test = trainer.test(best, splits.test, "test")
    run.seconds = run.position.seconds + preparation
    return run


def _initialize(model: FusionModel, run: Run, processes: Processes, progress: Progress) -> None:
    """Set the initial weights: random, calibrated, and loaded from another run where names and shapes match."""
    options = run.experiment.train
    only = {"calibrated": "", "calibrated_fusion": "fusion"}.get(run.spec.init)
    # Some fusion methods have no neurons to calibrate.
    if only is not None and any(name.startswith(only) for name in spiking_layers(model)):
        inputs, present = to_device(calibration_batch(run.splits, options.calibration_samples), processes)
        calibrate(model, inputs, present=present, target_rate=options.target_rate, only=only)
    if run.experiment.init_from is not None:
        report = load_weights(model, run.experiment.init_from)
        progress.info(f"weights of {run.experiment.init_from}: {str(report).splitlines()[0]}")


class Trainer:
    """The training loop of a run: it fills the run's history and writes checkpoints and the best model to its folder.

    Args:
        run: changed in place.
        model: with its initial weights; it is wrapped for training in several processes.
        processes: the process group.
        progress: the display.
        interruption: asks the loop to stop after the current step.
    """

    def __init__(
        self, run: Run, model: FusionModel, processes: Processes, progress: Progress, interruption: Interruption
    ) -> None:
        self.run, self.processes, self.progress, self.interruption = run, processes, progress, interruption
        self.options = options = run.experiment.train
        self.position = run.position
        self.some_absent = bool(run.experiment.model.modality_dropout) or run.splits.train.has_absences
        """Whether a training sample may lack a modality."""
        synchronize = options.synchronize_batch_norm and not self.some_absent
        net = wrap_model(model, processes, options.parallel, synchronize=synchronize)
        if processes.world_size > 1 and options.synchronize_batch_norm and self.some_absent:
            progress.warn("some samples lack a modality, so batch norm computes its statistics on each rank separately")
        _seed_everything(run.experiment.seed + 1_000_003 * processes.rank)  # random draws in training differ by rank
        self.state = TrainingState(
            net,
            torch.optim.AdamW(parameter_groups(net, options.weight_decay), lr=options.learning_rate),
            torch.amp.GradScaler(processes.device.type, enabled=options.precision == "float16"),  # pyright: ignore
            average.begin(net) if options.average else {},
            run.position,
        )
        samples = len(run.splits.train)
        self.batch_size = min(run.schedule.batch_size, samples)
        self.steps_per_epoch = samples // self.batch_size
        """Optimizer steps of an epoch."""
        self._started = self._saved = 0.0
        """Times of the start, less the time before a resume, and of the last checkpoint."""

    def load_checkpoint(self, previous: TrainSpec | None) -> Generators:
        """Load the newest intact checkpoint and return its generators, which are restored right before the first step.

        Args:
            previous: training options with which the run was last started.
        """
        run, position, epochs = self.run, self.position, self.run.schedule.epochs
        loaded = checkpoint.load_newest_checkpoint(run.folder, self.state, self.processes, self.progress.warn)
        assert loaded is not None
        path, generators = loaded
        if position.best is not None:
            from_pretrained(run.folder, require_checksums=True)  # fail now, not after the training, if it is damaged
        self.progress.info(
            f"resuming from {path.name}, epoch {position.epoch} of {epochs}"
            if position.epoch <= epochs
            else f"resuming from {path.name}: all {epochs} epochs are done; evaluating again"
        )
        epochs_before = previous.epochs if previous is not None else "auto"
        if epochs_before != "auto" and epochs > epochs_before:
            self.progress.info(
                f"the run is extended from {epochs_before} to {epochs} epochs: the learning rate now follows the "
                f"schedule of {epochs} epochs, so the result differs from that of an uninterrupted run of {epochs} "
                "epochs"
            )
        return generators

    def fit(self, generators: Generators | None) -> None:
        """Train from the run's position to the last epoch, or until there is no improvement.

        Args:
            generators: those of the checkpoint from which the training resumes.
        """
        run, options, position = self.run, self.options, self.position
        writer = MetricsWriter(run.folder, position, options, is_rank0=self.processes.is_rank0)
        with writer, self.interruption.after_steps():
            if generators is not None:
                generators.restore(self.processes.device)
            parts = self.processes.world_size * options.accumulate
            if self.batch_size % parts:
                raise ValueError(
                    f"train.batch_size {self.batch_size} (of {len(run.splits.train)} training samples) must be a "
                    f"multiple of {self.processes.world_size} processes times train.accumulate {options.accumulate}"
                )
            weights = class_weights(run.splits, self.processes) if options.class_weights == "balanced" else None
            self._started, self._saved = time.monotonic() - position.seconds, time.monotonic()
            for epoch in range(position.epoch, run.schedule.epochs + 1):
                if options.patience and epoch - 1 - position.best_epoch >= options.patience and position.best_epoch:
                    self.progress.info(f"no improvement for {options.patience} epochs: stopping early")
                    break
                throughput = self._train_epoch(epoch, weights)
                record, improved = self._validate(throughput)
                self.processes.on_rank0(lambda record=record: writer.write_epoch(record))
                self.progress.epoch(epoch, run.schedule.epochs, record, best=improved)
                self._report_epoch()
                position.epoch, position.batch, position.totals = epoch + 1, 0, {}
                position.skipped = 0
                self._save_checkpoint()
                if self.processes.any(self.interruption.requested)[0] and epoch < run.schedule.epochs:
                    self.interruption.stop(f"after epoch {epoch} of {run.schedule.epochs}")

    def test(self, model: FusionModel, dataset: SampleDataset, name: str) -> SplitPredictions:
        """Return a model's predictions for a split, and warn about inputs with inf or NaN."""
        predictions = self._predict(model, dataset)
        if predictions.non_finite:
            self.progress.warn(non_finite_warning(name, predictions.non_finite))
        return predictions

    def _train_epoch(self, epoch: int, weights: Tensor | None) -> float:
        """Make the remaining optimizer steps of an epoch; return the samples per second."""
        run, options, position, processes = self.run, self.options, self.position, self.processes
        loader = training_batches(
            run.splits.train,
            self.batch_size // (processes.world_size * options.accumulate),
            seed=run.experiment.seed,
            epoch=epoch,
            first=position.batch * (self.batch_size // processes.world_size),
            workers=options.workers,
            processes=processes,
        )
        epoch_start, first_batch = time.monotonic(), position.batch
        self.state.net.train()
        with self.progress.phase(f"epoch {epoch}/{run.schedule.epochs}", self.steps_per_epoch, "steps") as bar:
            bar.update(position.batch)
            while position.batch < self.steps_per_epoch:
                for group in self.state.optimizer.param_groups:
                    group["lr"] = learning_rate(position.step, self.steps_per_epoch, options, run.schedule)
                batches = list(islice(loader, options.accumulate))
                record_rates = position.step == 0 or position.batch == self.steps_per_epoch - 1
                nonfinite = self.step(batches, weights, record_rates=record_rates)
                due = time.monotonic() - self._saved > 60 * options.checkpoint_minutes
                diverged, stop, due = processes.any(nonfinite is not None, self.interruption.requested, due)
                if diverged:
                    raise FloatingPointError(divergence_message(run, nonfinite, batches, processes))
                if position.step == 0 and (unused := self._unused_parameters_warning()):
                    self.progress.warn(unused)
                position.batch, position.step = position.batch + 1, position.step + 1
                bar.advance()
                if (due or stop) and position.batch < self.steps_per_epoch:
                    self._save_checkpoint()
                if stop and position.batch < self.steps_per_epoch:
                    self.interruption.stop(f"in epoch {epoch} of {run.schedule.epochs}")
        return (position.batch - first_batch) * self.batch_size / max(1e-9, time.monotonic() - epoch_start)

    def step(self, batches: list[Batch], weights: Tensor | None, *, record_rates: bool) -> NonFinite | None:
        """Make one optimizer step over a batch that comes in parts.

        Return what was inf or NaN if the step was abandoned for it. A float16 step that the gradient scaler skips
        counts in `position.skipped` instead.
        """
        run, options, position, processes = self.run, self.options, self.position, self.processes
        net, optimizer, scaler = self.state.net, self.state.optimizer, self.state.scaler
        dtype = getattr(torch, options.precision)
        optimizer.zero_grad(set_to_none=True)
        for number, batch in enumerate(batches):
            batch["inputs"] = augment(batch, run.splits.info, options, seed=run.experiment.seed, epoch=position.epoch)
            inputs, present = to_device(batch, processes)
            labels = batch["labels"].to(processes.device)
            autocast = torch.autocast(processes.device.type, dtype, enabled=options.precision != "float32")
            rates_context = record_firing_rates(unwrap(net)) if record_rates else nullcontext(dict[str, float]())
            with no_sync(net, enabled=number < len(batches) - 1):
                with autocast, rates_context as rates:
                    output = net(inputs, present)
                gathered, all_labels = gather_batch(output, labels, processes)
                loss: Loss = unwrap(net).total_loss(gathered, all_labels, weights)
                if not math.isfinite(float(loss.total.detach())):
                    return "loss"
                scaler.scale(loss.total / len(batches)).backward()
            accumulate_totals(position.totals, loss, gathered.logits, all_labels)
            if record_rates:
                position.rates_last = rates
                position.rates_first = position.rates_first or rates
        scaler.unscale_(optimizer)
        norm = clip_gradient(net, options.gradient_clip)
        if not math.isfinite(float(norm)):
            # The scaler skips such a step and lowers its scale. Below a scale of 1, scaling cannot be the cause.
            if not scaler.is_enabled() or scaler.get_scale() < 1:
                return "gradient"
            position.skipped += 1
        scaler.step(optimizer)
        scaler.update()
        if self.state.averaged:
            average.update(self.state.averaged, net, decay=options.average)
        return None

    def _unused_parameters_warning(self) -> str:
        """Return a warning that names the parameters without a gradient after the first step; empty if none."""
        if self.some_absent:
            return ""  # a modality may have been absent from the whole batch
        parameters = unwrap(self.state.net).named_parameters()
        unused = [name for name, parameter in parameters if parameter.requires_grad and parameter.grad is None]
        if not unused:
            return ""
        return (
            f"{len(unused)} parameters do not affect the loss, so they are not trained: {abbreviate(unused, 3)}; use "
            "them in the forward pass, or remove them from the model"
        )

    def _validate(self, throughput: float) -> tuple[dict[str, float], bool]:
        """Return the epoch's record and whether the epoch is the best so far; save the best model in the run folder."""
        run, position, processes = self.run, self.position, self.processes
        on_test = self.options.selection == "test"
        with average.in_place(self.state.averaged, self.state.net):
            plain = unwrap(self.state.net, run.spec, processes)
            predictions = self._predict(plain, run.splits.test if on_test else run.splits.val)
            scores = {"accuracy": predictions.accuracy, "loss": predictions.loss}
            improved = position.best is None or (
                _selection_key(position.epoch, scores, run) > _selection_key(position.best_epoch, position.best, run)
            )
            if improved:
                position.best, position.best_epoch = scores, position.epoch
                processes.on_rank0(lambda: save_pretrained(plain, run.spec, run.folder))
        if predictions.non_finite and position.epoch == 1:
            self.progress.warn(non_finite_warning("test" if on_test else "validation", predictions.non_finite))
        n = position.totals["n"]
        record = {
            "epoch": float(position.epoch),
            "train_loss": position.totals["loss"] / n,
            "alignment_loss": position.totals["alignment"] / n,
            "train_accuracy": position.totals["correct"] / n,
            "val_loss": predictions.loss,
            "val_accuracy": predictions.accuracy,
            "learning_rate": self.state.optimizer.param_groups[0]["lr"],
            "samples_per_second": throughput,
            "memory_mb": peak_memory(processes.device) / 1e6,
        }
        position.history.append(record)
        return {name: value for name, value in record.items() if name != "epoch"}, improved

    def _predict(self, model: FusionModel, dataset: SampleDataset) -> SplitPredictions:
        return predict_split(model, dataset, batch_size=self.options.evaluation_batch_size, processes=self.processes)

    def _report_epoch(self) -> None:
        """Print notes and warnings about the epoch that has just ended."""
        if note := lag_note(self.position.history):
            self.progress.info(note)
        if len(self.position.history) == 1:
            for warning in rate_warnings(self.position.rates_last):
                self.progress.warn(warning)
        if warning := skipped_warning(self.position, self.steps_per_epoch):
            self.progress.warn(warning)

    def _save_checkpoint(self) -> None:
        self.position.seconds, self._saved = time.monotonic() - self._started, time.monotonic()
        checkpoint.save_checkpoint(self.run.folder, self.state, self.processes)


def _selection_key(epoch: int, scores: dict[str, float], run: Run) -> tuple[bool, float, float]:
    """Order epochs for selection: after the warm-up first, then highest accuracy, then lowest loss.

    A small validation split can reach 100 % by chance during warm-up, and then no later and better epoch would ever
    replace those weights. Selection on the test split considers all epochs.
    """
    past_warmup = epoch > run.schedule.warmup_epochs
    return past_warmup or run.experiment.train.selection == "test", scores["accuracy"], -scores["loss"]


def _resolve_auto(
    experiment: Experiment, previous: TrainSpec | None, data: DatasetSplits, *, samples: int, parts: int
) -> tuple[Experiment, Schedule]:
    """Replace `auto` in the training options by numbers; a resumed run keeps those of its `previous` options.

    Args:
        experiment: the settings of this training.
        previous: training options with which the run was last started.
        data: all samples.
        samples: number of training samples.
        parts: number of equal parts of a batch.
    """
    options = experiment.train
    if previous is not None:
        stored = {name: getattr(previous, name) for name in AUTO_FIELDS if getattr(options, name) == "auto"}
        options = options.model_copy(update=stored)
    schedule = options.schedule(samples, parts)
    options = options.with_numbers(schedule, data_augment=has_augmentation(data.train))
    return experiment.model_copy(update={"train": options}), schedule


def _seed_everything(seed: int) -> None:
    random.seed(seed)
    np.random.seed(seed % 2**32)
    torch.manual_seed(seed)


def _announcement(run: Run, model: nn.Module, processes: Processes) -> str:
    parameters = sum(p.numel() for p in model.parameters())
    splits = run.splits
    sizes = f"{len(splits.train)} training, {len(splits.val)} validation, {len(splits.test)} test samples"
    schedule = run.schedule
    steps = max(1, len(splits.train) // min(schedule.batch_size, len(splits.train)))
    several = (
        f" in {processes.world_size} processes ({run.experiment.train.parallel})" if processes.world_size > 1 else ""
    )
    return (
        f"{splits.info.name}: {sizes}, {len(run.classes)} classes, {' and '.join(run.spec.encoders)}; "
        f"{parameters:,} parameters on {processes.device}{several}; run folder {run.folder}\n"
        f"training: {schedule.epochs} epochs of {steps} step{'s' if steps > 1 else ''} at batch size "
        f"{min(schedule.batch_size, len(splits.train))}, warm-up over {schedule.warmup_epochs:.3g} epochs"
    )
