"""Studies over several processes and commands, in journals and in PostgreSQL, with workers that are killed."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Generator
from pathlib import Path
from typing import Any

import pytest
from optuna.storages import BaseStorage, RDBStorage
from optuna.trial import FrozenTrial, TrialState
from sqlalchemy import create_engine
from sqlalchemy.pool import NullPool

from app.postgres import postgres
from app.tiny import tiny_options, write_tiny_dataset
from scmrl.study.folder import read_study
from scmrl.study.queue.storage import open_storage

WORKER = Path(__file__).with_name("study_worker.py")
COUNT = 12


@pytest.fixture(scope="session")
def database() -> Generator[str, None, None]:
    with postgres() as server:
        yield server.address


@pytest.fixture(params=["journal", pytest.param("postgresql", marks=[pytest.mark.slow, pytest.mark.needs("postgres")])])
def location(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    if request.param == "journal":
        return str(tmp_path / "journal.log")
    address: str = request.getfixturevalue("database")
    empty(address)
    return address


def empty(database: str) -> None:
    """Remove everything that other tests left, tables included."""
    engine = create_engine(database, poolclass=NullPool)
    with engine.begin() as connection:
        connection.exec_driver_sql("DROP SCHEMA public CASCADE")
        connection.exec_driver_sql("CREATE SCHEMA public")


def worker(location: str, log: Path, hang: int = 0) -> subprocess.Popen[bytes]:
    """Start a worker."""
    return subprocess.Popen([sys.executable, WORKER, location, str(COUNT), log, str(hang)])


def trials_in(location: str, name: str = "study") -> list[FrozenTrial]:
    """Return every trial of a study."""
    storage = open_storage(location if "://" in location else Path(location))
    trials = storage.get_all_trials(storage.get_study_id_from_name(name))
    close(storage)
    return trials


def close(storage: BaseStorage) -> None:
    """Close all connections."""
    if isinstance(storage, RDBStorage):
        storage.remove_session()
        storage.engine.dispose()


def completed(trials: list[FrozenTrial]) -> Counter[str]:
    """Count how often each point was done."""
    return Counter(trial.user_attrs["key"] for trial in trials if trial.state == TrialState.COMPLETE)


def until(condition: Callable[[], Any], *, seconds: float = 240) -> Any:
    """Wait until a condition is true, and return its value."""
    end = time.monotonic() + seconds
    while not (value := condition()):
        assert time.monotonic() < end, "timed out"
        time.sleep(0.05)
    return value


def stop(*processes: subprocess.Popen[Any]) -> None:
    """Kill running processes."""
    for process in processes:
        process.kill()
        process.wait()


def test_three_processes_do_every_point_once(location: str, tmp_path: Path):
    """They start at the same time, so that several create the tables of a new database."""
    logs = [tmp_path / f"log{i}" for i in range(3)]
    workers = [worker(location, log) for log in logs]
    try:
        assert [process.wait(120) for process in workers] == [0, 0, 0]
    finally:
        stop(*workers)

    started = [line for log in logs if log.exists() for line in log.read_text().splitlines() if "begin" in line]
    assert Counter(started) == {f"begin point{i}": 1 for i in range(COUNT)}
    assert completed(trials_in(location)) == {f"point{i}": 1 for i in range(COUNT)}


def test_every_point_is_done_once_when_one_of_two_workers_is_killed(location: str, tmp_path: Path):
    doomed, other = tmp_path / "doomed", tmp_path / "other"
    first = worker(location, doomed, hang=3)
    second = None
    try:
        until(lambda: doomed.exists() and doomed.read_text().count("begin") == 3)
        second = worker(location, other)
        until(lambda: other.exists() and other.read_text().count("end") >= 2)
        first.send_signal(signal.SIGKILL)
        first.wait()
        assert second.wait(120) == 0
    finally:
        stop(first, *([second] if second else []))

    lost = doomed.read_text().splitlines()[-1]
    assert lost in other.read_text().splitlines()
    assert completed(trials_in(location)) == {f"point{i}": 1 for i in range(COUNT)}


@pytest.mark.needs("postgres")
def test_several_processes_can_open_a_new_database_at_once(database: str):
    empty(database)
    start, opened = threading.Barrier(6), list[BaseStorage]()

    def open_it() -> None:
        start.wait()
        opened.append(open_storage(database))

    threads = [threading.Thread(target=open_it) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    try:
        assert len(opened) == 6
        assert [storage.get_all_studies() for storage in opened] == [[]] * 6
    finally:
        for storage in opened:
            close(storage)


def command(data: Path, out: Path, *options: str) -> list[str]:
    """Return the command of a sensitivity study with six points of one or two seconds."""
    tiny = tiny_options(data, out)
    tiny[tiny.index("--train.epochs") + 1] = "1"
    vary = ["--vary", "model.fusion.alpha=0,1", "--vary", "train.learning_rate=0.001,0.01,0.02", "--seeds", "3"]
    return [sys.executable, "-m", "scmrl", "study", "sensitivity", *tiny, *vary, *options]


def start(data: Path, out: Path, *options: str) -> subprocess.Popen[str]:
    """Start the command."""
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    arguments = command(data, out, *options)
    return subprocess.Popen(arguments, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=environment)


def journal_of(out: Path) -> list[FrozenTrial]:
    """Return the trials of a study in a folder; none before the queue exists."""
    if not (out / "journal.log").exists() or not (out / "study.json").exists():
        return []
    try:
        return trials_in(str(out / "journal.log"), read_study(out)[1])
    except KeyError:  # the journal is empty
        return []


def running(trials: list[FrozenTrial]) -> list[int]:
    """Return the ids of processes that are training points."""
    states = [trial for trial in trials if trial.state == TrialState.RUNNING and "worker" in trial.user_attrs]
    return [int(trial.user_attrs["worker"].rpartition(":")[2]) for trial in states]


def rows_of_points(out: Path) -> list[list[str]]:
    """Return the table of all points without the seconds."""
    tables = json.loads((out / "results.json").read_text())["tables"]
    return [row[:-1] for row in next(table for table in tables if table["title"] == "All points")["rows"]]


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tiny_dataset(tmp_path_factory.mktemp("data"))


@pytest.mark.slow
def test_a_study_survives_a_killed_worker(data: Path, tmp_path: Path):
    out = tmp_path / "study"
    study = start(data, out, "--jobs", "2")
    try:
        killed = until(lambda: running(journal_of(out)))[0]
        os.kill(killed, signal.SIGKILL)
        output, _ = study.communicate(timeout=400)
    finally:
        stop(study)

    assert study.returncode == 0, output
    assert "a worker exited with status -9" in output
    assert sorted(completed(journal_of(out)).values()) == [1] * 6
    assert len(rows_of_points(out)) == 6


@pytest.mark.slow
def test_a_study_whose_command_was_killed_resumes_with_the_same_command(data: Path, tmp_path: Path):
    out = tmp_path / "study"
    study = start(data, out, "--jobs", "1")
    try:
        until(lambda: completed(journal_of(out)))
        workers = until(lambda: running(journal_of(out)))
    finally:
        stop(study)
        study.communicate()
    for process in workers:
        os.kill(process, signal.SIGKILL)
    done = completed(journal_of(out))

    again = start(data, out, "--jobs", "1")
    try:
        output, _ = again.communicate(timeout=400)
    finally:
        stop(again)

    assert again.returncode == 0, output
    assert 1 <= len(done) < 6
    assert f"6 trainings, {6 - len(done)} unfinished" in output
    assert sorted(completed(journal_of(out)).values()) == [1] * 6


@pytest.mark.slow
def test_a_terminated_study_frees_its_points_and_leaves_no_worker(data: Path, tmp_path: Path):
    out = tmp_path / "study"
    study = start(data, out, "--jobs", "2")
    try:
        workers = until(lambda: running(journal_of(out)))
        study.send_signal(signal.SIGTERM)
        output, _ = study.communicate(timeout=400)
    finally:
        stop(study)

    assert study.returncode == 0, output
    assert f"resume with the same command and --out {out}" in output
    assert running(journal_of(out)) == []
    for process in workers:
        with pytest.raises(ProcessLookupError):
            os.kill(process, 0)


@pytest.mark.slow
@pytest.mark.needs("postgres")
def test_two_simultaneous_commands_on_one_database_share_the_work(data: Path, tmp_path: Path, database: str):
    folders = [tmp_path / "one", tmp_path / "other"]
    studies = [start(data, out, "--jobs", "1", "--storage", database) for out in folders]
    try:
        output = [study.communicate(timeout=400)[0] for study in studies]
    finally:
        stop(*studies)

    assert [study.returncode for study in studies] == [0, 0], output
    runs = [path.name for out in folders for path in (out / "points").iterdir() if path.is_dir()]
    assert len(runs) == 6
    assert len(set(runs)) == 6
    assert rows_of_points(folders[0]) == rows_of_points(folders[1])
    assert "study@" in (folders[0] / "study.json").read_text()


@pytest.mark.slow
def test_two_simultaneous_commands_on_one_folder_share_the_work(data: Path, tmp_path: Path):
    out = tmp_path / "study"
    studies = [start(data, out, "--jobs", "1") for _ in range(2)]
    try:
        output = [study.communicate(timeout=400)[0] for study in studies]
    finally:
        stop(*studies)

    assert [study.returncode for study in studies] == [0, 0], output
    assert sorted(completed(journal_of(out)).values()) == [1] * 6
    assert len(rows_of_points(out)) == 6
    assert not list(out.glob(".part-*"))
