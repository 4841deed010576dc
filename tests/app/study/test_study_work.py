"""The shared work queue: every point is done exactly once, even if workers die or are slow."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import optuna
import pytest
from optuna.pruners import NopPruner
from optuna.samplers import RandomSampler
from optuna.storages import BaseStorage, InMemoryStorage
from optuna.trial import TrialState, create_trial

from scmrl.study.queue import work as work_module
from scmrl.study.queue.storage import JournalLock, hide_password, open_journal, open_storage, truncate_partial_line
from scmrl.study.queue.work import HEARTBEAT_TIMEOUT, MAX_LOST_WORKERS, Claim, WorkQueue, machine_id

KEYS = ["first", "second", "third"]


class ManualClock:
    """A clock that tests advance."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def claim_point(queue: WorkQueue, keys: list[str] = KEYS) -> Claim:
    """Claim a point that must be available; outside a block, the claim sends no heartbeats."""
    claim = queue.claim(keys)
    assert claim is not None
    return claim


def trials(storage: BaseStorage) -> list[optuna.trial.FrozenTrial]:
    """Return every trial of the study of these tests."""
    return optuna.load_study(study_name="study", storage=storage).get_trials()


@pytest.fixture
def storage() -> BaseStorage:
    return InMemoryStorage()


@pytest.fixture
def queue(storage: BaseStorage) -> WorkQueue:
    queue = WorkQueue(storage, "study")
    queue.enqueue(KEYS)
    return queue


def test_points_are_claimed_in_order_and_once(queue: WorkQueue):
    claimed = [claim_point(queue).key for _ in KEYS]

    assert claimed == KEYS
    assert queue.claim(KEYS) is None


def test_a_point_is_enqueued_once(queue: WorkQueue, storage: BaseStorage):
    queue.enqueue(KEYS)
    WorkQueue(storage, "study").enqueue(KEYS)

    assert [trial.user_attrs["key"] for trial in trials(storage)] == KEYS


def test_results_are_stored_by_key(queue: WorkQueue, storage: BaseStorage):
    claim = claim_point(queue)

    assert claim.finish({"accuracy": 0.625, "right": "8:ff", "rates": [0.5, None]}, 0.625)
    assert queue.results() == {"first": {"accuracy": 0.625, "right": "8:ff", "rates": [0.5, None]}}
    assert queue.unfinished(KEYS) == ["second", "third"]
    assert trials(storage)[0].value == 0.625


def test_a_pruned_point_is_finished_without_a_score(queue: WorkQueue, storage: BaseStorage):
    claim_point(queue).finish({"outcome": "pruned"}, None)

    assert queue.results() == {"first": {"outcome": "pruned"}}
    assert trials(storage)[0].state == TrialState.PRUNED
    assert claim_point(queue).key == "second"


def test_of_two_trials_of_a_point_only_the_lower_number_is_claimed(queue: WorkQueue, storage: BaseStorage):
    """As if two workers had enqueued it at the same time."""
    queue.study.add_trial(create_trial(state=TrialState.WAITING, user_attrs={"key": "first", "round": 0}))
    other = WorkQueue(storage, "study")

    claim = claim_point(queue)
    assert claim.key == "first"
    assert [claim_point(other).key, claim_point(other).key, other.claim(KEYS)] == ["second", "third", None]
    claim.finish({"by": "one"}, 1.0)

    assert other.claim(["first"]) is None
    assert other.results()["first"] == {"by": "one"}
    assert [trial.state for trial in trials(storage)][-1] == TrialState.WAITING


def test_the_second_trial_replaces_the_first_when_its_worker_died(storage: BaseStorage):
    clock = ManualClock()
    queue = WorkQueue(storage, "study", clock=clock)
    for _ in range(2):
        queue.study.add_trial(create_trial(state=TrialState.WAITING, user_attrs={"key": "first", "round": 0}))
    claim_point(queue, ["first"])
    queue.fail_dead_workers()
    clock.now += HEARTBEAT_TIMEOUT + 1

    claim_point(queue, ["first"]).finish({"by": "the second"}, 1.0)

    assert [trial.state for trial in trials(storage)] == [TrialState.FAIL, TrialState.COMPLETE]


