"""Who does which point of a study: a list of work that any number of processes and machines share.

The list is a study of Optuna (Akiba et al. 2019, doi:10.1145/3292500.3330701) in one of its storages: a journal file,
which NFS can hold too, or a database. Every point is a trial that waits, is taken by one worker, and ends complete,
pruned or failed. Optuna's samplers do not know grids that several workers share, nor do its journals notice dead
workers, so four rules of our own keep the promise that every point is done exactly once:

- Of several trials of one point, that with the lowest number that has not failed is the point; others are never taken.
  So it does no harm if two workers list the same point at the same time.
- To take a trial is to set it running, which a storage lets only one worker do.
- A worker counts up while it works. If its count stands still for `PATIENCE` seconds by the watch of another worker, or
  its process is gone from the machine of that other, the trial is failed and its point listed anew. Whoever was only
  slow can then no longer complete it: a storage does not change what has ended.
- A point that ended in an error is over, with all trials of its round; to try it again is to list it in a new round.
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

BEAT = 5.0
"""Seconds between two counts of a worker that is alive."""
PATIENCE = 60.0
"""Seconds of a count that stands still after which its worker is given up."""
LOSSES = 3
"""Workers that a point may take down before nobody tries it again."""

Result = dict[str, Any]
"""What was measured at a point, as JSON holds it."""


class WorkList:
    """The points of one study, by key.

    Args:
        storage: that all workers share.
        name: of the study in the storage.
        clock: seconds that only grow; of this process alone.
        only_read: whether to leave the storage as it is, where nothing but what is done is asked for.

    Raises:
        KeyError: it is to be read only, and the storage holds no such study.
    """

    def __init__(
        self,
        storage: BaseStorage,
        name: str,
        *,
        clock: Callable[[], float] = time.monotonic,
        only_read: bool = False,
    ) -> None:
        optuna.logging.set_verbosity(optuna.logging.WARNING)
        self.storage = storage
        self.study = (
            optuna.load_study(storage=storage, study_name=name)
            if only_read
            else optuna.create_study(storage=storage, study_name=name, direction="maximize", load_if_exists=True)
        )
        self._clock = clock
        self._seen: dict[int, tuple[object, float]] = {}

    def offer(self, keys: Iterable[str], *, retry_failed: bool = False) -> None:
        """List every point that is not listed; those that failed only if they are to be tried again."""
        trials = self._by_key()
        for key in keys:
            mine = trials.get(key, [])
            is_over = _given_up(mine)
            if _official(mine) is None and (retry_failed or not is_over):
                attributes = {"key": key, "round": _last_round(mine) + is_over}
                self.study.add_trial(create_trial(state=TrialState.WAITING, user_attrs=attributes))

    def take(self, keys: Iterable[str], on_loss: Callable[[], object] = lambda: None) -> Claim | None:
        """One of these points for this process to do, if one waits; points of dead workers are listed anew first.

        Args:
            keys: of the points.
            on_loss: called, from another thread, when this process was given up and its point is free for others.
        """
        keys = list(keys)
        self.give_up_the_dead()
        self.offer(keys)
        trials = self._by_key()
        for key in keys:
            mine = trials.get(key, [])
            trial = _official(mine)
            if trial is None or trial.state != TrialState.WAITING:
                continue
            with suppress(UpdateFinishedTrialError):
                if self.storage.set_trial_state_values(trial._trial_id, TrialState.RUNNING):  # pyright: ignore
                    before = next((other.params for other in mine if other.params), dict[str, Any]())
                    return Claim(self, key, trial._trial_id, before, on_loss)  # pyright: ignore[reportPrivateUsage]
        return None

    def give_up_the_dead(self) -> None:
        """Fail what workers had taken that are dead."""
        for trial in self.study.get_trials(deepcopy=False, states=(TrialState.RUNNING,)):
            beat = trial.user_attrs.get("beat")
            since = self._seen.get(trial.number)
            if since is None or since[0] != beat:
                self._seen[trial.number] = since = (beat, self._clock())
            if self._clock() - since[1] > PATIENCE or _died_here(trial.user_attrs.get("worker", "")):
                with suppress(UpdateFinishedTrialError):  # another worker has seen it, too
                    self.storage.set_trial_state_values(trial._trial_id, TrialState.FAIL)  # pyright: ignore

    def unfinished(self, keys: Iterable[str]) -> list[str]:
        """Points that someone does or may still do."""
        trials = self._by_key()
        found: list[str] = []
        for key in keys:
            mine = trials.get(key, [])
            official = _official(mine)
            if not (_given_up(mine) if official is None else official.state.is_finished()):
                found.append(key)
        return found

    def results(self) -> dict[str, Result]:
        """What was measured, by key, of the points that are done."""
        done = {key: _official(trials) for key, trials in self._by_key().items()}
        return {
            key: json.loads(trial.user_attrs["result"])
            for key, trial in done.items()
            if trial is not None and trial.state.is_finished()
        }

    def failures(self) -> dict[str, str]:
        """What went wrong, by key, with the points that nobody tries again."""
        return {
            key: next(
                (t.user_attrs["error"] for t in reversed(trials) if "error" in t.user_attrs),
                f"{LOSSES} workers died of it",
            )
            for key, trials in self._by_key().items()
            if _official(trials) is None and _given_up(trials)
        }

    def _by_key(self) -> dict[str, list[FrozenTrial]]:
        found: dict[str, list[FrozenTrial]] = {}
        for trial in sorted(self.study.get_trials(deepcopy=False), key=lambda trial: trial.number):
            found.setdefault(trial.user_attrs.get("key", ""), []).append(trial)
        return found


class Claim:
    """A point that this process has taken; within the block, it counts up.

    Args:
        work: the list that it was taken from.
        key: of the point.
        trial_id: the trial that stands for it.
        before: what an earlier trial of the point was to try; a search goes on with the same.
        on_loss: called from another thread when the point was given to someone else.
    """

    def __init__(
        self, work: WorkList, key: str, trial_id: int, before: Mapping[str, Any], on_loss: Callable[[], object]
    ) -> None:
        self.work, self.key, self.before = work, key, before
        self._trial_id, self._storage, self._on_loss = trial_id, work.storage, on_loss
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._count, daemon=True)

    def __enter__(self) -> Claim:
        with suppress(UpdateFinishedTrialError):  # was given up already; the count will notice
            self._storage.set_trial_user_attr(self._trial_id, "worker", f"{machine()}:{os.getpid()}")
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop_counting()

    def trial(self, sampler: BaseSampler, pruner: BasePruner, first: Mapping[str, Any]) -> optuna.Trial:
        """The trial by which a search asks what to try, and tells how it goes.

        Args:
            sampler: decides what to try, unless a trial of this point was begun before.
            pruner: decides when to give the trial up.
            first: what to try if none was begun before, in place of the sampler's choice.
        """
        fixed = dict(self.before or first)
        if fixed:
            self._storage.set_trial_system_attr(self._trial_id, "fixed_params", fixed)
        return optuna.Trial(optuna.Study(self.work.study.study_name, self._storage, sampler, pruner), self._trial_id)

    def finish(self, result: Result, score: float | None) -> bool:
        """The point is done; False if another worker was given it in the meantime, and this result is dropped.

        Args:
            result: what was measured.
            score: the higher the better, for searches; None where a search gave the point up.
        """
        state = TrialState.PRUNED if score is None else TrialState.COMPLETE
        return self._end(state, "result", json.dumps(result, allow_nan=False), None if score is None else [score])

    def fail(self, error: str) -> bool:
        """The point cannot be done."""
        return self._end(TrialState.FAIL, "error", error)

    def release(self) -> bool:
        """The point is to be done by someone else."""
        return self._end(TrialState.FAIL, "released", "yes")

    def _end(self, state: TrialState, name: str, text: str, values: list[float] | None = None) -> bool:
        self._stop_counting()
        try:
            self._storage.set_trial_user_attr(self._trial_id, name, text)
            return self._storage.set_trial_state_values(self._trial_id, state, values)
        except UpdateFinishedTrialError:
            return False

    def _stop_counting(self) -> None:
        self._stop.set()
        if self._thread.is_alive():
            self._thread.join()

    def _count(self) -> None:
        count = 0
        while not self._stop.wait(BEAT):
            count += 1
            try:
                self._storage.set_trial_user_attr(self._trial_id, "beat", count)
            except UpdateFinishedTrialError:
                self._on_loss()
                return
            except Exception:  # a storage that is away for a moment; if it stays away, others give this worker up
                continue


def _last_round(trials: list[FrozenTrial]) -> int:
    return max((trial.user_attrs["round"] for trial in trials), default=0)


def _official(trials: list[FrozenTrial]) -> FrozenTrial | None:
    """The trial that stands for the point: what is done, else the first of the last round that has not failed."""
    done = [trial for trial in trials if trial.state in (TrialState.COMPLETE, TrialState.PRUNED)]
    if done or _given_up(trials):
        return next(iter(done), None)
    last = [trial for trial in trials if trial.user_attrs["round"] == _last_round(trials)]
    return next((trial for trial in last if trial.state != TrialState.FAIL), None)


def _given_up(trials: list[FrozenTrial]) -> bool:
    """Whether the last round has ended, in an error or with the death of too many."""
    last = [trial for trial in trials if trial.user_attrs["round"] == _last_round(trials)]
    failed = [trial for trial in last if trial.state == TrialState.FAIL]
    lost = [trial for trial in failed if "released" not in trial.user_attrs]
    return any("error" in trial.user_attrs for trial in failed) or len(lost) >= LOSSES


@cache
def machine() -> str:
    """Where a process is known by its number: the machine, since it was started, and the container on it.

    The name alone would not do: machines of the same name, or containers, would take each other's workers for dead.
    """
    parts = [platform.node()]
    with suppress(OSError):  # only Linux has them
        parts.append(Path("/proc/sys/kernel/random/boot_id").read_text().strip())
        parts.append(os.readlink("/proc/self/ns/pid"))
    return "/".join(parts)


def _died_here(worker: str) -> bool:
    """Whether a worker ran on this machine and is gone."""
    where, _, pid = worker.rpartition(":")
    if where != machine() or not pid.isdigit() or os.name == "nt":  # where to ask would be to kill
        return False
    try:
        os.kill(int(pid), 0)
    except ProcessLookupError:
        return True
    except PermissionError:
        pass
    return False
