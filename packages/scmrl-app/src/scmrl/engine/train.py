"""Train one model: what `scmrl train` does, from data to the tested model."""

# PyTorch leaves the types of some of its own methods open.
# pyright: reportUnknownMemberType=false
from __future__ import annotations

import math
import random
import time
from contextlib import nullcontext
from itertools import islice
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from scmrl.config.assemble import model_spec
from scmrl.config.experiment import Experiment, Schedule
from scmrl.console.progress import Progress
from scmrl.engine import average
from scmrl.engine.augmentation import augment
from scmrl.engine.batches import accumulate_totals, calibration_batch, class_weights, to_device, training_batches
from scmrl.engine.checkpoints import checkpoint
from scmrl.engine.checkpoints.checkpoint import Position, TrainingState
from scmrl.engine.checkpoints.state import Generators
from scmrl.engine.diagnostics import lag_note, rate_warnings
from scmrl.engine.evaluate import predict_split
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
from snn_datasets import Batch, DatasetSplits
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


def _train(experiment: Experiment, processes: Processes, progress: Progress, interruption: Interruption) -> Run:
    experiment = with_absolute_paths(experiment)
    options, start = experiment.train, time.monotonic()
    if experiment.init_from is not None and not (experiment.init_from / "model.safetensors").is_file():
        raise FileNotFoundError(f"--init-from {experiment.init_from} has no model.safetensors; name a run folder")
    folder = processes.on_rank0(lambda: create_run_folder(experiment))
    interruption.folder = folder
    epochs_before = processes.on_rank0(lambda: _previous_epochs(folder))
    _seed_everything(experiment.seed)

    with progress.phase("preparing data", 1, "samples") as reading:
        data = experiment.data.build(reading.update)
    resumed = experiment.resume and ((folder / INPUTS).is_file() or bool(checkpoint.complete_checkpoints(folder)))
    if resumed:
        data = restore_data(data, experiment.data, folder, progress)
    splits = take_fraction(data, options.share, seed=experiment.seed)
    experiment, schedule = _resolve_schedule(experiment, folder, len(splits.train), processes)
    options = experiment.train
    spec = model_spec(experiment.model, splits.info)
    model = spec.build().to(processes.device)
    run = Run(experiment, schedule, folder, spec, splits, Position(), is_rank0=processes.is_rank0)
    processes.on_rank0(lambda: _write_settings(run, data if not resumed else None, processes))
    progress.info(_announcement(run, model, processes))
    for note in splits.info.notes:
        progress.info(f"note: {note}")

    preparation = time.monotonic() - start
    resumes = experiment.resume and bool(processes.on_rank0(lambda: checkpoint.complete_checkpoints(folder)))
    if epochs_before is not None and not resumes:
        progress.info("there is no checkpoint to resume from yet: starting from the beginning")
    if not resumes:
        _initialize(model, run, processes, progress)
    some_absent = bool(experiment.model.modality_dropout) or splits.train.has_absences
    synchronize = options.synchronize_batch_norm and not some_absent
    net = wrap_model(model, processes, options.parallel, synchronize=synchronize)
    if processes.world_size > 1 and options.synchronize_batch_norm and some_absent:
        progress.warn("some samples lack a modality, so batch norm computes its statistics on each rank separately")
    _seed_everything(experiment.seed + 1_000_003 * processes.rank)  # random draws in training differ by rank
    trained = TrainingState(
        net,
        torch.optim.AdamW(parameter_groups(net, options.weight_decay), lr=options.learning_rate),
        torch.amp.GradScaler(processes.device.type, enabled=options.precision == "float16"),  # pyright: ignore
        average.begin(net) if options.average else {},
        run.position,
    )
    generators = _resume(run, trained, processes, progress, epochs_before) if resumes else None

    writer = MetricsWriter(folder, run.position, options, is_rank0=processes.is_rank0)
    with writer, interruption.after_steps():
        if generators is not None:
            generators.restore(processes.device)
        _fit(run, trained, processes, progress, interruption, writer)

    best = from_pretrained(folder, require_checksums=True).to(processes.device)
    for split in ("val", "test"):
        dataset = getattr(splits, split)
        predictions = predict_split(best, dataset, batch_size=options.evaluation_batch_size, processes=processes)
        name = {"val": "validation", "test": "test"}[split]
        setattr(run, name, predictions)
        if predictions.non_finite:
            progress.warn(non_finite_warning(name, predictions.non_finite))
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


