"""`scmrl study tune`: search for the best settings.

A search has no fixed list of settings, but a fixed number of trials, and these are its points: each is taken, lost,
listed anew and counted like a point of any other study, and only whoever takes it asks the sampler what to try. The
sampler knows the trials of all workers, for they are in the same storage; a trial that is begun again, after its worker
died, tries what it tried before.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from pydantic import Field, field_validator

from scmrl.experiment import PLENTY, Experiment
from scmrl.progress import Progress
from scmrl.study.points import Point, refuse_twins
from scmrl.study.ranges import Choices, Span, by_field, ranges_of, said_of
from scmrl.study.spec import Results, StudySpec

if TYPE_CHECKING:
    import optuna

    from scmrl.engine.train import Run
    from scmrl.study.tables import Findings
    from scmrl.study.work import Claim

STARTING = 10
"""Trials at random before the sampler learns from them, and trials that end before any is pruned; no more than a third
of all."""


class TuneSpec(StudySpec):
    """Search for the best settings, and train them anew with other seeds.

    Tree-structured Parzen estimator (Bergstra et al. 2011), with pruning of trials that do worse than others did. Every
    decision is on the validation split; the test split is measured on the final trainings alone.
    """

    kind: ClassVar[str] = "tune"
    asked: ClassVar[frozenset[str]] = (
        frozenset()
    )  # more trials or seeds would change what the best settings are judged by
    repeated: ClassVar[tuple[str, str] | None] = ("search", "train.learning_rate=1e-3..1e-1,log")

    search: tuple[str, ...] = ()
    """FIELD=RANGE, once for each setting to search: LOW..HIGH, LOW..HIGH,log or A|B|C."""
    trials: int = Field(default=30, ge=1)
    """Settings to try, with seed; those that fail count, too."""
    pruner: Literal["median", "halving", "none"] = "median"
    """What ends trials early. median: being worse than half of the trials were at the same epoch; halving: not being
    among the best quarter at epochs 1, 4, 16, ..., which suits long trainings."""

    @field_validator("search", mode="before")
    @classmethod
    def _by_field(cls, given: object) -> tuple[str, ...]:
        return by_field(given)

    @property
    def every_seed(self) -> tuple[int, ...]:
        """Seeds of the final trainings: others than that of the search, which has chosen settings that suit it."""
        return self.seeds if self.seeds is not None else (self.seed + 1, self.seed + 2, self.seed + 3)

    def points(self) -> list[Point]:
        """Every trial, and the final trainings; their settings are not known yet.

        Raises:
            ValueError: nothing to search, ranges that the experiment may not have, or epochs selected on the test
                split.
        """
        if not self.search:
            raise ValueError("--search says what to search, as in --search train.learning_rate=1e-3..1e-1,log")
        if "published" in (self.train.selection, *self._searched("train.selection")):
            raise ValueError(
                "train.selection published decides by the test split, and a search that does so finds settings that "
                "suit the test samples: take --train.selection validation"
            )
        points = [point for stage in self.stages() for point in stage]
        refuse_twins(points)
        return points

    def stages(self) -> list[list[Point]]:
        """The trials, then the final trainings."""
        digits = len(str(self.trials))
        trials = [Point(f"trial {number:0{digits}d}", {}, self.seed) for number in range(1, self.trials + 1)]
        final = [Point("best", {}, seed) for seed in self.every_seed]
        return [trials, final]

    def carry_out(
        self, point: Point, place: Path, progress: Progress, claim: Claim
    ) -> tuple[dict[str, Any], float | None]:
        """Do a trial, or train the best settings once more.

        Raises:
            ValueError: no trial ended well, so nothing is the best.
        """
        import optuna

        trials, final = self.stages()
        if point in final:
            best = self.best(claim.work.results())
            if best is None:
                raise ValueError("no trial was trained to its end, so there are no best settings")
            settings = claim.work.results()[best]["settings"]
            result, score = super().carry_out(replace(point, settings=settings), place, progress, claim)
            return {**result, "settings": settings}, score

        number = trials.index(point)
        first = self._as_it_is() if number == 0 else {}
        trial = claim.trial(self._sampler(number), self._pruner(), first)
        settings = suggest(trial, self.ranges())
        watched = Watched(progress, trial)
        try:
            result, score = super().carry_out(replace(point, settings=settings), place, watched, claim)
        except (optuna.TrialPruned, FloatingPointError) as end:
            outcome = "pruned" if isinstance(end, optuna.TrialPruned) else "diverged"
            seconds = progress.clock() - watched.began
            result, score = {"validation_accuracy": watched.best, "seconds": seconds, "outcome": outcome}, None
        return {"outcome": "complete", **result, "settings": settings, "epochs": watched.epochs}, score

    def _as_it_is(self) -> dict[str, Any]:
        """What the experiment itself says, as far as it lies in the ranges: the first thing to try."""
        base = self.base()
        said = {field: range_.value(said_of(base, field)) for field, range_ in self.ranges().items()}
        return {field: value for field, value in said.items() if value is not None}

    def ranges(self) -> dict[str, Choices | Span]:
        """What to search, by field.

        Raises:
            OptionError: fields that there are not, or ranges that they may not have.
        """
        return ranges_of(self.base(), self.search)

    def _searched(self, field: str) -> tuple[str, ...]:
        """The texts to choose from for a field; none if it is not searched."""
        range_ = self.ranges().get(field)
        return range_.texts if isinstance(range_, Choices) else ()

    @property
    def _starting(self) -> int:
        return max(1, min(STARTING, self.trials // 3))

    def _sampler(self, number: int) -> optuna.samplers.BaseSampler:
        """Of one trial, so that what it draws does not depend on which worker takes it."""
        import numpy as np
        from optuna.samplers import TPESampler

        drawn = np.random.SeedSequence([self.seed, number]).generate_state(1)[0]
        return TPESampler(seed=int(drawn), n_startup_trials=self._starting)

    def _pruner(self) -> optuna.pruners.BasePruner:
        from optuna.pruners import MedianPruner, NopPruner, SuccessiveHalvingPruner

        if self.pruner == "median":
            # While the learning rate still rises, what is slow then says little.
            return MedianPruner(self._starting, n_warmup_steps=math.ceil(self.train.schedule(PLENTY).warmup_epochs))
        return SuccessiveHalvingPruner() if self.pruner == "halving" else NopPruner()

    def measure(self, run: Run) -> dict[str, Any]:
        """Accuracy on the validation split; on the test split, too, for the final trainings alone."""
        from scmrl.study.measures import scores

        found = scores(run)
        if run.folder.name in {point.key for point in self.stages()[1]}:
            return found
        assert run.validation is not None
        return {"validation_accuracy": found["validation_accuracy"], "validation_loss": run.validation.loss}

    def best(self, results: Results) -> str | None:
        """The key of the trial that is best on the validation split; None if none was trained to its end.

        Of those with the same accuracy it is that with the lowest loss, as an epoch is selected in training.
        """
        trials = [point.key for point in self.stages()[0]]
        done = [key for key in trials if key in results and results[key]["outcome"] == "complete"]
        return max(
            done, key=lambda key: (results[key]["validation_accuracy"], -results[key]["validation_loss"]), default=None
        )

    def with_settings(self, settings: Mapping[str, str]) -> Experiment:
        """The experiment with other settings, without a folder.

        Raises:
            OptionError: settings that the experiment does not take.
        """
        there = Point("best", settings, self.seed).experiment(self.base(), Path("best"))
        return Experiment.model_validate({**there.model_dump(), "out": None, "resume": False})

    def tabulate(self, results: Results) -> Findings:
        """The best settings and what they reach, every trial, and which settings mattered."""
        from scmrl.study.search_findings import search_findings

        return search_findings(self, results)


class Watched(Progress):
    """The display of a trial, which tells the search of every epoch.

    Args:
        progress: where it is shown.
        trial: who is told, and may end the training.
    """

    def __init__(self, progress: Progress, trial: optuna.Trial) -> None:
        super().__init__(progress.console, progress.bars, progress.clock)
        self.trial, self.began = trial, progress.clock()
        self.best: float | None = None
        """Highest accuracy on the validation split so far."""
        self.epochs = 0

    def epoch(self, index: int, total: int, metrics: Mapping[str, float], *, best: bool = False) -> None:
        """Show an epoch and tell the search.

        Raises:
            optuna.TrialPruned: the search gives the trial up.
        """
        import optuna

        super().epoch(index, total, metrics, best=best)
        self.epochs, accuracy = index, metrics["val_accuracy"]
        self.best = max(accuracy, self.best or 0.0)
        self.trial.report(accuracy, index)
        if index < total and self.trial.should_prune():
            self.info(f"pruned after epoch {index} of {total}: other trials were better by then")
            raise optuna.TrialPruned


def suggest(trial: optuna.Trial, ranges: Mapping[str, Choices | Span]) -> dict[str, str]:
    """Ask the search what to try: options by field."""
    settings: dict[str, str] = {}
    for field, range_ in ranges.items():
        if isinstance(range_, Choices):
            value = trial.suggest_categorical(field, range_.texts)
        elif range_.whole:
            value = trial.suggest_int(field, int(range_.low), int(range_.high), log=range_.log)
        else:
            value = trial.suggest_float(field, range_.low, range_.high, log=range_.log)
        settings[field] = range_.text(value)
    return settings
