"""Studies whose database is away for a while."""

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
from app.studies import done, study
from app.tiny import tiny_options, write_tiny_dataset
from scmrl.progress import Progress
from scmrl.study import outage as outage_module
from scmrl.study import run as run_module
from scmrl.study.kinds import read_study
from scmrl.study.outage import AGAIN, AWAY, Patience
from scmrl.study.points import Point
from scmrl.study.sensitivity import SensitivitySpec
from scmrl.study.storage import open_storage
from scmrl.study.work import LOSSES, PATIENCE, WorkList

ALPHA = "model.fusion.alpha"


class AwayError(Exception):
    """What a driver raises when its database is away."""


class Database:
    """A driver whose database is away for so many attempts, each of which takes a second of `now`."""

    def __init__(self, attempts: int) -> None:
        self.attempts, self.now = attempts, 0.0
        self.loaded_dbapi = SimpleNamespace(OperationalError=AwayError)

    def connect(self, *arguments: str, **options: str) -> str:
        self.now += 1.0
        self.attempts -= 1
        if self.attempts >= 0:
            raise AwayError("no route\nto it")
        return f"{arguments} {options}"


@pytest.fixture(autouse=True)
def hasty(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(outage_module, "AGAIN", 0.0)


def test_a_database_that_comes_back_is_waited_for_and_the_time_does_not_count():
    said: list[str] = []
    database = Database(attempts=5)
    patience = Patience(said.append, clock=lambda: database.now)

    assert patience.connect(database, None, ["host"], {"user": "me"}) == "('host',) {'user': 'me'}"
    assert said == [
        "the database is away (no route to it); waiting for it for up to 10 min 00 s",
        "the database is back after 5 s",
    ]
    assert patience.clock() == database.now - 5
    patience.connect(database, None, [], {})
    assert len(said) == 2


def test_a_database_that_stays_away_is_given_up():
    database = Database(attempts=10**6)
    patience = Patience(lambda message: None, clock=lambda: database.now)
    with pytest.raises(AwayError):
        patience.connect(database, None, [], {})
    assert database.now == pytest.approx(AWAY, abs=3)


def test_whoever_is_to_stop_waits_no_longer():
    database = Database(attempts=10**6)
    patience = Patience(lambda message: None, clock=lambda: database.now)
    patience.end()
    with pytest.raises(AwayError):
        patience.connect(database, None, [], {})
    assert database.now == 1.0


def test_an_outage_makes_no_worker_seem_dead():
    """While it lasts no worker can count up, so that all of them stand still for whoever looks next."""
    database, storage = Database(attempts=0), InMemoryStorage()
    patience = Patience(lambda message: None, clock=lambda: database.now)
    work = WorkList(storage, "study", clock=patience.clock)
    work.offer(["first"])
    assert work.take(["first"]) is not None
    work.give_up_the_dead()

    database.attempts = round(PATIENCE) + 10
    patience.connect(database, None, [], {})
    work.give_up_the_dead()
    assert work.study.get_trials()[0].state == TrialState.RUNNING
    database.now += PATIENCE + 1
    work.give_up_the_dead()
    assert work.study.get_trials()[0].state == TrialState.FAIL


@pytest.mark.needs("postgres")
def test_a_work_list_goes_on_after_its_database_was_restarted(monkeypatch: pytest.MonkeyPatch):
    said: list[str] = []
    with postgres() as server:
        storage = open_storage(server.address, Patience(said.append))
        work = WorkList(storage, "study")
        work.offer(["first", "second"])
        server.stop()
        back = threading.Timer(1.0, server.start)
        back.start()

        assert work.unfinished(["first", "second"]) == ["first", "second"]
        back.join()
        claim = work.take(["first"])
        assert claim is not None
        assert claim.finish({"accuracy": 1.0}, 1.0)
        assert work.results() == {"first": {"accuracy": 1.0}}
        assert isinstance(storage, RDBStorage)
        storage.remove_session()
        storage.engine.dispose()
    assert said[0].startswith("the database is away (")
    assert said[1].startswith("the database is back after ")
    assert len(said) == 2


@pytest.mark.slow
@pytest.mark.needs("postgres")
def test_a_study_whose_database_is_restarted_meanwhile_goes_on(tmp_path: Path):
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
            time.sleep(2 * AGAIN)
            server.start()
            said, _ = running.communicate(timeout=400)
        finally:
            running.send_signal(signal.SIGKILL)
            running.wait()
        _, name, _ = read_study_at(out, server.address)
        storage = open_storage(server.address)
        trials = storage.get_all_trials(storage.get_study_id_from_name(name))
        assert isinstance(storage, RDBStorage)
        storage.remove_session()
        storage.engine.dispose()

    assert running.returncode == 0, said
    assert "the database is away" in said
    assert "the database is back after" in said
    keys = [trial.user_attrs["key"] for trial in trials if trial.state == TrialState.COMPLETE]
    assert len(keys) == len(set(keys)) == 3


def read_study_at(out: Path, address: str) -> Any:
    """A study whose list is in a database."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SCMRL_STORAGE", address)
        return read_study(out)


def test_a_database_that_is_lost_is_told_with_how_to_go_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    def lost(*_: Any) -> Any:
        raise StorageInternalError("An exception is raised during the commit.") from AwayError("server closed\nat once")

    monkeypatch.setattr(run_module, "open_storage", lost)
    storage = "postgresql+psycopg://me:secret@host/name"
    options = ("--vary", f"{ALPHA}=0,1", "--storage", storage)
    spec = study(SensitivitySpec, tmp_path, tmp_path / "study", *options)
    with pytest.raises(ValueError, match=r"me@host/name was lost \(server closed\); go on with the same command"):
        run_module.run_study(spec, Progress(Console(quiet=True), None, lambda: 0.0))


def test_a_point_whose_result_was_cut_off_is_done_again_and_not_taken_for_a_failure(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    asked: list[str] = []

    def carry_out(self: SensitivitySpec, point: Point, *_: object) -> tuple[dict[str, float], float]:
        asked.append(point.key)
        if len(asked) <= LOSSES:
            raise StorageInternalError("An exception is raised during the commit.")
        return {"validation_accuracy": 0.5, "test_accuracy": 0.5, "seconds": 1.0}, 0.5

    monkeypatch.setattr(SensitivitySpec, "carry_out", carry_out)
    _, _, failures = done(study(SensitivitySpec, tmp_path, tmp_path / "s", "--vary", f"{ALPHA}=0,1", "--seeds", "3"))

    assert failures == {}
    assert asked == ["alpha=0-seed3"] * (LOSSES + 1) + ["alpha=1-seed3"]


def test_workers_that_die_again_and_again_are_told_with_how_to_go_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    started: list[int] = []

    def dies(folder: Path, index: int, environment: object) -> subprocess.Popen[bytes]:
        started.append(index)
        return subprocess.Popen([sys.executable, "-c", "raise SystemExit(3)"])

    monkeypatch.setattr(run_module, "_start", dies)
    monkeypatch.setattr(run_module, "LOOK", 0.01)
    spec = study(SensitivitySpec, tmp_path, tmp_path / "study", "--vary", f"{ALPHA}=0,1", "--jobs", "1")
    with pytest.raises(ChildProcessError, match=r"6 of 6 trainings are not done, .*workers\.log; go on with the same"):
        run_module.run_study(spec, Progress(Console(quiet=True), None, lambda: 0.0))
    assert len(started) == 1 + run_module.RESTARTS