def _resume(
    run: Run, trained: TrainingState, processes: Processes, progress: Progress, epochs_before: int | None
) -> Generators:
    """Load the newest intact checkpoint and return its generators, which are restored right before the first step."""
    loaded = checkpoint.load_newest_checkpoint(run.folder, trained, processes, progress.warn)
    assert loaded is not None
    path, generators = loaded
    position, epochs = run.position, run.schedule.epochs
    if position.best is not None:
        from_pretrained(run.folder, require_checksums=True)  # fail now, not after the training, if it is damaged
    progress.info(
        f"resuming from {path.name}, epoch {position.epoch} of {epochs}"
        if position.epoch <= epochs
        else f"resuming from {path.name}: all {epochs} epochs are done; evaluating again"
    )
    if epochs_before is not None and epochs > epochs_before:
        progress.info(
            f"the run is extended from {epochs_before} to {epochs} epochs: the learning rate now follows the schedule "
            f"of {epochs} epochs, so the result differs from that of an uninterrupted run of {epochs} epochs"
        )
    return generators


def _previous_epochs(folder: Path) -> int | None:
    """The number of epochs that the run in the folder was last started with; None for a new run."""
    if not (folder / "experiment.json").is_file():
        return None
    epochs = read_experiment(folder).train.epochs
    return None if epochs == "auto" else epochs


def _write_settings(run: Run, data: DatasetSplits | None, processes: Processes) -> None:
    """Write experiment.json, environment.json and, for a new run, inputs.json of the whole data."""
    write_checksummed(run.folder / "experiment.json", run.experiment.model_dump(mode="json"))
    write_json(run.folder / "environment.json", environment(run.experiment, str(processes.device)))
    if data is not None:
        save_inputs(data, run.folder, seed=run.experiment.data.seed)


