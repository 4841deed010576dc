"""One-sentence messages for machine failures: out of memory, lost processes."""

from __future__ import annotations

from pathlib import Path

import torch.distributed as dist

from scmrl.config.experiment import TrainSpec
from scmrl.console.errors import is_out_of_memory
from scmrl.engine.parallel import Processes

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
