"""The list of work that processes share: whatever dies or comes late, every point is done exactly once."""

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

from scmrl.study import work as work_module
from scmrl.study.storage import JournalLock, cut_half_a_line, open_journal, open_storage, shown
from scmrl.study.work import LOSSES, PATIENCE, Claim, WorkList, machine

KEYS = ["first", "second", "third"]


class Watch:
    """A clock that stands still unless it is told otherwise."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def take(work: WorkList, keys: list[str] = KEYS) -> Claim:
    """Take a point that must be there; the claim counts within a block only, so here it never does."""
    claim = work.take(keys)
    assert claim is not None
    return claim


def trials(storage: BaseStorage) -> list[optuna.trial.FrozenTrial]:
    """Every trial of the study of these tests."""
    return optuna.load_study(study_name="study", storage=storage).get_trials()


@pytest.fixture
def storage() -> BaseStorage:
    return InMemoryStorage()


@pytest.fixture
def work(storage: BaseStorage) -> WorkList:
    work = WorkList(storage, "study")
    work.offer(KEYS)
    return work


def test_points_are_taken_in_order_and_each_once(work: WorkList):
    taken = [take(work).key for _ in KEYS]

    assert taken == KEYS
    assert work.take(KEYS) is None


def test_a_point_is_listed_once_however_often_it_is_offered(work: WorkList, storage: BaseStorage):
    work.offer(KEYS)
    WorkList(storage, "study").offer(KEYS)

    assert [trial.user_attrs["key"] for trial in trials(storage)] == KEYS


def test_results_come_back_by_key_as_they_were_measured(work: WorkList, storage: BaseStorage):
    claim = take(work)

    assert claim.finish({"accuracy": 0.625, "right": "8:ff", "rates": [0.5, None]}, 0.625)
    assert work.results() == {"first": {"accuracy": 0.625, "right": "8:ff", "rates": [0.5, None]}}
    assert work.unfinished(KEYS) == ["second", "third"]
    assert trials(storage)[0].value == 0.625


def test_a_point_that_a_search_gave_up_is_done_without_a_score(work: WorkList, storage: BaseStorage):
    take(work).finish({"outcome": "pruned"}, None)

    assert work.results() == {"first": {"outcome": "pruned"}}
    assert trials(storage)[0].state == TrialState.PRUNED
    assert take(work).key == "second"


def test_of_two_listings_of_a_point_only_the_lower_number_is_ever_taken(work: WorkList, storage: BaseStorage):
    """As two workers that look at the same moment would list it."""
    work.study.add_trial(create_trial(state=TrialState.WAITING, user_attrs={"key": "first", "round": 0}))
    other = WorkList(storage, "study")

    claim = take(work)
    assert claim.key == "first"
    assert [take(other).key, take(other).key, other.take(KEYS)] == ["second", "third", None]
    claim.finish({"by": "one"}, 1.0)

    assert other.take(["first"]) is None
    assert other.results()["first"] == {"by": "one"}
    assert [trial.state for trial in trials(storage)][-1] == TrialState.WAITING


def test_the_second_listing_takes_over_when_the_worker_of_the_first_died(storage: BaseStorage):
    watch = Watch()
    work = WorkList(storage, "study", clock=watch)
    for _ in range(2):
        work.study.add_trial(create_trial(state=TrialState.WAITING, user_attrs={"key": "first", "round": 0}))
    take(work, ["first"])
    work.give_up_the_dead()
    watch.now += PATIENCE + 1

    take(work, ["first"]).finish({"by": "the second"}, 1.0)

    assert [trial.state for trial in trials(storage)] == [TrialState.FAIL, TrialState.COMPLETE]


def test_the_second_listing_is_not_taken_after_an_error(work: WorkList):
    """Errors are not tried again, not even by a listing that was there already."""
    work.study.add_trial(create_trial(state=TrialState.WAITING, user_attrs={"key": "first", "round": 0}))
    take(work, ["first"]).fail("it is broken")

    assert work.take(["first"]) is None
    assert work.failures() == {"first": "it is broken"}
    assert work.unfinished(KEYS) == ["second", "third"]


def hammer(worklist: Callable[[], WorkList], keys: list[str], done: Callable[[str], Any]) -> None:
    """Take what there is until there is nothing more."""
    work = worklist()
    while work.unfinished(keys):
        claim = work.take(keys)
        if claim is not None:
            with claim:
                done(claim.key)
                claim.finish({"by": os.getpid()}, 1.0)


def test_threads_that_all_list_and_take_do_every_point_once(storage: BaseStorage):
    keys = [f"point{i}" for i in range(24)]
    done: list[str] = []
    start = threading.Barrier(6)

    def worker() -> None:
        start.wait()
        hammer(lambda: WorkList(storage, "study"), keys, done.append)

    threads = [threading.Thread(target=worker) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert Counter(done) == Counter(keys)
    assert len(WorkList(storage, "study").results()) == len(keys)


def test_a_count_that_goes_on_keeps_a_point_for_any_time(work: WorkList, storage: BaseStorage):
    watch = Watch()
    other = WorkList(storage, "study", clock=watch)
    take(work, ["first"])
    trial_id = trials(storage)[0]._trial_id
    for beat in range(5):
        storage.set_trial_user_attr(trial_id, "beat", beat)
        other.give_up_the_dead()
        watch.now += PATIENCE - 1

    assert other.take(["first"]) is None


def test_a_count_that_stands_still_gives_the_point_to_another_worker(work: WorkList, storage: BaseStorage):
    watch = Watch()
    other = WorkList(storage, "study", clock=watch)
    take(work, ["first"])
    assert other.take(["first"]) is None
    watch.now += PATIENCE
    assert other.take(["first"]) is None
    watch.now += 1

    assert take(other, ["first"]).key == "first"


def test_the_result_of_a_worker_that_was_given_up_is_dropped(work: WorkList, storage: BaseStorage):
    watch = Watch()
    other = WorkList(storage, "study", clock=watch)
    slow = take(work, ["first"])
    other.give_up_the_dead()
    watch.now += PATIENCE + 1
    quick = take(other, ["first"])

    assert not slow.finish({"by": "the slow one"}, 0.5)
    assert quick.finish({"by": "the quick one"}, 0.25)
    assert not slow.fail("too late")
    assert work.results() == {"first": {"by": "the quick one"}}
    assert work.failures() == {}


def test_a_worker_that_was_given_up_is_told(work: WorkList, storage: BaseStorage, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(work_module, "BEAT", 0.01)
    told = threading.Event()
    claim = work.take(["first"], on_loss=told.set)
    assert claim is not None
    with claim:
        storage.set_trial_state_values(trials(storage)[0]._trial_id, TrialState.FAIL)
        assert told.wait(30)


def test_a_worker_that_ends_its_point_itself_is_not_told_that_it_lost_it(
    work: WorkList, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(work_module, "BEAT", 0.001)
    told: list[str] = []
    ends: list[Callable[[Claim], bool]] = [lambda c: c.finish({}, 1.0), lambda c: c.fail("no"), lambda c: c.release()]
    for end in ends:
        claim = work.take(KEYS, on_loss=lambda: told.append("lost"))
        assert claim is not None
        with claim:
            end(claim)

    assert told == []


def test_a_claim_counts_up_while_it_works(work: WorkList, storage: BaseStorage, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(work_module, "BEAT", 0.01)
    seen: set[int] = set()
    with take(work, ["first"]):
        until = time.monotonic() + 30
        while len(seen) < 3 and time.monotonic() < until:
            seen.add(trials(storage)[0].user_attrs.get("beat", 0))
    assert len(seen) >= 3


def test_a_worker_whose_process_is_gone_from_this_machine_is_given_up_at_once(work: WorkList, storage: BaseStorage):
    gone = subprocess.Popen([sys.executable, "-c", ""])
    gone.wait()
    take(work, ["first"])
    storage.set_trial_user_attr(trials(storage)[0]._trial_id, "worker", f"{machine()}:{gone.pid}")

    assert take(work, ["first"]).key == "first"


def test_a_worker_of_the_same_number_on_another_machine_is_not_taken_for_dead(work: WorkList, storage: BaseStorage):
    gone = subprocess.Popen([sys.executable, "-c", ""])
    gone.wait()
    take(work, ["first"])
    for where in ("elsewhere", machine() + "-of-another-container"):
        storage.set_trial_user_attr(trials(storage)[0]._trial_id, "worker", f"{where}:{gone.pid}")
        assert work.take(["first"]) is None


def test_a_point_that_takes_down_worker_after_worker_is_given_up(storage: BaseStorage):
    watch = Watch()
    work = WorkList(storage, "study", clock=watch)
    for _ in range(LOSSES):
        take(work, ["first"])
        work.give_up_the_dead()
        watch.now += PATIENCE + 1

    assert work.take(["first"]) is None
    assert work.failures() == {"first": f"{LOSSES} workers died of it"}
    assert work.unfinished(["first"]) == []


def test_an_error_is_tried_again_only_if_that_is_wished(work: WorkList):
    take(work, ["first"]).fail("it is broken")
    work.offer(KEYS)
    assert work.take(["first"]) is None

    work.offer(KEYS, retry_failed=True)
    assert work.failures() == {}
    assert work.unfinished(["first"]) == ["first"]
    take(work, ["first"]).finish({"accuracy": 1.0}, 1.0)

    work.offer(KEYS, retry_failed=True)
    assert work.take(["first"]) is None
    assert work.results() == {"first": {"accuracy": 1.0}}


def test_an_error_that_was_tried_again_survives_a_worker_that_stops(work: WorkList):
    take(work, ["first"]).fail("it is broken")
    work.offer(KEYS, retry_failed=True)
    take(work, ["first"]).release()

    take(work, ["first"]).finish({"accuracy": 1.0}, 1.0)
    assert work.results() == {"first": {"accuracy": 1.0}}


def test_two_commands_that_try_again_at_once_do_it_once(work: WorkList, storage: BaseStorage):
    take(work, ["first"]).fail("it is broken")
    for _ in range(2):
        work.study.add_trial(create_trial(state=TrialState.WAITING, user_attrs={"key": "first", "round": 1}))
    take(work, ["first"]).fail("it is still broken")

    assert work.take(["first"]) is None
    assert work.failures() == {"first": "it is still broken"}


def test_a_point_that_was_released_is_free_and_counts_as_no_loss(work: WorkList):
    for _ in range(LOSSES + 1):
        take(work, ["first"]).release()

    assert work.failures() == {}
    assert take(work, ["first"]).key == "first"


def test_a_result_that_json_cannot_hold_is_an_error_and_ends_nothing(work: WorkList):
    claim = take(work, ["first"])
    with pytest.raises(ValueError, match="JSON"):
        claim.finish({"accuracy": float("nan")}, 0.5)

    assert claim.fail("no number")
    assert work.failures() == {"first": "no number"}


def test_a_trial_that_is_begun_again_tries_what_it_tried_before(storage: BaseStorage):
    watch = Watch()
    work = WorkList(storage, "study", clock=watch)
    tried: list[float] = []
    for seed in (1, 2):
        claim = take(work, ["first"])
        trial = claim.trial(RandomSampler(seed=seed), NopPruner(), {})
        tried.append(trial.suggest_float("x", 0, 1))
        work.give_up_the_dead()
        watch.now += PATIENCE + 1
    other = take(work, ["second"]).trial(RandomSampler(seed=3), NopPruner(), {"x": 0.25})

    assert tried[0] == tried[1]
    assert other.suggest_float("x", 0, 1) == 0.25


HOLD = """
import sys, time
from pathlib import Path
from scmrl.study.storage import JournalLock
JournalLock(Path(sys.argv[1])).acquire()
with open(sys.argv[1], "ab") as journal:
    journal.write(b'{"op_code": 4, "half a li')
