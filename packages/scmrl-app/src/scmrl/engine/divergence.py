"""Messages about inf and NaN in losses, gradients and inputs: where, on which samples, and what may help."""

# PyTorch leaves the types of some of its own methods open.
# pyright: reportUnknownMemberType=false
from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Literal, cast

from scmrl.engine.checkpoints import checkpoint
from scmrl.engine.checkpoints.checkpoint import Position
from scmrl.engine.parallel import Processes
from snn_datasets import Batch, DatasetInfo

if TYPE_CHECKING:
    from scmrl.engine.train import Run

NonFinite = Literal["loss", "gradient"]


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
