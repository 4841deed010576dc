"""The work queue of a study, shared by any number of processes and machines.

The queue is an Optuna study (Akiba et al. 2019, doi:10.1145/3292500.3330701) in one of Optuna's storages: a journal
file, which may be on NFS, or a database. Every point is a trial that waits, is claimed by one worker, and ends as
complete, pruned or failed. Optuna's samplers do not support grids shared by several workers, and its journals do not
detect dead workers. Four rules ensure that every point is done exactly once:

- If a point has several trials, the one with the lowest number that has not failed counts; the others are never
  claimed. So two workers may enqueue the same point at the same time.
- Claiming a trial means setting its state to RUNNING, which a storage allows only one worker to do.
- A worker sends heartbeats. If they stop for `HEARTBEAT_TIMEOUT` seconds by another worker's clock, or if its process
  no longer exists on that other worker's machine, the trial fails and its point is enqueued again. A slow worker can
  no longer complete it then, because a storage does not change a finished trial.
- A point that failed with an error is finished, with all trials of its round. A retry enqueues it in a new round.
"""

from __future__ import annotations

import json
import os
import platform
import threading
import time
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import Any

import optuna
from optuna.exceptions import UpdateFinishedTrialError
from optuna.pruners import BasePruner
from optuna.samplers import BaseSampler
from optuna.storages import BaseStorage
from optuna.trial import FrozenTrial, TrialState, create_trial

HEARTBEAT_INTERVAL = 5.0
"""Seconds between two heartbeats of a worker."""
HEARTBEAT_TIMEOUT = 60.0
"""Seconds without a heartbeat after which a worker counts as dead."""
MAX_LOST_WORKERS = 3
"""Number of workers that may die on a point before it is given up."""

Result = dict[str, Any]
"""Measurements of a point, as JSON."""


class WorkQueue:
    """The points of one study, by key.

    Args:
        storage: shared by all workers.
        name: of the study in the storage.
        clock: monotonic seconds of this process.
        read_only: leave the storage unchanged; only results can be read then.

    Raises:
        KeyError: `read_only`, and the storage holds no such study.
    """

    def __init__(
        self,
        storage: BaseStorage,
        name: str,
        *,
        clock: Callable[[], float] = time.monotonic,
        read_only: bool = False,
    ) -> None:
        optuna.logging.set_verbosity(optuna.logging.WARNING)
        self.storage = storage
        self.study = (
            optuna.load_study(storage=storage, study_name=name)
            if read_only
            else optuna.create_study(storage=storage, study_name=name, direction="maximize", load_if_exists=True)
        )
        self._clock = clock
        self._heartbeats: dict[int, tuple[object, float]] = {}

    def enqueue(self, keys: Iterable[str], *, retry_failed: bool = False) -> None:
        """Add every point that is not in the queue; failed points only with `retry_failed`."""
        trials_by_key = self._trials_by_key()
        for key in keys:
            trials = trials_by_key.get(key, [])
            failed = _has_failed(trials)
            if _active_trial(trials) is None and (retry_failed or not failed):
                attributes = {"key": key, "round": _last_round(trials) + failed}
                self.study.add_trial(create_trial(state=TrialState.WAITING, user_attrs=attributes))

    def claim(self, keys: Iterable[str], on_loss: Callable[[], object] = lambda: None) -> Claim | None:
        """Claim one waiting point for this process; points of dead workers are enqueued again first.

        Args:
            keys: of the points.
            on_loss: called from another thread if this worker was declared dead and its point is free for others.
        """
        keys = list(keys)
        self.fail_dead_workers()
        self.enqueue(keys)
        trials_by_key = self._trials_by_key()
        for key in keys:
            trials = trials_by_key.get(key, [])
            trial = _active_trial(trials)
            if trial is None or trial.state != TrialState.WAITING:
                continue
            with suppress(UpdateFinishedTrialError):
                if self.storage.set_trial_state_values(trial._trial_id, TrialState.RUNNING):  # pyright: ignore
                    previous = next((other.params for other in trials if other.params), dict[str, Any]())
                    return Claim(self, key, trial._trial_id, previous, on_loss)  # pyright: ignore[reportPrivateUsage]
        return None

    def fail_dead_workers(self) -> None:
        """Mark the trials of dead workers as failed."""
        for trial in self.study.get_trials(deepcopy=False, states=(TrialState.RUNNING,)):
            heartbeat = trial.user_attrs.get("heartbeat")
            last = self._heartbeats.get(trial.number)
            if last is None or last[0] != heartbeat:
                self._heartbeats[trial.number] = last = (heartbeat, self._clock())
            timed_out = self._clock() - last[1] > HEARTBEAT_TIMEOUT
            if timed_out or _is_dead_here(trial.user_attrs.get("worker", "")):
                with suppress(UpdateFinishedTrialError):  # another worker was faster
                    self.storage.set_trial_state_values(trial._trial_id, TrialState.FAIL)  # pyright: ignore

    def unfinished(self, keys: Iterable[str]) -> list[str]:
        """Return the points that are running or may still run."""
        trials_by_key = self._trials_by_key()
        unfinished: list[str] = []
        for key in keys:
            trials = trials_by_key.get(key, [])
            active = _active_trial(trials)
            if not (_has_failed(trials) if active is None else active.state.is_finished()):
                unfinished.append(key)
        return unfinished

    def results(self) -> dict[str, Result]:
        """Return the measurements of the finished points, by key."""
        active_trials = {key: _active_trial(trials) for key, trials in self._trials_by_key().items()}
        return {
            key: json.loads(trial.user_attrs["result"])
            for key, trial in active_trials.items()
            if trial is not None and trial.state.is_finished()
        }

    def failures(self) -> dict[str, str]:
        """Return the errors of the failed points, by key."""
        return {
            key: next(
                (t.user_attrs["error"] for t in reversed(trials) if "error" in t.user_attrs),
                f"{MAX_LOST_WORKERS} workers died on it",
            )
            for key, trials in self._trials_by_key().items()
            if _active_trial(trials) is None and _has_failed(trials)
        }

    def _trials_by_key(self) -> dict[str, list[FrozenTrial]]:
        trials_by_key: dict[str, list[FrozenTrial]] = {}
        for trial in sorted(self.study.get_trials(deepcopy=False), key=lambda trial: trial.number):
            trials_by_key.setdefault(trial.user_attrs.get("key", ""), []).append(trial)
        return trials_by_key


