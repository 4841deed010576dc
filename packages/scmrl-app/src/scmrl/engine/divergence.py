"""What is said when a loss or a gradient is no longer finite: when, on which samples, and what may help."""

# PyTorch leaves the types of some of its own methods open.
# pyright: reportUnknownMemberType=false
from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, cast

from scmrl.engine import checkpoint
from scmrl.engine.checkpoint import Position
from scmrl.engine.parallel import Processes
from snn_datasets import Batch, DatasetInfo

if TYPE_CHECKING:
    from scmrl.engine.train import Run


def divergence_message(run: Run, lost: str, batches: Sequence[Batch], processes: Processes) -> str:
    """The message, the same in all processes, each of which has to ask for it.

    Args:
        run: what is trained, and where it is.
        lost: what is not finite in this process, `loss` or `gradient`; empty if all is well in it.
        batches: the step's samples in this process.
        processes: who trains.
    """
    position, info = run.position, run.splits.info
    every = processes.all_gather(
        (lost, [id_ for batch in batches for id_ in batch["ids"]], non_finite_inputs(batches, info))
    )
    ids = ", ".join(id_ for _, mine, _ in every for id_ in mine)
    faulty = ", ".join(fault for _, _, mine in every for fault in mine)
    good = checkpoint.complete_checkpoints(run.folder)
    kept = f"the last good checkpoint is {good[-1]}" if good else "there is no checkpoint yet"
    remedy = f"Try a lower --train.learning_rate (now {run.experiment.train.learning_rate:g})"
    if faulty:
        remedy = f"So are inputs, which have to be replaced or left out: {faulty}"
    return (
        f"the {max(what for what, _, _ in every)} became infinite or no number in epoch {position.epoch}, step "
        f"{position.step}, on samples {ids}; {kept}. {remedy}"
    )


def non_finite_warning(split: str, faulty: Sequence[str]) -> str:
    """Inputs of a split that hold NaN or infinity, as `audio of clip7`, as a warning."""
    return (
        f"{split}: {abbreviate(faulty)} {'hold' if len(faulty) > 1 else 'holds'} NaN or infinity, so the "
        "model's answers there mean nothing; replace or leave out"
    )


def skipped_warning(position: Position, steps: int) -> str:
    """What is said at the end of an epoch of the steps that the gradient scaler skipped; empty if that is usual.

    Args:
        position: at the end of the epoch.
        steps: of the epoch.
    """
    # In the first epoch the scaler looks for its scale, which takes a few steps.
    if not position.skipped or (position.epoch == 1 and position.skipped < steps):
        return ""
    return (
        f"epoch {position.epoch}: {position.skipped} of {steps} steps were skipped, because their gradient left the "
        "range of float16"
    )


def abbreviate(names: Sequence[str], shown: int = 5) -> str:
    """The first names of a list, and how many more there are."""
    return ", ".join(names[:shown]) + (f" and {len(names) - shown} more" if len(names) > shown else "")


def non_finite_inputs(batches: Sequence[Batch], info: DatasetInfo) -> list[str]:
    """Which inputs hold what is infinite or no number, as `audio of clip7`."""
    found: list[str] = []
    for batch in batches:
        for name, x in batch["inputs"].items():
            samples = x if info.modalities[name].time_steps is None else x.transpose(0, 1)
            fine = cast("list[bool]", samples.isfinite().flatten(1).all(1).tolist())
            found += [f"{name} of {id_}" for id_, is_fine in zip(batch["ids"], fine, strict=True) if not is_fine]
    return found