def test_the_second_trial_is_not_claimed_after_an_error(queue: WorkQueue):
    """Errors are not retried, not even by a trial that was already enqueued."""
    queue.study.add_trial(create_trial(state=TrialState.WAITING, user_attrs={"key": "first", "round": 0}))
    claim_point(queue, ["first"]).fail("it is broken")

    assert queue.claim(["first"]) is None
    assert queue.failures() == {"first": "it is broken"}
    assert queue.unfinished(KEYS) == ["second", "third"]


def hammer(make_queue: Callable[[], WorkQueue], keys: list[str], done: Callable[[str], Any]) -> None:
    """Process points until none is left."""
    queue = make_queue()
    while queue.unfinished(keys):
        claim = queue.claim(keys)
        if claim is not None:
            with claim:
                done(claim.key)
                claim.finish({"by": os.getpid()}, 1.0)


def test_threads_that_enqueue_and_claim_do_every_point_once(storage: BaseStorage):
    keys = [f"point{i}" for i in range(24)]
    done: list[str] = []
    start = threading.Barrier(6)

    def worker() -> None:
        start.wait()
        hammer(lambda: WorkQueue(storage, "study"), keys, done.append)

    threads = [threading.Thread(target=worker) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert Counter(done) == Counter(keys)
    assert len(WorkQueue(storage, "study").results()) == len(keys)


def test_heartbeats_keep_a_claim_alive(queue: WorkQueue, storage: BaseStorage):
    clock = ManualClock()
    other = WorkQueue(storage, "study", clock=clock)
    claim_point(queue, ["first"])
    trial_id = trials(storage)[0]._trial_id
    for beat in range(5):
        storage.set_trial_user_attr(trial_id, "heartbeat", beat)
        other.fail_dead_workers()
        clock.now += HEARTBEAT_TIMEOUT - 1

    assert other.claim(["first"]) is None


def test_missing_heartbeats_free_the_point(queue: WorkQueue, storage: BaseStorage):
    clock = ManualClock()
    other = WorkQueue(storage, "study", clock=clock)
    claim_point(queue, ["first"])
    assert other.claim(["first"]) is None
    clock.now += HEARTBEAT_TIMEOUT
    assert other.claim(["first"]) is None
    clock.now += 1

    assert claim_point(other, ["first"]).key == "first"


def test_the_result_of_a_worker_declared_dead_is_dropped(queue: WorkQueue, storage: BaseStorage):
    clock = ManualClock()
    other = WorkQueue(storage, "study", clock=clock)
    slow = claim_point(queue, ["first"])
    other.fail_dead_workers()
    clock.now += HEARTBEAT_TIMEOUT + 1
    fast = claim_point(other, ["first"])

    assert not slow.finish({"by": "the slow one"}, 0.5)
    assert fast.finish({"by": "the fast one"}, 0.25)
    assert not slow.fail("too late")
    assert queue.results() == {"first": {"by": "the fast one"}}
    assert queue.failures() == {}


def test_a_worker_declared_dead_is_notified(queue: WorkQueue, storage: BaseStorage, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(work_module, "HEARTBEAT_INTERVAL", 0.01)
    notified = threading.Event()
    claim = queue.claim(["first"], on_loss=notified.set)
    assert claim is not None
    with claim:
        storage.set_trial_state_values(trials(storage)[0]._trial_id, TrialState.FAIL)
        assert notified.wait(30)


def test_a_worker_that_ends_its_point_is_not_notified_of_a_loss(queue: WorkQueue, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(work_module, "HEARTBEAT_INTERVAL", 0.001)
    notifications: list[str] = []
    ends: list[Callable[[Claim], bool]] = [lambda c: c.finish({}, 1.0), lambda c: c.fail("no"), lambda c: c.release()]
    for end in ends:
        claim = queue.claim(KEYS, on_loss=lambda: notifications.append("lost"))
        assert claim is not None
        with claim:
            end(claim)

    assert notifications == []


def test_a_claim_sends_heartbeats(queue: WorkQueue, storage: BaseStorage, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(work_module, "HEARTBEAT_INTERVAL", 0.01)
    heartbeats: set[int] = set()
    with claim_point(queue, ["first"]):
        until = time.monotonic() + 30
        while len(heartbeats) < 3 and time.monotonic() < until:
            heartbeats.add(trials(storage)[0].user_attrs.get("heartbeat", 0))
    assert len(heartbeats) >= 3


def test_a_worker_whose_local_process_is_gone_is_declared_dead_at_once(queue: WorkQueue, storage: BaseStorage):
    gone = subprocess.Popen([sys.executable, "-c", ""])
    gone.wait()
    claim_point(queue, ["first"])
    storage.set_trial_user_attr(trials(storage)[0]._trial_id, "worker", f"{machine_id()}:{gone.pid}")

    assert claim_point(queue, ["first"]).key == "first"


def test_a_worker_with_the_same_process_id_on_another_machine_is_not_declared_dead(
    queue: WorkQueue, storage: BaseStorage
):
    gone = subprocess.Popen([sys.executable, "-c", ""])
    gone.wait()
    claim_point(queue, ["first"])
    for machine in ("elsewhere", machine_id() + "-of-another-container"):
        storage.set_trial_user_attr(trials(storage)[0]._trial_id, "worker", f"{machine}:{gone.pid}")
        assert queue.claim(["first"]) is None


def test_a_point_that_kills_several_workers_is_given_up(storage: BaseStorage):
    clock = ManualClock()
    queue = WorkQueue(storage, "study", clock=clock)
    for _ in range(MAX_LOST_WORKERS):
        claim_point(queue, ["first"])
        queue.fail_dead_workers()
        clock.now += HEARTBEAT_TIMEOUT + 1

    assert queue.claim(["first"]) is None
    assert queue.failures() == {"first": f"{MAX_LOST_WORKERS} workers died on it"}
    assert queue.unfinished(["first"]) == []


def test_an_error_is_retried_only_on_request(queue: WorkQueue):
    claim_point(queue, ["first"]).fail("it is broken")
    queue.enqueue(KEYS)
    assert queue.claim(["first"]) is None

    queue.enqueue(KEYS, retry_failed=True)
    assert queue.failures() == {}
    assert queue.unfinished(["first"]) == ["first"]
    claim_point(queue, ["first"]).finish({"accuracy": 1.0}, 1.0)

    queue.enqueue(KEYS, retry_failed=True)
    assert queue.claim(["first"]) is None
    assert queue.results() == {"first": {"accuracy": 1.0}}


def test_a_retry_survives_a_worker_that_stops(queue: WorkQueue):
    claim_point(queue, ["first"]).fail("it is broken")
    queue.enqueue(KEYS, retry_failed=True)
    claim_point(queue, ["first"]).release()

    claim_point(queue, ["first"]).finish({"accuracy": 1.0}, 1.0)
    assert queue.results() == {"first": {"accuracy": 1.0}}


def test_two_simultaneous_retries_run_once(queue: WorkQueue, storage: BaseStorage):
    claim_point(queue, ["first"]).fail("it is broken")
    for _ in range(2):
        queue.study.add_trial(create_trial(state=TrialState.WAITING, user_attrs={"key": "first", "round": 1}))
    claim_point(queue, ["first"]).fail("it is still broken")

    assert queue.claim(["first"]) is None
    assert queue.failures() == {"first": "it is still broken"}


def test_a_released_point_is_free_and_not_lost(queue: WorkQueue):
    for _ in range(MAX_LOST_WORKERS + 1):
        claim_point(queue, ["first"]).release()

    assert queue.failures() == {}
    assert claim_point(queue, ["first"]).key == "first"


def test_a_result_that_is_not_json_is_an_error_and_leaves_the_claim_open(queue: WorkQueue):
    claim = claim_point(queue, ["first"])
    with pytest.raises(ValueError, match="JSON"):
        claim.finish({"accuracy": float("nan")}, 0.5)

    assert claim.fail("NaN")
    assert queue.failures() == {"first": "NaN"}


def test_a_restarted_trial_uses_the_same_settings(storage: BaseStorage):
    clock = ManualClock()
    queue = WorkQueue(storage, "study", clock=clock)
    values: list[float] = []
    for seed in (1, 2):
        claim = claim_point(queue, ["first"])
        trial = claim.trial(RandomSampler(seed=seed), NopPruner(), {})
        values.append(trial.suggest_float("x", 0, 1))
        queue.fail_dead_workers()
        clock.now += HEARTBEAT_TIMEOUT + 1
    other = claim_point(queue, ["second"]).trial(RandomSampler(seed=3), NopPruner(), {"x": 0.25})

    assert values[0] == values[1]
    assert other.suggest_float("x", 0, 1) == 0.25


HOLD = """
import sys, time
from pathlib import Path
from scmrl.study.queue.storage import JournalLock
JournalLock(Path(sys.argv[1])).acquire()
with open(sys.argv[1], "ab") as journal:
    journal.write(b'{"op_code": 4, "half a li')
print("held", flush=True)
time.sleep(600)
"""


def test_a_process_killed_while_writing_a_line_neither_locks_nor_damages_the_journal(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    """With a relative path, as in --out."""
    monkeypatch.chdir(tmp_path)
    journal = Path("study") / "journal.log"
    journal.parent.mkdir()
    queue = WorkQueue(open_storage(journal), "study")
    queue.enqueue(KEYS)
    before = journal.read_bytes()
    holder = subprocess.Popen([sys.executable, "-c", HOLD, str(journal)], stdout=subprocess.PIPE)
    try:
        assert holder.stdout is not None
        assert holder.stdout.readline() == b"held\n"
        assert journal.read_bytes() != before
    finally:
        holder.send_signal(signal.SIGKILL)
        holder.wait()
        holder.communicate()

    claim_point(queue, ["first"]).finish({"accuracy": 1.0}, 1.0)

    assert WorkQueue(open_storage(journal), "study").results() == {"first": {"accuracy": 1.0}}
    assert b"half" not in journal.read_bytes()


def test_the_lock_is_exclusive(tmp_path: Path):
    journal = tmp_path / "journal.log"
    journal.touch()
    one, other = JournalLock(journal), JournalLock(journal)
    events: list[str] = []
    one.acquire()

    def wait() -> None:
        other.acquire()
        events.append("other")
        other.release()

    thread = threading.Thread(target=wait)
    thread.start()
    time.sleep(0.1)
    events.append("one")
    one.release()
    thread.join()

    assert events == ["one", "other"]


def test_a_forked_process_does_not_keep_the_lock(tmp_path: Path):
    """Data-loading processes may be forked while a heartbeat holds the lock."""
    journal = tmp_path / "journal.log"
    journal.touch()
    one = JournalLock(journal)
    one.acquire()
    lock_file = one._lock_file
    assert lock_file is not None
    copy = os.dup(lock_file.fileno())  # as in a forked process
    try:
        one.release()
        done = threading.Event()

        def enter() -> None:
            another = JournalLock(journal)
            another.acquire()
            another.release()
            done.set()

        threading.Thread(target=enter, daemon=True).start()
        assert done.wait(30)
    finally:
        os.close(copy)


@pytest.mark.parametrize(
    ("before", "after"), [(b"", b""), (b"a\nb\n", b"a\nb\n"), (b"a\nb\nhalf", b"a\nb\n"), (b"half", b"")]
)
def test_only_a_partial_line_is_truncated(tmp_path: Path, before: bytes, after: bytes):
    journal = tmp_path / "journal.log"
    journal.write_bytes(before)
    truncate_partial_line(journal)
    assert journal.read_bytes() == after


def test_a_file_system_without_locks_is_reported_with_the_solution(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    def refuse(*_: Any) -> None:
        raise OSError(37, "No locks available")

    monkeypatch.setattr("fcntl.flock", refuse)
    with pytest.raises(ValueError, match=r"cannot be locked \(No locks available\).* --storage"):
        open_journal(tmp_path / "journal.log")


@pytest.mark.parametrize(
    ("address", "expected"),
    [
        ("postgresql+psycopg://me:secret@host:5432/name", "postgresql+psycopg://me@host:5432/name"),
        ("postgresql+psycopg://me:se@cret@host/name", "postgresql+psycopg://me@host/name"),
        ("postgresql+psycopg://host/name", "postgresql+psycopg://host/name"),
        ("postgresql+psycopg://host/x?password=secret&user=a", "postgresql+psycopg://host/x?password=...&user=a"),
    ],
)
def test_passwords_are_hidden(address: str, expected: str):
    assert hide_password(address) == expected


def test_an_unreachable_database_is_reported_without_the_password():
    with pytest.raises(ValueError, match="--storage postgresql") as error:
        open_storage("postgresql+psycopg://me:secret@127.0.0.1:1/name")
    assert "secret" not in str(error.value)
