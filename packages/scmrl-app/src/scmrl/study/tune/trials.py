"""Trials of a search: choose settings, train them, stop bad ones early; and retrain the best settings."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import optuna
from optuna.pruners import MedianPruner, NopPruner, SuccessiveHalvingPruner
from optuna.samplers import TPESampler

from scmrl.config.experiment import MANY_SAMPLES
from scmrl.console.progress import Progress
from scmrl.engine.run import Run
from scmrl.study.points import Point
from scmrl.study.queue.work import Claim
from scmrl.study.ranges import Choices, Span, base_value
from scmrl.study.training import measure_scores, train_point
from scmrl.study.tune.spec import TuneSpec

STARTUP_TRIALS = 10
"""Random trials before the sampler learns from them, and finished trials before any is pruned; at most a third of
all."""


def run_point(
    spec: TuneSpec, point: Point, folder: Path, progress: Progress, claim: Claim
) -> tuple[dict[str, Any], float | None]:
    """Run a trial, or retrain the best settings.

    Raises:
        ValueError: no trial has finished, so there are no best settings.
    """
    trials, final = spec.stages()
    if point in final:
        results = claim.queue.results()
        best = spec.best(results)
        if best is None:
            raise ValueError("no trial has finished, so there are no best settings")
        settings = results[best]["settings"]
        result, score = train_point(spec, replace(point, settings=settings), folder, progress, claim)
        return {**result, "settings": settings}, score

    number = trials.index(point)
    first = _base_values(spec) if number == 0 else {}
    trial = claim.trial(_sampler(spec, number), _pruner(spec), first)
    settings = suggest_settings(trial, spec.ranges())
    trial_progress = TrialProgress(progress, trial)
    try:
        result, score = train_point(spec, replace(point, settings=settings), folder, trial_progress, claim)
    except (optuna.TrialPruned, FloatingPointError) as end:
        outcome = "pruned" if isinstance(end, optuna.TrialPruned) else "diverged"
        seconds = progress.clock() - trial_progress.began
        result = {"validation_accuracy": trial_progress.best, "seconds": seconds, "outcome": outcome}
        score = None
    return {"outcome": "complete", **result, "settings": settings, "epochs": trial_progress.epochs}, score


def measure(spec: TuneSpec, run: Run) -> dict[str, Any]:
    """Return the validation accuracy, and the test accuracy of final trainings only."""
    measurements = measure_scores(spec, run)
    if run.folder.name in {point.key for point in spec.stages()[1]}:
        return measurements
    assert run.validation is not None
    return {"validation_accuracy": measurements["validation_accuracy"], "validation_loss": run.validation.loss}


def _base_values(spec: TuneSpec) -> dict[str, Any]:
    """Return the experiment's own values that are within the ranges; the first trial uses them."""
    base = spec.base()
    values = {field: range_.value(base_value(base, field)) for field, range_ in spec.ranges().items()}
    return {field: value for field, value in values.items() if value is not None}


def _startup_trials(spec: TuneSpec) -> int:
    return max(1, min(STARTUP_TRIALS, spec.trials // 3))


def _sampler(spec: TuneSpec, number: int) -> optuna.samplers.BaseSampler:
    """Return the sampler of one trial; its seed does not depend on which worker runs the trial."""
    seed = np.random.SeedSequence([spec.seed, number]).generate_state(1)[0]
    return TPESampler(seed=int(seed), n_startup_trials=_startup_trials(spec))


def _pruner(spec: TuneSpec) -> optuna.pruners.BasePruner:
    if spec.pruner == "median":
        # During learning-rate warm-up, a low accuracy predicts little.
        warmup = math.ceil(spec.train.schedule(MANY_SAMPLES).warmup_epochs)
        return MedianPruner(_startup_trials(spec), n_warmup_steps=warmup)
    return SuccessiveHalvingPruner() if spec.pruner == "halving" else NopPruner()


class TrialProgress(Progress):
    """The display of a trial, which also reports every epoch to Optuna.

    Args:
        progress: the display to use.
        trial: receives the accuracies, and may stop the training.
    """

    def __init__(self, progress: Progress, trial: optuna.Trial) -> None:
        super().__init__(progress.console, progress.bars, progress.clock)
        self.trial, self.began = trial, progress.clock()
        self.best: float | None = None
        """Highest validation accuracy so far."""
        self.epochs = 0

    def epoch(self, index: int, total: int, metrics: Mapping[str, float], *, best: bool = False) -> None:
        """Show an epoch and report it.

        Raises:
            optuna.TrialPruned: the trial is pruned.
        """
        super().epoch(index, total, metrics, best=best)
        self.epochs, accuracy = index, metrics["val_accuracy"]
        self.best = max(accuracy, self.best or 0.0)
        self.trial.report(accuracy, index)
        if index < total and self.trial.should_prune():
            self.info(f"pruned after epoch {index} of {total}: other trials were better at that epoch")
            raise optuna.TrialPruned


def suggest_settings(trial: optuna.Trial, ranges: Mapping[str, Choices | Span]) -> dict[str, str]:
    """Ask the sampler for settings; return options by field."""
    settings: dict[str, str] = {}
    for field, range_ in ranges.items():
        if isinstance(range_, Choices):
            value = trial.suggest_categorical(field, range_.texts)
        elif range_.integer:
            value = trial.suggest_int(field, int(range_.low), int(range_.high), log=range_.log)
        else:
            value = trial.suggest_float(field, range_.low, range_.high, log=range_.log)
        settings[field] = range_.text(value)
    return settings
