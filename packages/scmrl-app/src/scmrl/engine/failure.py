"""Failures of the machine as one sentence each: memory that is used up, and processes that are gone."""

from __future__ import annotations

from pathlib import Path

import torch.distributed as dist

from scmrl.endings import is_out_of_memory
from scmrl.engine.parallel import Processes
from scmrl.experiment import TrainSpec

LOST_CONNECTION = ("gloo", "NCCL", "Connection closed by peer", "Connection reset by peer", "Broken pipe")
"""What the errors of PyTorch's backends contain when another process has ended."""


def explain_failure(
    error: Exception, folder: Path | None, options: TrainSpec, processes: Processes
) -> Exception | None:
    """The error that tells the user what happened and what to do; None if this one is something else.

    Args:
        error: that ended the training.
        folder: of the run; None if there was none yet.
        options: that it was started with.
        processes: who trained.
    """
    text = str(error).strip() or type(error).__name__
    go_on = f"go on with the same command and --resume --out {folder}" if folder else "start again"
    if is_out_of_memory(error):
        return MemoryError(
            f"out of memory on {processes.device}: lower --train.batch_size (now {options.batch_size}) and start "
            f"anew, or compute each batch in more parts with --train.accumulate (now {options.accumulate}); "
            f"with more memory, {go_on}"
        )
    if text.startswith("DataLoader worker"):
        reason = text.splitlines()[0].partition(")")[2].strip() or "it ended"
        return ChildProcessError(
            f"a process that reads samples died ({reason.rstrip('.')}), most likely for want of memory: use fewer "
            f"--train.workers (now {options.workers}); {go_on}"
        )
    lost = isinstance(error, dist.DistError) or any(part in text for part in LOST_CONNECTION)
    if processes.world_size > 1 and isinstance(error, RuntimeError) and lost:
        return ConnectionError(
            f"process {processes.rank} of {processes.world_size} stopped, because another process is gone (killed, "
            f"out of memory, or ended by an error); start all of them again: {go_on}"
        )
    return None
