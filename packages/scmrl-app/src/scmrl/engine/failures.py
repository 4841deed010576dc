"""Errors and warnings of a training: inf and NaN, skipped steps, out of memory, lost processes."""

# PyTorch leaves the types of some of its own methods open.
# pyright: reportUnknownMemberType=false
from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Literal, cast

import torch.distributed as dist

from scmrl.config.experiment import TrainSpec
from scmrl.console.errors import is_out_of_memory
from scmrl.engine.checkpoints import checkpoint
from scmrl.engine.checkpoints.checkpoint import Position
from scmrl.engine.parallel import Processes
from scmrl.engine.run import Run
from snn_datasets import Batch, DatasetInfo

NonFinite = Literal["loss", "gradient"]
CONNECTION_ERRORS = ("gloo", "NCCL", "Connection closed by peer", "Connection reset by peer", "Broken pipe")
"""Texts in errors of PyTorch's backends when another process has ended."""


def explain_failure(
    error: Exception, folder: Path | None, options: TrainSpec, processes: Processes
) -> Exception | None:
    """Return an error that says what happened and what to do; None if this is not a machine failure.

    Args:
        error: the error that ended the training.
        folder: of the run; None if there is none yet.
        options: training options of the run.
        processes: the process group.
    """
    text = str(error).strip() or type(error).__name__
    resume = f"resume with the same command and --resume --out {folder}" if folder else "start again"
    if is_out_of_memory(error):
        return MemoryError(
            f"out of memory on {processes.device}: lower --train.batch_size (now {options.batch_size}) and start "
            f"again, or split each batch into more parts with --train.accumulate (now {options.accumulate}); "
            f"with more memory, {resume}"
        )
    if text.startswith("DataLoader worker"):
        reason = text.splitlines()[0].partition(")")[2].strip() or "it ended"
        return ChildProcessError(
            f"a data loader worker died ({reason.rstrip('.')}), most likely out of memory: use fewer "
            f"--train.workers (now {options.workers}); {resume}"
        )
    connection_lost = isinstance(error, dist.DistError) or any(part in text for part in CONNECTION_ERRORS)
    if processes.world_size > 1 and isinstance(error, RuntimeError) and connection_lost:
        return ConnectionError(
            f"process {processes.rank} of {processes.world_size} stopped, because another process is gone (killed, "
            f"out of memory, or ended by an error); start all of them again: {resume}"
        )
    return None


def divergence_message(run: Run, nonfinite: NonFinite | None, batches: Sequence[Batch], processes: Processes) -> str:
    """Describe a diverged step. All ranks must call this; they get the same message.

    Args:
        run: the run and its position.
        nonfinite: what is inf or NaN on this rank; None if nothing is.
        batches: the step's samples on this rank.
        processes: the process group.
    """
    position, info = run.position, run.splits.info
    ids_here = [id_ for batch in batches for id_ in batch["ids"]]
    by_rank = processes.all_gather((nonfinite or "", ids_here, non_finite_inputs(batches, info)))
    ids = ", ".join(id_ for _, rank_ids, _ in by_rank for id_ in rank_ids)
    faulty_inputs = ", ".join(name for _, _, names in by_rank for name in names)
    checkpoints = checkpoint.complete_checkpoints(run.folder)
    last = f"the last good checkpoint is {checkpoints[-1]}" if checkpoints else "there is no checkpoint yet"
    remedy = f"Try a lower --train.learning_rate (now {run.experiment.train.learning_rate:g})"
    if faulty_inputs:
        remedy = f"Inputs are inf or NaN too; replace or leave out: {faulty_inputs}"
    return (
        f"the {max(quantity for quantity, _, _ in by_rank)} is inf or NaN in epoch {position.epoch}, step "
        f"{position.step}, on samples {ids}; {last}. {remedy}"
    )


def non_finite_warning(split: str, faulty: Sequence[str]) -> str:
    """Warn about inputs of a split that hold inf or NaN, each as `audio of clip7`."""
    return (
        f"{split}: {abbreviate(faulty)} {'hold' if len(faulty) > 1 else 'holds'} inf or NaN, so predictions for "
        "these samples are meaningless; replace or leave out"
    )


def skipped_warning(position: Position, steps: int) -> str:
    """Warn about steps that the gradient scaler skipped in an epoch; empty if none, or as few as are usual.

    Args:
        position: at the end of the epoch.
        steps: optimizer steps of the epoch.
    """
    # In the first epoch the scaler searches for its scale, which takes a few steps.
    if not position.skipped or (position.epoch == 1 and position.skipped < steps):
        return ""
    return (
        f"epoch {position.epoch}: {position.skipped} of {steps} steps were skipped because their gradient exceeded "
        "the range of float16"
    )


def abbreviate(names: Sequence[str], limit: int = 5) -> str:
    """Join the first names of a list, and count the rest."""
    return ", ".join(names[:limit]) + (f" and {len(names) - limit} more" if len(names) > limit else "")


def non_finite_inputs(batches: Sequence[Batch], info: DatasetInfo) -> list[str]:
    """Inputs that hold inf or NaN, each as `audio of clip7`."""
    faulty: list[str] = []
    for batch in batches:
        for name, x in batch["inputs"].items():
            samples = x if info.modalities[name].time_steps is None else x.transpose(0, 1)
            finite = cast("list[bool]", samples.isfinite().flatten(1).all(1).tolist())
            faulty += [f"{name} of {id_}" for id_, is_finite in zip(batch["ids"], finite, strict=True) if not is_finite]
    return faulty