def _fit(
    run: Run,
    trained: TrainingState,
    processes: Processes,
    progress: Progress,
    interruption: Interruption,
    writer: MetricsWriter,
) -> None:
    """Run the training loop: fill the run's history, and write checkpoints and the best model to its folder."""
    options, schedule, position, data = run.experiment.train, run.schedule, run.position, run.splits.train
    batch_size = min(schedule.batch_size, len(data))
    parts = processes.world_size * options.accumulate
    if batch_size % parts:
        raise ValueError(
            f"train.batch_size {batch_size} (of {len(data)} training samples) must be a multiple of "
            f"{processes.world_size} processes times train.accumulate {options.accumulate}"
        )
    steps = len(data) // batch_size
    weights = class_weights(run.splits, processes) if options.class_weights == "balanced" else None
    started, saved = time.monotonic() - position.seconds, time.monotonic()

    for epoch in range(position.epoch, schedule.epochs + 1):
        if options.patience and epoch - 1 - position.best_epoch >= options.patience and position.best_epoch:
            progress.info(f"no improvement for {options.patience} epochs: stopping early")
            break
        loader = training_batches(
            data,
            batch_size // parts,
            seed=run.experiment.seed,
            epoch=epoch,
            first=position.batch * (batch_size // processes.world_size),
            workers=options.workers,
            processes=processes,
        )
        epoch_start, first_batch = time.monotonic(), position.batch
        trained.net.train()
        with progress.phase(f"epoch {epoch}/{schedule.epochs}", steps, "steps") as bar:
            bar.update(position.batch)
            while position.batch < steps:
                for group in trained.optimizer.param_groups:
                    group["lr"] = learning_rate(position.step, steps, options, schedule)
                batches = list(islice(loader, options.accumulate))
                record_rates = position.step == 0 or position.batch == steps - 1
                nonfinite = _step(run, trained, batches, processes, weights, record_rates=record_rates)
                due = time.monotonic() - saved > 60 * options.checkpoint_minutes
                diverged, stop, due = processes.any(nonfinite is not None, interruption.requested, due)
                if diverged:
                    raise FloatingPointError(divergence_message(run, nonfinite, batches, processes))
                if position.step == 0 and (unused := _unused_parameters_warning(run, trained)):
                    progress.warn(unused)
                position.batch, position.step = position.batch + 1, position.step + 1
                bar.advance()
                if (due or stop) and position.batch < steps:
                    position.seconds, saved = time.monotonic() - started, time.monotonic()
                    checkpoint.save_checkpoint(run.folder, trained, processes)
                if stop and position.batch < steps:
                    interruption.stop(f"in epoch {epoch} of {schedule.epochs}")
        throughput = (position.batch - first_batch) * batch_size / max(1e-9, time.monotonic() - epoch_start)
        record, improved = _validate(run, trained, processes, progress, throughput)
        processes.on_rank0(lambda record=record: writer.write_epoch(record))
        progress.epoch(epoch, schedule.epochs, record, best=improved)
        if note := lag_note(position.history):
            progress.info(note)
        if len(position.history) == 1:
            for warning in rate_warnings(position.rates_last):
                progress.warn(warning)
        if warning := skipped_warning(position, steps):
            progress.warn(warning)
        position.epoch, position.batch, position.totals = epoch + 1, 0, {}
        position.skipped = 0
        position.seconds, saved = time.monotonic() - started, time.monotonic()
        checkpoint.save_checkpoint(run.folder, trained, processes)
        if processes.any(interruption.requested)[0] and epoch < schedule.epochs:
            interruption.stop(f"after epoch {epoch} of {schedule.epochs}")


def _step(
    run: Run,
    trained: TrainingState,
    batches: list[Batch],
    processes: Processes,
    weights: Tensor | None,
    *,
    record_rates: bool,
) -> NonFinite | None:
    """Make one optimizer step over a batch that comes in parts.

    Return what was inf or NaN if the step was abandoned for it. A float16 step that the gradient scaler skips counts in
    `position.skipped` instead.
    """
    options, position, net = run.experiment.train, trained.position, trained.net
    dtype = getattr(torch, options.precision)
    trained.optimizer.zero_grad(set_to_none=True)
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
            trained.scaler.scale(loss.total / len(batches)).backward()
        accumulate_totals(position.totals, loss, gathered.logits, all_labels)
        if record_rates:
            position.rates_last = rates
            position.rates_first = position.rates_first or rates
    trained.scaler.unscale_(trained.optimizer)
    norm = clip_gradient(net, options.gradient_clip)
    if not math.isfinite(float(norm)):
        # The scaler skips such a step and lowers its scale. Below a scale of 1, scaling cannot be the cause.
        if not trained.scaler.is_enabled() or trained.scaler.get_scale() < 1:
            return "gradient"
        position.skipped += 1
    trained.scaler.step(trained.optimizer)
    trained.scaler.update()
    if trained.averaged:
        average.update(trained.averaged, net, decay=options.average)
    return None


def _unused_parameters_warning(run: Run, trained: TrainingState) -> str:
    """Return a warning that names the parameters without a gradient after the first step; empty if there are none."""
    if run.experiment.model.modality_dropout or run.splits.train.has_absences:
        return ""  # a modality may have been absent from the whole batch
    parameters = unwrap(trained.net).named_parameters()
    unused = [name for name, parameter in parameters if parameter.requires_grad and parameter.grad is None]
    if not unused:
        return ""
    return (
        f"{len(unused)} parameters do not affect the loss, so they are not trained: {abbreviate(unused, 3)}; use "
        "them in the forward pass, or remove them from the model"
    )


def _validate(
    run: Run, trained: TrainingState, processes: Processes, progress: Progress, throughput: float
) -> tuple[dict[str, float], bool]:
    """Return the epoch's record and whether the epoch is the best so far; the best model is saved in the run folder."""
    options, position = run.experiment.train, trained.position
    split = run.splits.test if options.selection == "test" else run.splits.val
    with average.in_place(trained.averaged, trained.net):
        plain = unwrap(trained.net, run.spec, processes)
        predictions = predict_split(plain, split, batch_size=options.evaluation_batch_size, processes=processes)
        scores = {"accuracy": predictions.accuracy, "loss": predictions.loss}
        improved = position.best is None or (
            _selection_key(position.epoch, scores, run) > _selection_key(position.best_epoch, position.best, run)
        )
        if improved:
            position.best, position.best_epoch = scores, position.epoch
            processes.on_rank0(lambda: save_pretrained(plain, run.spec, run.folder))
    if predictions.non_finite and position.epoch == 1:
        progress.warn(
            non_finite_warning("test" if options.selection == "test" else "validation", predictions.non_finite)
        )
    n = position.totals["n"]
    record = {
        "epoch": float(position.epoch),
        "train_loss": position.totals["loss"] / n,
        "alignment_loss": position.totals["alignment"] / n,
        "train_accuracy": position.totals["correct"] / n,
        "val_loss": predictions.loss,
        "val_accuracy": predictions.accuracy,
        "learning_rate": trained.optimizer.param_groups[0]["lr"],
        "samples_per_second": throughput,
        "memory_mb": peak_memory(processes.device) / 1e6,
    }
    position.history.append(record)
    return {name: value for name, value in record.items() if name != "epoch"}, improved


def _selection_key(epoch: int, scores: dict[str, float], run: Run) -> tuple[bool, float, float]:
    """Order epochs for selection: after the warm-up first, then highest accuracy, then lowest loss.

    A small validation split can reach 100 % by chance during warm-up, and then no later and better epoch would ever
    replace those weights. Selection on the test split considers all epochs.
    """
    past_warmup = epoch > run.schedule.warmup_epochs
    return past_warmup or run.experiment.train.selection == "test", scores["accuracy"], -scores["loss"]


def _resolve_schedule(
    experiment: Experiment, folder: Path, samples: int, processes: Processes
) -> tuple[Experiment, Schedule]:
    """Replace `auto` in the schedule by numbers for this many samples; a resumed run keeps its own numbers."""
    options = experiment.train
    if experiment.resume and (folder / "experiment.json").is_file():
        before = read_experiment(folder).train
        stored = {name: getattr(before, name) for name in ("epochs", "batch_size", "warmup_epochs")}
        options = options.model_copy(update={k: v for k, v in stored.items() if getattr(options, k) == "auto"})
    schedule = options.schedule(samples, processes.world_size * options.accumulate)
    return experiment.model_copy(update={"train": options.with_schedule(schedule)}), schedule


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