class Claim:
    """A point that this process has claimed; sends heartbeats within the block.

    Args:
        queue: the queue of the point.
        key: of the point.
        trial_id: the trial that stands for the point.
        previous: parameters of an earlier trial of the point, which a search uses again.
        on_loss: called from another thread if the point was given to another worker.
    """

    def __init__(
        self, queue: WorkQueue, key: str, trial_id: int, previous: Mapping[str, Any], on_loss: Callable[[], object]
    ) -> None:
        self.queue, self.key, self.previous = queue, key, previous
        self._trial_id, self._storage, self._on_loss = trial_id, queue.storage, on_loss
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._send_heartbeats, daemon=True)

    def __enter__(self) -> Claim:
        with suppress(UpdateFinishedTrialError):  # already lost; the next heartbeat will notice
            self._storage.set_trial_user_attr(self._trial_id, "worker", f"{machine_id()}:{os.getpid()}")
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop_heartbeats()

    def trial(self, sampler: BaseSampler, pruner: BasePruner, first: Mapping[str, Any]) -> optuna.Trial:
        """Return the Optuna trial of this point, from which a search draws settings and to which it reports.

        Args:
            sampler: draws the settings, unless an earlier trial of this point has some.
            pruner: decides when to stop the trial.
            first: settings to use in place of the sampler's if there is no earlier trial.
        """
        fixed = dict(self.previous or first)
        if fixed:
            self._storage.set_trial_system_attr(self._trial_id, "fixed_params", fixed)
        return optuna.Trial(optuna.Study(self.queue.study.study_name, self._storage, sampler, pruner), self._trial_id)

    def finish(self, result: Result, score: float | None) -> bool:
        """Store the result; return False if another worker has the point now and the result is dropped.

        Args:
            result: the measurements.
            score: for searches, higher is better; None for a pruned point.
        """
        state = TrialState.PRUNED if score is None else TrialState.COMPLETE
        return self._end(state, "result", json.dumps(result, allow_nan=False), None if score is None else [score])

    def fail(self, error: str) -> bool:
        """Mark the point as failed."""
        return self._end(TrialState.FAIL, "error", error)

    def release(self) -> bool:
        """Free the point for another worker."""
        return self._end(TrialState.FAIL, "released", "yes")

    def _end(self, state: TrialState, name: str, text: str, values: list[float] | None = None) -> bool:
        self._stop_heartbeats()
        try:
            self._storage.set_trial_user_attr(self._trial_id, name, text)
            return self._storage.set_trial_state_values(self._trial_id, state, values)
        except UpdateFinishedTrialError:
            return False

    def _stop_heartbeats(self) -> None:
        self._stop.set()
        if self._thread.is_alive():
            self._thread.join()

    def _send_heartbeats(self) -> None:
        count = 0
        while not self._stop.wait(HEARTBEAT_INTERVAL):
            count += 1
            try:
                self._storage.set_trial_user_attr(self._trial_id, "heartbeat", count)
            except UpdateFinishedTrialError:
                self._on_loss()
                return
            except Exception:  # a short outage of the storage; after a long one, others declare this worker dead
                continue


def _last_round(trials: list[FrozenTrial]) -> int:
    return max((trial.user_attrs["round"] for trial in trials), default=0)


def _active_trial(trials: list[FrozenTrial]) -> FrozenTrial | None:
    """Return the trial that stands for the point: a finished one, else the first unfailed one of the last round."""
    finished = [trial for trial in trials if trial.state in (TrialState.COMPLETE, TrialState.PRUNED)]
    if finished or _has_failed(trials):
        return next(iter(finished), None)
    last = [trial for trial in trials if trial.user_attrs["round"] == _last_round(trials)]
    return next((trial for trial in last if trial.state != TrialState.FAIL), None)


def _has_failed(trials: list[FrozenTrial]) -> bool:
    """Return whether the last round ended in an error or lost too many workers."""
    last = [trial for trial in trials if trial.user_attrs["round"] == _last_round(trials)]
    failed = [trial for trial in last if trial.state == TrialState.FAIL]
    lost = [trial for trial in failed if "released" not in trial.user_attrs]
    return any("error" in trial.user_attrs for trial in failed) or len(lost) >= MAX_LOST_WORKERS


@cache
def machine_id() -> str:
    """Return an id of the scope in which a process id is unique: host, boot and container.

    The host name is not enough: machines or containers with the same name would declare each other's workers dead.
    """
    parts = [platform.node()]
    with suppress(OSError):  # Linux only
        parts.append(Path("/proc/sys/kernel/random/boot_id").read_text().strip())
        parts.append(os.readlink("/proc/self/ns/pid"))
    return "/".join(parts)


def _is_dead_here(worker: str) -> bool:
    """Return whether a worker ran on this machine and its process no longer exists."""
    machine, _, pid = worker.rpartition(":")
    if machine != machine_id() or not pid.isdigit() or os.name == "nt":  # on Windows, os.kill would kill it
        return False
    try:
        os.kill(int(pid), 0)
    except ProcessLookupError:
        return True
    except PermissionError:
        pass
    return False
