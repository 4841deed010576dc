"""Studies during an outage of their database."""

from __future__ import annotations

import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from optuna.exceptions import StorageInternalError
from optuna.storages import InMemoryStorage, RDBStorage
from optuna.trial import TrialState
from rich.console import Console

from app.postgres import postgres
from app.studies import run_here, study
from app.tiny import tiny_options, write_tiny_dataset
from scmrl.console.progress import Progress
from scmrl.study import run as run_module
from scmrl.study.folder import read_study
from scmrl.study.points import Point
from scmrl.study.queue import outage as outage_module
from scmrl.study.queue.outage import MAX_OUTAGE, RETRY_INTERVAL, Reconnect
from scmrl.study.queue.storage import open_storage
from scmrl.study.queue.work import HEARTBEAT_TIMEOUT, MAX_LOST_WORKERS, WorkQueue
from scmrl.study.sensitivity.spec import SensitivitySpec

ALPHA = "model.fusion.alpha"


class DownError(Exception):
    """Raised by the fake driver while its database is down."""


class Database:
    """A driver whose database is down for some attempts, each of which takes a second of `now`."""

    def __init__(self, attempts: int) -> None:
        self.attempts, self.now = attempts, 0.0
        self.loaded_dbapi = SimpleNamespace(OperationalError=DownError)

    def connect(self, *arguments: str, **options: str) -> str:
        self.now += 1.0
        self.attempts -= 1
        if self.attempts >= 0:
            raise DownError("no route\nto it")
        return f"{arguments} {options}"


