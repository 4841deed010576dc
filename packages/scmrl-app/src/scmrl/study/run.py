"""Do a study: start workers, show how far they are, and write what came of it."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
import time
from datetime import datetime
from pathlib import Path

from scmrl.engine.run_folder import differences, write_json
from scmrl.progress import Progress, duration
from scmrl.study.points import Point
from scmrl.study.spec import StudySpec
from scmrl.study.tables import Findings
from scmrl.study.work import WorkList, open_storage

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
        ValueError: settings that the study cannot do, or a folder that holds something else.
        KeyboardInterrupt: the user stopped it; its text says how to go on.
    """
    points = spec.points()
    folder = study_folder(spec)
    settings = spec.settings()
    name = f"{spec.kind}-{hashlib.sha256(json.dumps(settings, sort_keys=True).encode()).hexdigest()[:16]}"
    work = WorkList(open_storage(spec.storage or folder / "journal.log"), name)
    write_json(
        folder / "study.json",
        {"kind": spec.kind, "name": name, "spec": spec.model_dump(mode="json"), "settings": settings},
    )
    keys = [point.key for point in points]
    work.offer(keys, retry_failed=spec.retry_failed)
    left = len(work.unfinished(keys))
    progress.say(f"{spec.kind}: {len(points)} trainings, {left} of them to do; study folder {folder}")
    if left and spec.jobs != 0:
        _watch(spec, folder, points, work, progress)
    results, failures = work.results(), work.failures()
    findings = spec.tabulate(results) if results else None
    if findings is not None:
        missing = len(points) - len(results)
        if missing:
            note = f"{missing} of {len(points)} trainings are missing."
            findings = Findings(findings.kind, findings.title, findings.tables, findings.plots, [note, *findings.notes])
        findings.write(folder)
    return folder, findings, failures


def study_folder(spec: StudySpec) -> Path:
    """The study's folder, made if it is new.

    Raises:
        ValueError: it holds something else, or a study with other settings.
    """
    folder = spec.out or Path("studies") / f"{datetime.now():%Y%m%d-%H%M%S}-{spec.kind}"
    known = folder / "study.json"
    if known.is_file():
        before = json.loads(known.read_text(encoding="utf-8")).get("settings", {})
        faults = [f"{place} was {old} and is {new} now" for place, old, new in differences(before, spec.settings())]
        if faults:
            raise ValueError(
                f"the study in {folder} has other settings: {'; '.join(faults)}; give the same ones to go on with it, "
                "or another --out"
            )
    elif folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise ValueError(f"--out {folder} holds something that is no study; name a folder that is new or empty")
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def default_jobs() -> int:
    """One process a GPU; without, one a core up to eight."""
    import torch

    return torch.cuda.device_count() or min(8, os.cpu_count() or 1)


def _watch(spec: StudySpec, folder: Path, points: list[Point], work: WorkList, progress: Progress) -> None:
    """Start workers and wait for them; they are told to stop when this process is."""
    jobs = min(spec.jobs or default_jobs(), len(points))
    threads = str(max(1, (os.cpu_count() or 1) // jobs))
    keys, told = [point.key for point in points], set(work.results())
    workers = {index: _start(folder, index, threads) for index in range(jobs)}
    restarts = RESTARTS * jobs
    began, before = time.monotonic(), len(told)
    try:
        with progress.phase(f"{spec.kind}, {jobs} at a time", len(points), "trainings") as phase:
            while workers:
                time.sleep(LOOK)
                results, failed = work.results(), work.failures()
                for key in [key for key in keys if key in results and key not in told]:
                    told.add(key)
                    each = (time.monotonic() - began) / max(1, len(told) - before)
                    rest = len(work.unfinished(keys))
                    accuracy = results[key].get("test_accuracy")
                    shown = f": test accuracy {accuracy:.1%}" if accuracy is not None else ""
                    progress.say(
                        f"{len(told)} of {len(points)}: {key}{shown} in {duration(results[key]['seconds'])}"
                        + (f", about {duration(each * rest)} left" if rest else "")
                    )
                phase.update(len(told) + len(failed))
                for index, process in list(workers.items()):
                    if process.poll() is None:
                        continue
                    del workers[index]
                    if process.returncode and work.unfinished(keys):
                        progress.warn(
                            f"a worker ended with exit status {process.returncode}, see {folder / 'workers.log'}"
                        )
                        if restarts:
                            restarts -= 1
                            workers[index] = _start(folder, index, threads)
    except KeyboardInterrupt:
        raise KeyboardInterrupt(f"go on with the same command and --out {folder}") from None
    finally:
        for process in workers.values():
            process.terminate()
        for process in workers.values():
            process.wait()


def _start(folder: Path, index: int, threads: str) -> subprocess.Popen[bytes]:
    environment = {**os.environ, "SCMRL_WORKER": str(index)}
    environment.setdefault("OMP_NUM_THREADS", threads)
    with (folder / "workers.log").open("ab") as log:
        command = [sys.executable, "-m", "scmrl.study.worker", str(folder)]
        # A session of its own: Ctrl-C reaches the workers through this process, which tells them to stop well.
        return subprocess.Popen(command, stdout=log, stderr=log, env=environment, start_new_session=True)
