"""Do a study: start workers, show how far they are, and write what came of it."""

from __future__ import annotations

import hashlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from typing import Any, NoReturn, TypeVar

from optuna.exceptions import StorageInternalError

from scmrl.engine.interruption import Stopped
from scmrl.engine.run_folder import differences
from scmrl.progress import Progress, format_duration
from scmrl.study.kinds import read_content
from scmrl.study.outage import Patience
from scmrl.study.points import Point
from scmrl.study.spec import StudySpec
from scmrl.study.storage import open_storage, shown
from scmrl.study.tables import PART, Findings, write_text
from scmrl.study.work import WorkList

T = TypeVar("T")

LOOK = 1.0
"""Seconds between two looks at the work list."""
RESTARTS = 5
"""Workers that are started in place of dead ones, for each of the first."""


def run_study(spec: StudySpec, progress: Progress) -> tuple[Path, Findings | None, dict[str, str]]:
    """Do every point that is not done yet, and write tables and plots into the study's folder.

    The same command goes on where it was stopped. Given on several machines with the same `storage`, or the same
    folder, it shares the work.

    Returns:
        the folder, what was found (None where no point is done), and by point what went wrong.

    Raises:
        ValueError: settings that the study cannot do, a folder that holds something else or is broken, or a database
            that stays away.
        ChildProcessError: workers died again and again, so points are left; what is done is written.
        KeyboardInterrupt: the user stopped it; its text says how to go on.
        Stopped: a scheduler did.
    """
    points = spec.points()
    folder = study_folder(spec)
    try:
        return folder, *_findings(spec, folder, points, progress)
    except json.JSONDecodeError as error:
        raise ValueError(
            f"{folder / 'journal.log'} is damaged ({error}); restore it from a backup, or begin anew with another --out"
        ) from error
    except StorageInternalError as error:
        assert spec.storage is not None
        raise ValueError(
            f"--storage {shown(spec.storage)} was lost ({str(error.__cause__ or error).splitlines()[0]}); go on with "
            f"the same command and --out {folder}"
        ) from error


def _findings(
    spec: StudySpec, folder: Path, points: list[Point], progress: Progress
) -> tuple[Findings | None, dict[str, str]]:
    """Do what is to do, and write what came of it; by point, what went wrong."""
    settings = spec.settings()
    name = f"{spec.kind}-{hashlib.sha256(json.dumps(settings, sort_keys=True).encode()).hexdigest()[:16]}"
    content = {
        "kind": spec.kind,
        "name": name,
        "storage": spec.storage and shown(spec.storage),
        "spec": spec.model_dump(mode="json", exclude={"storage"}),
        "settings": settings,
    }
    write_text(folder / "study.json", json.dumps(content, indent=2) + "\n")
    work = WorkList(open_storage(spec.storage or folder / "journal.log", Patience(progress.warn)), name)
    keys = [point.key for point in points]
    work.offer(keys, retry_failed=spec.retry_failed)
    left = len(work.unfinished(keys))
    progress.info(f"{spec.kind}: {len(points)} trainings, {left} of them to do; study folder {folder}")
    if left and spec.jobs != 0:
        _watch(spec, folder, points, left, work, progress)
    # The folder may know of more points, of seeds or variants that were asked for another time.
    results, failures = _only(keys, work.results()), _only(keys, work.failures())
    findings = spec.tabulate(results) if results else None
    if findings is not None:
        missing = len(points) - len(results)
        if missing:
            note = f"{missing} of {len(points)} trainings are missing."
            findings = replace(findings, notes=[note, *findings.notes])
        findings.write(folder)
    left = len(work.unfinished(keys))
    if left and spec.jobs != 0:
        raise ChildProcessError(
            f"{left} of {len(points)} trainings are not done, because workers died again and again: see "
            f"{folder / 'workers.log'}; go on with the same command and --out {folder}"
        )
    return findings, failures


def study_folder(spec: StudySpec) -> Path:
    """The study's folder, made if it is new.

    Raises:
        ValueError: it holds something else, or a study with other settings.
    """
    folder = spec.out or Path("studies") / f"{datetime.now():%Y%m%d-%H%M%S}-{spec.kind}"
    if (folder / "study.json").is_file():
        content = read_content(folder)
        before, kind = content.get("settings", {}), content.get("kind")
        if kind != spec.kind:
            raise ValueError(f"{folder} holds a study of another kind, {kind}; name another folder with --out")
        faults = [f"{place} was {old} and is {new} now" for place, old, new in differences(before, spec.settings())]
        if faults:
            raise ValueError(
                f"the study in {folder} has other settings: {'; '.join(faults)}; give the same ones to go on with it, "
                "or another --out"
            )
    elif folder.exists() and (not folder.is_dir() or any(not p.name.startswith(PART) for p in folder.iterdir())):
        raise ValueError(f"--out {folder} holds something that is no study; name a folder that is new or empty")
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def default_jobs() -> int:
    """One process a GPU; without, one a core up to eight."""
    import torch

    return torch.cuda.device_count() or min(8, os.cpu_count() or 1)


