"""Run a study: start workers, show their progress, and write the results."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, NoReturn, TypeVar

from optuna.exceptions import StorageInternalError

from scmrl.console.progress import Progress, format_duration
from scmrl.engine.interruption import Stopped
from scmrl.study.folder import study_folder, write_study_file
from scmrl.study.kinds import KINDS
from scmrl.study.points import Point
from scmrl.study.queue.outage import Reconnect
from scmrl.study.queue.storage import hide_password, open_storage
from scmrl.study.queue.work import WorkQueue
from scmrl.study.spec import StudySpec
from scmrl.study.tables import StudyFindings

T = TypeVar("T")

POLL_INTERVAL = 1.0
"""Seconds between two reads of the work queue."""
MAX_RESTARTS = 5
"""Number of dead workers that are replaced, per job."""


def run_study(spec: StudySpec, progress: Progress) -> tuple[Path, StudyFindings | None, dict[str, str]]:
    """Train every unfinished point, and write tables and plots into the study's folder.

    The same command resumes a study that was stopped. Run on several machines with the same `storage` or the same
    folder, it shares the work.

    Returns:
        the folder, the findings (None if no point has finished), and the errors by point.

    Raises:
        ValueError: invalid settings, a folder that holds something else or is damaged, or a database that stays down.
        ChildProcessError: workers died repeatedly, so points are unfinished; the finished ones are written.
        KeyboardInterrupt: the user stopped it; the message says how to resume.
        Stopped: a scheduler stopped it.
    """
    points = spec.points()
    folder = study_folder(spec)
    try:
        return folder, *_run(spec, folder, points, progress)
    except json.JSONDecodeError as error:
        raise ValueError(
            f"{folder / 'journal.log'} is damaged ({error}); restore it from a backup, or start again with another "
            "--out"
        ) from error
    except StorageInternalError as error:
        assert spec.storage is not None
        reason = str(error.__cause__ or error).splitlines()[0]
        raise ValueError(
            f"the connection to --storage {hide_password(spec.storage)} was lost ({reason}); resume with the same "
            f"command and --out {folder}"
        ) from error


def _run(
    spec: StudySpec, folder: Path, points: list[Point], progress: Progress
) -> tuple[StudyFindings | None, dict[str, str]]:
    """Train the unfinished points and write the findings; also return the errors by point."""
    name = write_study_file(spec, folder)
    queue = WorkQueue(open_storage(spec.storage or folder / "journal.log", Reconnect(progress.warn)), name)
    keys = [point.key for point in points]
    queue.enqueue(keys, retry_failed=spec.retry_failed)
    unfinished = len(queue.unfinished(keys))
    progress.info(f"{spec.kind}: {len(points)} trainings, {unfinished} unfinished; study folder {folder}")
    if unfinished and spec.jobs != 0:
        _supervise_workers(spec, folder, points, unfinished, queue, progress)
    # The queue may hold further points, of seeds or variants that were selected another time.
    results, failures = _select(keys, queue.results()), _select(keys, queue.failures())
    findings = KINDS[spec.kind].tabulate(spec, results) if results else None
    if findings is not None:
        missing = len(points) - len(results)
        if missing:
            note = f"{missing} of {len(points)} trainings are missing."
            findings = replace(findings, notes=[note, *findings.notes])
        findings.write(folder)
    unfinished = len(queue.unfinished(keys))
    if unfinished and spec.jobs != 0:
        raise ChildProcessError(
            f"{unfinished} of {len(points)} trainings are unfinished because workers died repeatedly: see "
            f"{folder / 'workers.log'}; resume with the same command and --out {folder}"
        )
    return findings, failures


def default_jobs() -> int:
    """Return one job per GPU; without a GPU, one per core, up to eight."""
    import torch

    return torch.cuda.device_count() or min(8, os.cpu_count() or 1)


def _supervise_workers(
    spec: StudySpec, folder: Path, points: list[Point], unfinished: int, queue: WorkQueue, progress: Progress
) -> None:
    """Start workers and wait for them; stop them when this process is stopped."""
    jobs = min(spec.jobs or default_jobs(), unfinished)
    threads = str(max(1, (os.cpu_count() or 1) // jobs))
    keys = [point.key for point in points]
    reported = set(_select(keys, queue.results()))
    environment = {**os.environ, **({"SCMRL_STORAGE": spec.storage} if spec.storage else {})}
    environment.setdefault("OMP_NUM_THREADS", threads)
    workers: dict[int, subprocess.Popen[bytes]] = {}
    restarts = MAX_RESTARTS * jobs
    previous_handler = signal.signal(signal.SIGTERM, _stop)
    try:
        for index in range(jobs):
            workers[index] = _start_worker(folder, index, environment)
        with progress.phase(f"{spec.kind}, {jobs} at a time", len(points), "trainings") as phase:
            while workers:
                time.sleep(POLL_INTERVAL)
                ended = [index for index, process in workers.items() if process.poll() is not None]
                results, failures, waiting = _retry_once(
                    lambda: (queue.results(), queue.failures(), queue.unfinished(keys))
                )
                for key in [key for key in keys if key in results and key not in reported]:
                    reported.add(key)
                    rest = time_left(results, keys, waiting=len(waiting), jobs=jobs)
                    progress.info(
                        f"{len(reported)} of {len(points)}: {key}{_accuracy_text(results[key])} in "
                        f"{format_duration(results[key]['seconds'])}"
                        + (f", about {format_duration(rest)} left" if rest is not None else "")
                    )
                phase.update(len(reported) + len(_select(keys, failures)))
                for index in ended:
                    status = workers.pop(index).returncode
                    if status and waiting:
                        progress.warn(f"a worker exited with status {status}, see {folder / 'workers.log'}")
                        if restarts:
                            restarts -= 1
                            workers[index] = _start_worker(folder, index, environment)
    except (KeyboardInterrupt, Stopped) as stop:
        raise type(stop)(f"stopped; resume with the same command and --out {folder}") from None
    finally:
        for process in workers.values():
            process.terminate()
        for process in workers.values():
            process.wait()
        signal.signal(signal.SIGTERM, previous_handler)


def time_left(
    results: Mapping[str, Mapping[str, Any]], keys: Sequence[str], *, waiting: int, jobs: int
) -> float | None:
    """Estimate the seconds until all trainings have finished; None while too few have finished.

    Args:
        results: of the finished trainings.
        keys: every training of the study.
        waiting: number of unfinished trainings, running ones included.
        jobs: number of parallel trainings.
    """
    seconds = [float(results[key]["seconds"]) for key in keys if key in results]
    if not waiting or len(seconds) < min(jobs, 3):
        return None
    running = min(jobs, waiting)
    # On average, each running training is half done.
    return max(1.0, (waiting - running / 2) / running) * sum(seconds) / len(seconds)


def _select(keys: list[str], values: Mapping[str, T]) -> dict[str, T]:
    return {key: values[key] for key in keys if key in values}


def _retry_once(query: Callable[[], T]) -> T:
    """Query the storage; repeat a query that was cut, which then waits for the database."""
    try:
        return query()
    except StorageInternalError:
        return query()


def _accuracy_text(result: Mapping[str, Any]) -> str:
    """Format the test accuracy, or the validation accuracy of a search trial, which has no test accuracy."""
    split = "test" if "test_accuracy" in result else "validation"
    accuracy = result.get(f"{split}_accuracy")
    return f": {split} accuracy {accuracy:.1%}" if accuracy is not None else ""


def _stop(*_: object) -> NoReturn:
    raise Stopped


def _start_worker(folder: Path, index: int, environment: Mapping[str, str]) -> subprocess.Popen[bytes]:
    with (folder / "workers.log").open("ab") as log:
        command = [sys.executable, "-m", "scmrl.study.queue.worker", str(folder)]
        environment = {**environment, "SCMRL_WORKER": str(index)}
        # In a new session, Ctrl-C reaches the workers only through this process, which terminates them cleanly.
        return subprocess.Popen(command, stdout=log, stderr=log, env=environment, start_new_session=True)
