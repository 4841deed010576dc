"""One worker of a study: `python -m scmrl.study.worker FOLDER` takes points until none is left."""

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

from scmrl.engine.interruption import Stopped
from scmrl.progress import Progress
from scmrl.study.kinds import read_study
from scmrl.study.outage import Patience
from scmrl.study.points import Point
from scmrl.study.spec import StudySpec
from scmrl.study.storage import open_storage
from scmrl.study.work import Claim, WorkList

WAIT = 1.0
"""Seconds until a worker looks again whether someone else's point has become free."""
LOST = 4
"""Exit status of a worker whose point was given to another one."""


def work(folder: Path, index: int = 0) -> None:
    """Take points of the study in `folder` until all are done, failed or nobody's, one stage after the other.

    Raises:
        KeyboardInterrupt: the worker was told to stop; its point is free again.
    """
    spec, name, storage = read_study(folder)
    patience = Patience(_say)
    every = WorkList(open_storage(storage, patience), name, clock=patience.clock)
    _choose_gpu(index)
    for stage in spec.stages():
        points = {point.key: point for point in stage}
        while every.unfinished(points):
            # Whoever was given up ends at once: it must not write where another one now works.
            claim = every.take(points, on_loss=lambda: os._exit(LOST))
            if claim is None:
                time.sleep(WAIT)
                continue
            with claim:
                _do(spec, points[claim.key], claim, folder, patience)


def _do(spec: StudySpec, point: Point, claim: Claim, folder: Path, patience: Patience) -> None:
    place = folder / "points" / point.key
    place.mkdir(parents=True, exist_ok=True)
    with (place.parent / f"{point.key}.log").open("a", encoding="utf-8") as log:
        began = time.monotonic()
        try:
            with Progress.create(Console(file=log, force_terminal=False, width=160)) as progress:
                result, score = spec.carry_out(point, place, progress, claim)
            if claim.finish(result, score):
                shutil.rmtree(place / "checkpoints", ignore_errors=True)  # the model that was kept stays
        except (KeyboardInterrupt, Stopped):
            patience.end()  # whoever stops has no time to wait for a database
            claim.release()
            raise KeyboardInterrupt from None
        except StorageInternalError:  # the database's fault and not the point's, which goes on from its checkpoint
            log.write(traceback.format_exc())
            claim.release()
        except Exception as error:  # one point's fault must not end the study
            log.write(traceback.format_exc())
            claim.fail(f"{type(error).__name__}: {error}" if not isinstance(error, ValueError) else str(error))
        log.write(f"{time.monotonic() - began:.0f} s\n")


def _choose_gpu(index: int) -> None:
    import torch

    if torch.cuda.is_available():
        torch.cuda.set_device(index % torch.cuda.device_count())


def _say(message: str) -> None:
    print(message, flush=True)


def main() -> None:
    """Run one worker; a scheduler's or the user's wish to stop frees its point."""
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # as Ctrl-C does
    try:
        work(Path(sys.argv[1]), int(os.environ.get("SCMRL_WORKER", "0")))
    except KeyboardInterrupt:
        sys.exit(130)


if __name__ == "__main__":
    main()