def _watch(spec: StudySpec, folder: Path, points: list[Point], left: int, work: WorkList, progress: Progress) -> None:
    """Start workers and wait for them; they are told to stop when this process is."""
    jobs = min(spec.jobs or default_jobs(), left)
    threads = str(max(1, (os.cpu_count() or 1) // jobs))
    keys = [point.key for point in points]
    told = set(_only(keys, work.results()))
    environment = {**os.environ, **({"SCMRL_STORAGE": spec.storage} if spec.storage else {})}
    environment.setdefault("OMP_NUM_THREADS", threads)
    workers: dict[int, subprocess.Popen[bytes]] = {}
    restarts = RESTARTS * jobs
    before_us = signal.signal(signal.SIGTERM, _stop)
    try:
        for index in range(jobs):
            workers[index] = _start(folder, index, environment)
        with progress.phase(f"{spec.kind}, {jobs} at a time", len(points), "trainings") as phase:
            while workers:
                time.sleep(LOOK)
                ended = [index for index, process in workers.items() if process.poll() is not None]
                results, failures, waiting = _ask(lambda: (work.results(), work.failures(), work.unfinished(keys)))
                for key in [key for key in keys if key in results and key not in told]:
                    told.add(key)
                    rest = time_left(results, keys, waiting=len(waiting), jobs=jobs)
                    progress.info(
                        f"{len(told)} of {len(points)}: {key}{_accuracy(results[key])} in "
                        f"{format_duration(results[key]['seconds'])}"
                        + (f", about {format_duration(rest)} left" if rest is not None else "")
                    )
                phase.update(len(told) + len(_only(keys, failures)))
                for index in ended:
                    status = workers.pop(index).returncode
                    if status and waiting:
                        progress.warn(f"a worker ended with exit status {status}, see {folder / 'workers.log'}")
                        if restarts:
                            restarts -= 1
                            workers[index] = _start(folder, index, environment)
    except (KeyboardInterrupt, Stopped) as stop:
        raise type(stop)(f"stopped; go on with the same command and --out {folder}") from None
    finally:
        for process in workers.values():
            process.terminate()
        for process in workers.values():
            process.wait()
        signal.signal(signal.SIGTERM, before_us)


def time_left(
    results: Mapping[str, Mapping[str, Any]], keys: Sequence[str], *, waiting: int, jobs: int
) -> float | None:
    """Seconds until all trainings are done, by the mean of those that are; None where that is not known yet.

    Args:
        results: of the trainings that are done.
        keys: every training of the study.
        waiting: how many are not done, those under way included.
        jobs: how many train at a time.
    """
    seconds = [float(results[key]["seconds"]) for key in keys if key in results]
    if not waiting or len(seconds) < min(jobs, 3):
        return None
    under_way = min(jobs, waiting)
    # On average, half of each training under way is behind it.
    return max(1.0, (waiting - under_way / 2) / under_way) * sum(seconds) / len(seconds)


def _only(keys: list[str], found: Mapping[str, T]) -> dict[str, T]:
    return {key: found[key] for key in keys if key in found}


def _ask(question: Callable[[], T]) -> T:
    """The answer to a question to the storage; one that was cut in the middle is asked again, which waits."""
    try:
        return question()
    except StorageInternalError:
        return question()


def _accuracy(result: Mapping[str, Any]) -> str:
    """What is said of a training: a search does not look at the test split."""
    split = "test" if "test_accuracy" in result else "validation"
    accuracy = result.get(f"{split}_accuracy")
    return f": {split} accuracy {accuracy:.1%}" if accuracy is not None else ""


def _stop(*_: object) -> NoReturn:
    raise Stopped


def _start(folder: Path, index: int, environment: Mapping[str, str]) -> subprocess.Popen[bytes]:
    with (folder / "workers.log").open("ab") as log:
        command = [sys.executable, "-m", "scmrl.study.worker", str(folder)]
        environment = {**environment, "SCMRL_WORKER": str(index)}
        # A session of its own: Ctrl-C reaches the workers through this process, which tells them to stop well.
        return subprocess.Popen(command, stdout=log, stderr=log, env=environment, start_new_session=True)