@pytest.fixture(autouse=True)
def no_retry_interval(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(outage_module, "RETRY_INTERVAL", 0.0)


def test_reconnect_waits_for_the_database_and_its_clock_stops():
    messages: list[str] = []
    database = Database(attempts=5)
    reconnect = Reconnect(messages.append, clock=lambda: database.now)

    assert reconnect.connect(database, None, ["host"], {"user": "me"}) == "('host',) {'user': 'me'}"
    assert messages == [
        "the database is down (no route to it); waiting up to 10 min 00 s",
        "the database is back after 5 s",
    ]
    assert reconnect.clock() == database.now - 5
    reconnect.connect(database, None, [], {})
    assert len(messages) == 2


def test_reconnect_gives_up_after_a_long_outage():
    database = Database(attempts=10**6)
    reconnect = Reconnect(lambda message: None, clock=lambda: database.now)
    with pytest.raises(DownError):
        reconnect.connect(database, None, [], {})
    assert database.now == pytest.approx(MAX_OUTAGE, abs=3)


def test_a_cancelled_reconnect_does_not_wait():
    database = Database(attempts=10**6)
    reconnect = Reconnect(lambda message: None, clock=lambda: database.now)
    reconnect.cancel()
    with pytest.raises(DownError):
        reconnect.connect(database, None, [], {})
    assert database.now == 1.0


def test_an_outage_declares_no_worker_dead():
    """During an outage no worker can send heartbeats."""
    database, storage = Database(attempts=0), InMemoryStorage()
    reconnect = Reconnect(lambda message: None, clock=lambda: database.now)
    queue = WorkQueue(storage, "study", clock=reconnect.clock)
    queue.enqueue(["first"])
    assert queue.claim(["first"]) is not None
    queue.fail_dead_workers()

    database.attempts = round(HEARTBEAT_TIMEOUT) + 10
    reconnect.connect(database, None, [], {})
    queue.fail_dead_workers()
    assert queue.study.get_trials()[0].state == TrialState.RUNNING
    database.now += HEARTBEAT_TIMEOUT + 1
    queue.fail_dead_workers()
    assert queue.study.get_trials()[0].state == TrialState.FAIL


@pytest.mark.needs("postgres")
def test_a_queue_works_after_a_restart_of_its_database():
    messages: list[str] = []
    with postgres() as server:
        storage = open_storage(server.address, Reconnect(messages.append))
        queue = WorkQueue(storage, "study")
        queue.enqueue(["first", "second"])
        server.stop()
        restart = threading.Timer(1.0, server.start)
        restart.start()

        assert queue.unfinished(["first", "second"]) == ["first", "second"]
        restart.join()
        claim = queue.claim(["first"])
        assert claim is not None
        assert claim.finish({"accuracy": 1.0}, 1.0)
        assert queue.results() == {"first": {"accuracy": 1.0}}
        assert isinstance(storage, RDBStorage)
        storage.remove_session()
        storage.engine.dispose()
    assert messages[0].startswith("the database is down (")
    assert messages[1].startswith("the database is back after ")
    assert len(messages) == 2


@pytest.mark.slow
@pytest.mark.needs("postgres")
def test_a_study_continues_after_a_restart_of_its_database(tmp_path: Path):
    data, out = write_tiny_dataset(tmp_path), tmp_path / "study"
    vary = ["--vary", f"{ALPHA}=0,1,2", "--seeds", "3", "--jobs", "1"]
    with postgres() as server:
        tiny = tiny_options(data, out)
        tiny[tiny.index("--train.epochs") + 1] = "1"
        command = [sys.executable, "-m", "scmrl", "study", "sensitivity", *tiny, *vary]
        running = subprocess.Popen(
            [*command, "--storage", server.address], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        )
        try:
            until = time.monotonic() + 240
            while not list(out.glob("points/*/model.safetensors")):
                assert time.monotonic() < until, "nothing was trained"
                assert running.poll() is None
                time.sleep(0.1)
            server.stop()
            time.sleep(2 * RETRY_INTERVAL)
            server.start()
            output, _ = running.communicate(timeout=400)
        finally:
            running.send_signal(signal.SIGKILL)
            running.wait()
        _, name, _ = read_study_at(out, server.address)
        storage = open_storage(server.address)
        trials = storage.get_all_trials(storage.get_study_id_from_name(name))
        assert isinstance(storage, RDBStorage)
        storage.remove_session()
        storage.engine.dispose()

    assert running.returncode == 0, output
    assert "the database is down" in output
    assert "the database is back after" in output
    keys = [trial.user_attrs["key"] for trial in trials if trial.state == TrialState.COMPLETE]
    assert len(keys) == len(set(keys)) == 3


def read_study_at(out: Path, address: str) -> Any:
    """Read a study whose queue is in a database."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SCMRL_STORAGE", address)
        return read_study(out)


def test_a_lost_database_is_reported_with_how_to_resume(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    def lost(*_: Any) -> Any:
        raise StorageInternalError("An exception is raised during the commit.") from DownError("server closed\nat once")

    monkeypatch.setattr(run_module, "open_storage", lost)
    storage = "postgresql+psycopg://me:secret@host/name"
    options = ("--vary", f"{ALPHA}=0,1", "--storage", storage)
    spec = study(SensitivitySpec, tmp_path, tmp_path / "study", *options)
    with pytest.raises(ValueError, match=r"me@host/name was lost \(server closed\); resume with the same command"):
        run_module.run_study(spec, Progress(Console(quiet=True), None, lambda: 0.0))


def test_a_point_interrupted_by_an_outage_is_repeated_and_not_failed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    calls: list[str] = []

    def train_point(spec: SensitivitySpec, point: Point, *_: object) -> tuple[dict[str, float], float]:
        calls.append(point.key)
        if len(calls) <= MAX_LOST_WORKERS:
            raise StorageInternalError("An exception is raised during the commit.")
        return {"validation_accuracy": 0.5, "test_accuracy": 0.5, "seconds": 1.0}, 0.5

    monkeypatch.setattr("scmrl.study.training.train_point", train_point)
    _, _, failures = run_here(
        study(SensitivitySpec, tmp_path, tmp_path / "s", "--vary", f"{ALPHA}=0,1", "--seeds", "3")
    )

    assert failures == {}
    assert calls == ["alpha=0-seed3"] * (MAX_LOST_WORKERS + 1) + ["alpha=1-seed3"]


def test_workers_that_die_repeatedly_are_reported_with_how_to_resume(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    started: list[int] = []

    def start_dying_worker(folder: Path, index: int, environment: object) -> subprocess.Popen[bytes]:
        started.append(index)
        return subprocess.Popen([sys.executable, "-c", "raise SystemExit(3)"])

    monkeypatch.setattr(run_module, "_start_worker", start_dying_worker)
    monkeypatch.setattr(run_module, "POLL_INTERVAL", 0.01)
    spec = study(SensitivitySpec, tmp_path, tmp_path / "study", "--vary", f"{ALPHA}=0,1", "--jobs", "1")
    with pytest.raises(
        ChildProcessError, match=r"6 of 6 trainings are unfinished .*workers\.log; resume with the same"
    ):
        run_module.run_study(spec, Progress(Console(quiet=True), None, lambda: 0.0))
    assert len(started) == 1 + run_module.MAX_RESTARTS
