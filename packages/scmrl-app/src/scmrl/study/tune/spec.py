"""`scmrl study tune`: search for the best settings.

The points of a search are a fixed number of trials, whose settings are not known in advance. Trials are claimed,
lost and enqueued again like the points of any other study; the worker that claims one asks the sampler for settings.
The sampler knows the trials of all workers, because they are in the same storage. A trial that starts again after its
worker died uses the same settings.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from pydantic import Field, field_validator

from scmrl.config.experiment import MANY_SAMPLES, Experiment
from scmrl.console.progress import Progress
from scmrl.study.points import Point, check_unique_keys
from scmrl.study.ranges import Choices, Span, base_value, group_by_field, parse_ranges
from scmrl.study.spec import Results, StudySpec

if TYPE_CHECKING:
    import optuna

    from scmrl.engine.run import Run
    from scmrl.study.queue.work import Claim
    from scmrl.study.tables import StudyFindings

STARTUP_TRIALS = 10
"""Random trials before the sampler learns from them, and finished trials before any is pruned; at most a third of
all."""


class TuneSpec(StudySpec):
    """Search for the best settings, and retrain them with other seeds.

    Tree-structured Parzen estimator (Bergstra et al. 2011), with pruning of trials that do worse than others. Every
    decision uses the validation split; the test split is measured only on the final trainings.
    """

    kind: ClassVar[str] = "tune"
    # More trials or seeds would change how the best settings are selected, so no field is a selector.
    selectors: ClassVar[frozenset[str]] = frozenset()
    repeated: ClassVar[tuple[str, str] | None] = ("search", "train.learning_rate=1e-3..1e-1,log")

    search: tuple[str, ...] = ()
    """FIELD=RANGE, once per setting: LOW..HIGH, LOW..HIGH,log or A|B|C."""
    trials: int = Field(default=30, ge=1)
    """Number of settings to try, with seed; failed trials count."""
    pruner: Literal["median", "halving", "none"] = "median"
    """When to stop a trial early. median: worse than half of the trials at the same epoch; halving: not in the best
    quarter at epochs 1, 4, 16, ..., which suits long trainings."""

    @field_validator("search", mode="before")
    @classmethod
    def _group_by_field(cls, value: object) -> tuple[str, ...]:
        return group_by_field(value)

    @property
    def all_seeds(self) -> tuple[int, ...]:
        """Seeds of the final trainings; by default not the search's seed, to which its settings may be overfitted."""
        return self.seeds if self.seeds is not None else (self.seed + 1, self.seed + 2, self.seed + 3)

    def points(self) -> list[Point]:
        """Return every trial and the final trainings; their settings are not known yet.

        Raises:
            ValueError: nothing to search, invalid ranges, or epochs selected on the test split.
        """
        if not self.search:
            raise ValueError("--search is required, for example --search train.learning_rate=1e-3..1e-1,log")
        if "published" in (self.train.selection, *self._choices("train.selection")):
            raise ValueError(
                "train.selection published selects epochs on the test split, so a search would overfit to the test "
                "samples: use --train.selection validation"
            )
        points = [point for stage in self.stages() for point in stage]
        check_unique_keys(points)
        return points

    def stages(self) -> list[list[Point]]:
        """Return the trials, then the final trainings."""
        digits = len(str(self.trials))
        trials = [Point(f"trial {number:0{digits}d}", {}, self.seed) for number in range(1, self.trials + 1)]
        final = [Point("best", {}, seed) for seed in self.all_seeds]
        return [trials, final]

    def run_point(
        self, point: Point, folder: Path, progress: Progress, claim: Claim
    ) -> tuple[dict[str, Any], float | None]:
        """Run a trial, or retrain the best settings.

        Raises:
            ValueError: no trial has finished, so there are no best settings.
        """
        import optuna

        trials, final = self.stages()
        if point in final:
            results = claim.queue.results()
            best = self.best(results)
            if best is None:
                raise ValueError("no trial has finished, so there are no best settings")
            settings = results[best]["settings"]
            result, score = super().run_point(replace(point, settings=settings), folder, progress, claim)
            return {**result, "settings": settings}, score

        number = trials.index(point)
        first = self._base_values() if number == 0 else {}
        trial = claim.trial(self._sampler(number), self._pruner(), first)
        settings = suggest_settings(trial, self.ranges())
        trial_progress = TrialProgress(progress, trial)
        try:
            result, score = super().run_point(replace(point, settings=settings), folder, trial_progress, claim)
        except (optuna.TrialPruned, FloatingPointError) as end:
            outcome = "pruned" if isinstance(end, optuna.TrialPruned) else "diverged"
            seconds = progress.clock() - trial_progress.began
            result = {"validation_accuracy": trial_progress.best, "seconds": seconds, "outcome": outcome}
            score = None
        return {"outcome": "complete", **result, "settings": settings, "epochs": trial_progress.epochs}, score

    def _base_values(self) -> dict[str, Any]:
        """Return the experiment's own values that are within the ranges; the first trial uses them."""
        base = self.base()
        values = {field: range_.value(base_value(base, field)) for field, range_ in self.ranges().items()}
        return {field: value for field, value in values.items() if value is not None}

    def ranges(self) -> dict[str, Choices | Span]:
        """Return the ranges to search, by field.

        Raises:
            OptionError: all unknown fields and invalid ranges.
        """
        return parse_ranges(self.base(), self.search)

    def _choices(self, field: str) -> tuple[str, ...]:
        """Return the choices for a field; empty if it is not searched."""
        range_ = self.ranges().get(field)
        return range_.texts if isinstance(range_, Choices) else ()

    @property
    def _startup_trials(self) -> int:
        return max(1, min(STARTUP_TRIALS, self.trials // 3))

    def _sampler(self, number: int) -> optuna.samplers.BaseSampler:
        """Return the sampler of one trial; its seed does not depend on which worker runs the trial."""
        import numpy as np
        from optuna.samplers import TPESampler

        seed = np.random.SeedSequence([self.seed, number]).generate_state(1)[0]
        return TPESampler(seed=int(seed), n_startup_trials=self._startup_trials)

    def _pruner(self) -> optuna.pruners.BasePruner:
        from optuna.pruners import MedianPruner, NopPruner, SuccessiveHalvingPruner

        if self.pruner == "median":
            # During learning-rate warm-up, a low accuracy predicts little.
            warmup = math.ceil(self.train.schedule(MANY_SAMPLES).warmup_epochs)
            return MedianPruner(self._startup_trials, n_warmup_steps=warmup)
        return SuccessiveHalvingPruner() if self.pruner == "halving" else NopPruner()

    def measure(self, run: Run) -> dict[str, Any]:
        """Return the validation accuracy, and the test accuracy of final trainings only."""
        from scmrl.study.measures import scores

        measurements = scores(run)
        if run.folder.name in {point.key for point in self.stages()[1]}:
            return measurements
        assert run.validation is not None
        return {"validation_accuracy": measurements["validation_accuracy"], "validation_loss": run.validation.loss}

    def best(self, results: Results) -> str | None:
        """Return the key of the trial with the best validation accuracy; None if no trial has finished.

        Ties are broken by the lower loss, as in the selection of an epoch.
        """
        trials = [point.key for point in self.stages()[0]]
        complete = [key for key in trials if key in results and results[key]["outcome"] == "complete"]
        return max(
            complete,
            key=lambda key: (results[key]["validation_accuracy"], -results[key]["validation_loss"]),
            default=None,
        )

    def with_settings(self, settings: Mapping[str, str]) -> Experiment:
        """Return the experiment with other settings and without a folder.

        Raises:
            OptionError: invalid settings.
        """
        experiment = Point("best", settings, self.seed).experiment(self.base(), Path("best"))
        return Experiment.model_validate({**experiment.model_dump(), "out": None, "resume": False})

    def tabulate(self, results: Results) -> StudyFindings:
        """Make the tables of the best settings, their accuracy, all trials, and the importance of settings."""
        from scmrl.study.tune.findings import search_findings

        return search_findings(self, results)


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
        import optuna

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
