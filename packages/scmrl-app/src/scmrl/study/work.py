"""Who does which point of a study: a list of work that any number of processes and machines share.

The list is a study of Optuna (Akiba et al. 2019, doi:10.1145/3292500.3330701) in one of its storages: a journal file,
which NFS can hold too, or a database. Every point is a trial that waits, is taken by one worker, and ends complete or
failed. Optuna's samplers do not know grids that several workers share, nor do its journals notice dead workers, so
three rules of our own keep the promise that every point is done exactly once:

- Of several trials of one point, that with the lowest number that has not failed is the point; others are never taken.
  So it does no harm if two workers list the same point at the same time.
- To take a trial is to set it running, which a storage lets only one worker do.
- A worker counts up while it works. If its count stands still for `PATIENCE` seconds by the watch of another worker, or
  its process is gone from the machine of that other, the trial is failed and its point listed anew. Whoever was only
  slow can then no longer complete it: a storage does not change what has ended.
"""

from __future__ import annotations

import json
import os
import platform
import threading
import time
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import optuna
from optuna.exceptions import UpdateFinishedTrialError
from optuna.storages import BaseStorage, JournalStorage, RDBStorage
from optuna.storages.journal import JournalFileBackend
from optuna.trial import FrozenTrial, TrialState, create_trial

BEAT = 5.0
"""Seconds between two counts of a worker that is alive."""
PATIENCE = 60.0
"""Seconds of a count that stands still after which its worker is given up."""
LOSSES = 3
"""Workers that a point may take down before nobody tries it again."""

Result = dict[str, Any]
"""What was measured at a point, as JSON holds it."""


def open_storage(where: str | Path) -> BaseStorage:
    """The storage at a database's address, such as `postgresql+psycopg://user@host/name`, or in a journal file.

    Raises:
        ValueError: the database cannot be reached, or no driver for it is installed.
    """
    if isinstance(where, Path):
        return JournalStorage(JournalFileBackend(str(where)))
    try:
        return RDBStorage(where)
    except ImportError as error:
        raise ValueError(f'--storage {where}: {error}; for PostgreSQL: pip install "scmrl-app[postgresql]"') from error
    except Exception as error:  # every driver has exceptions of its own
        raise ValueError(f"--storage {where} cannot be opened: {str(error).splitlines()[0]}") from error


class WorkList:
    """The points of one study, by key.

    Args:
        storage: that all workers share.
        name: of the study in the storage.
        clock: seconds that only grow; of this process alone.
    """

    def __init__(self, storage: BaseStorage, name: str, *, clock: Callable[[], float] = time.monotonic) -> None:
        optuna.logging.set_verbosity(optuna.logging.WARNING)
        self.storage = storage
        self.study = optuna.create_study(storage=storage, study_name=name, direction="maximize", load_if_exists=True)
        self._clock = clock
        self._seen: dict[int, tuple[object, float]] = {}

    def agree(self, settings: Mapping[str, Any]) -> Mapping[str, Any]:
        """Note the study's settings, unless some are noted already; gives those that are."""
        if "settings" not in self.study.user_attrs:
            self.study.set_user_attr("settings", json.dumps(settings))
        return json.loads(self.study.user_attrs["settings"])

    def offer(self, keys: Iterable[str], *, retry_failed: bool = False) -> None:
        """List every point that is not listed; those that failed only if they are to be tried again."""
        trials = self._by_key()
        for key in keys:
            mine = trials.get(key, [])
            if _official(mine) is None and (retry_failed or not _given_up(mine)):
                self.study.add_trial(create_trial(state=TrialState.WAITING, user_attrs={"key": key}))

    def take(self, keys: Iterable[str]) -> Claim | None:
        """One of these points for this process to do, if one waits; points of dead workers are listed anew first."""
        keys = list(keys)
        self.give_up_the_dead()
        self.offer(keys)
        trials = self._by_key()
        for key in keys:
            trial = _official(trials.get(key, []))
            if trial is None or trial.state != TrialState.WAITING:
                continue
            with suppress(UpdateFinishedTrialError):
                if self.storage.set_trial_state_values(trial._trial_id, TrialState.RUNNING):  # pyright: ignore
                    return Claim(key, trial._trial_id, self.storage)  # pyright: ignore[reportPrivateUsage]
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
        open_ = (TrialState.WAITING, TrialState.RUNNING)
        found: list[str] = []
        for key in keys:
            official = _official(trials.get(key, []))
            if official.state in open_ if official is not None else not _given_up(trials.get(key, [])):
                found.append(key)
        return found

    def results(self) -> dict[str, Result]:
        """What was measured, by key, of the points that are done."""
        done = {key: _official(trials) for key, trials in self._by_key().items()}
        return {
            key: json.loads(trial.user_attrs["result"])
            for key, trial in done.items()
            if trial is not None and trial.state == TrialState.COMPLETE
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
    """A point that this process has taken; within the block, it counts up."""

    def __init__(self, key: str, trial_id: int, storage: BaseStorage) -> None:
        self.key, self._trial_id, self._storage = key, trial_id, storage
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._count, daemon=True)

    def __enter__(self) -> Claim:
        self._storage.set_trial_user_attr(self._trial_id, "worker", f"{platform.node()}:{os.getpid()}")
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()

    def finish(self, result: Result, score: float) -> bool:
        """The point is done; False if another worker was given it in the meantime, and this result is dropped."""
        return self._end(TrialState.COMPLETE, "result", json.dumps(result, allow_nan=False), [score])

    def fail(self, error: str) -> bool:
        """The point cannot be done."""
        return self._end(TrialState.FAIL, "error", error)

    def release(self) -> bool:
        """The point is to be done by someone else."""
        return self._end(TrialState.FAIL, "released", "yes")

    def _end(self, state: TrialState, name: str, text: str, values: list[float] | None = None) -> bool:
        try:
            self._storage.set_trial_user_attr(self._trial_id, name, text)
            return self._storage.set_trial_state_values(self._trial_id, state, values)
        except UpdateFinishedTrialError:
            return False

    def _count(self) -> None:
        count = 0
        while not self._stop.wait(BEAT):
            count += 1
            try:
                self._storage.set_trial_user_attr(self._trial_id, "beat", count)
            except UpdateFinishedTrialError:
                return
            except Exception:  # a storage that is away for a moment; if it stays away, others give this worker up
                continue


def _official(trials: list[FrozenTrial]) -> FrozenTrial | None:
    """The trial that stands for the point: the first that has not failed."""
    return next((trial for trial in trials if trial.state != TrialState.FAIL), None)


def _given_up(trials: list[FrozenTrial]) -> bool:
    lost = [trial for trial in trials if not {"error", "released"} & set(trial.user_attrs)]
    return any("error" in trial.user_attrs for trial in trials) or len(lost) >= LOSSES


def _died_here(worker: str) -> bool:
    """Whether a worker ran on this machine and is gone."""
    host, _, pid = worker.rpartition(":")
    if host != platform.node() or not pid.isdigit():
        return False
    try:
        os.kill(int(pid), 0)
    except ProcessLookupError:
        return True
    except PermissionError:
        pass
    return False