print("held", flush=True)
time.sleep(600)
"""


def test_a_process_killed_in_the_middle_of_a_line_neither_locks_nor_breaks_the_journal(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    """With a relative path, as users give it to --out."""
    monkeypatch.chdir(tmp_path)
    journal = Path("study") / "journal.log"
    journal.parent.mkdir()
    work = WorkList(open_storage(journal), "study")
    work.offer(KEYS)
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

    take(work, ["first"]).finish({"accuracy": 1.0}, 1.0)

    assert WorkList(open_storage(journal), "study").results() == {"first": {"accuracy": 1.0}}
    assert b"half" not in journal.read_bytes()


def test_the_lock_lets_one_in_at_a_time(tmp_path: Path):
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


def test_a_process_forked_meanwhile_does_not_keep_the_lock(tmp_path: Path):
    """Processes that read samples are forked, and may be while the count holds the lock."""
    journal = tmp_path / "journal.log"
    journal.touch()
    one = JournalLock(journal)
    one.acquire()
    held = one._held
    assert held is not None
    copy = os.dup(held.fileno())  # what a forked process has
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
def test_only_half_a_line_is_cut(tmp_path: Path, before: bytes, after: bytes):
    journal = tmp_path / "journal.log"
    journal.write_bytes(before)
    cut_half_a_line(journal)
    assert journal.read_bytes() == after


def test_a_file_system_without_locks_is_told_with_what_to_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    def refuse(*_: Any) -> None:
        raise OSError(37, "No locks available")

    monkeypatch.setattr("fcntl.flock", refuse)
    with pytest.raises(ValueError, match=r"cannot be locked \(No locks available\).* --storage"):
        open_journal(tmp_path / "journal.log")


@pytest.mark.parametrize(
    ("address", "told"),
    [
        ("postgresql+psycopg://me:secret@host:5432/name", "postgresql+psycopg://me@host:5432/name"),
        ("postgresql+psycopg://me:se@cret@host/name", "postgresql+psycopg://me@host/name"),
        ("postgresql+psycopg://host/name", "postgresql+psycopg://host/name"),
        ("postgresql+psycopg://host/x?password=secret&user=a", "postgresql+psycopg://host/x?password=...&user=a"),
    ],
)
def test_passwords_are_not_shown(address: str, told: str):
    assert shown(address) == told


def test_a_database_that_is_not_there_is_told_without_the_password():
    with pytest.raises(ValueError, match="--storage postgresql") as error:
        open_storage("postgresql+psycopg://me:secret@127.0.0.1:1/name")
    assert "secret" not in str(error.value)
