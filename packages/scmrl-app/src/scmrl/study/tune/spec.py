"""`scmrl study tune`: search for the best settings."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import ClassVar, Literal

from pydantic import Field, field_validator

from scmrl.config.experiment import Experiment
from scmrl.study.points import Point, Results, check_unique_keys
from scmrl.study.ranges import Choices, Span, group_by_field, parse_ranges
from scmrl.study.spec import StudySpec


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
        if "test" in (self.train.selection, *self._choices("train.selection")):
            raise ValueError(
                "train.selection test selects epochs on the test split, so a search would overfit to the test "
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
