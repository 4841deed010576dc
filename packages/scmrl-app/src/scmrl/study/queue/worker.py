"""One worker of a study: `python -m scmrl.study.queue.worker FOLDER` trains points until none is left."""

from __future__ import annotations

import os
import shutil
import signal
import sys
import time
import traceback
from pathlib import Path

from optuna.exceptions import StorageInternalError
from rich.console import Console

from scmrl.console.progress import Progress
from scmrl.engine.interruption import Stopped
from scmrl.study.folder import read_study
from scmrl.study.kinds import KINDS
from scmrl.study.points import Point
from scmrl.study.queue.outage import Reconnect
from scmrl.study.queue.storage import open_storage
from scmrl.study.queue.work import Claim, WorkQueue
from scmrl.study.spec import StudySpec

POLL_INTERVAL = 1.0
"""Seconds between two checks whether a point has become free."""
EXIT_CLAIM_LOST = 4
"""Exit status of a worker whose point was given to another one."""


def run_worker(folder: Path, index: int = 0) -> None:
    """Train the points of the study in `folder`, stage by stage, until all of them have finished or failed.

    Raises:
        KeyboardInterrupt: the worker was stopped; its point is free again.
    """
    spec, name, storage = read_study(folder)
    reconnect = Reconnect(_print)
    queue = WorkQueue(open_storage(storage, reconnect), name, clock=reconnect.clock)
    _choose_gpu(index)
    for stage in spec.stages():
        points = {point.key: point for point in stage}
        while queue.unfinished(points):
            # A worker that lost its claim exits at once: it must not write where another one works now.
            claim = queue.claim(points, on_loss=lambda: os._exit(EXIT_CLAIM_LOST))
            if claim is None:
                time.sleep(POLL_INTERVAL)
                continue
            with claim:
                _run_point(spec, points[claim.key], claim, folder, reconnect)


def _run_point(spec: StudySpec, point: Point, claim: Claim, folder: Path, reconnect: Reconnect) -> None:
    run_folder = folder / "points" / point.key
    run_folder.mkdir(parents=True, exist_ok=True)
    with (run_folder.parent / f"{point.key}.log").open("a", encoding="utf-8") as log:
        began = time.monotonic()
        try:
            with Progress.create(Console(file=log, force_terminal=False, width=160)) as progress:
                result, score = KINDS[spec.kind].run_point(spec, point, run_folder, progress, claim)
            if claim.finish(result, score):
                shutil.rmtree(run_folder / "checkpoints", ignore_errors=True)  # the selected model stays
        except (KeyboardInterrupt, Stopped):
            reconnect.cancel()  # a stopping worker has no time to wait for a database
            claim.release()
            raise KeyboardInterrupt from None
        except StorageInternalError:  # the database failed, not the point, which resumes from its checkpoint
            log.write(traceback.format_exc())
            claim.release()
        except Exception as error:  # one failed point must not end the study
            log.write(traceback.format_exc())
            claim.fail(f"{type(error).__name__}: {error}" if not isinstance(error, ValueError) else str(error))
        log.write(f"{time.monotonic() - began:.0f} s\n")


def _choose_gpu(index: int) -> None:
    import torch

    if torch.cuda.is_available():
        torch.cuda.set_device(index % torch.cuda.device_count())


def _print(message: str) -> None:
    print(message, flush=True)


def main() -> None:
    """Run one worker; SIGTERM and SIGINT free its point."""
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # as Ctrl-C does
    try:
        run_worker(Path(sys.argv[1]), int(os.environ.get("SCMRL_WORKER", "0")))
    except KeyboardInterrupt:
        sys.exit(130)


if __name__ == "__main__":
    main()
