"""`scmrl study sensitivity`: the effect of settings, and which values are as good as the best."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import product
from typing import TYPE_CHECKING, Any, ClassVar

from pydantic import field_validator

from scmrl.config.experiment import Experiment
from scmrl.config.overlay import OptionError
from scmrl.study.points import Point, check_unique_keys, slug
from scmrl.study.ranges import base_value, dump_experiment, find_faults, group_by_field, parse_values, short_names
from scmrl.study.spec import Results, StudySpec

if TYPE_CHECKING:
    from scmrl.engine.run import Run
    from scmrl.study.tables import StudyFindings

BASE = "base"
"""Variant of the unchanged experiment, among points that differ from it in one field each."""


class SensitivitySpec(StudySpec):
    """Accuracy over the values of some settings: all combinations, or one setting at a time."""

    kind: ClassVar[str] = "sensitivity"
    repeated: ClassVar[tuple[str, str] | None] = ("vary", "model.fusion.alpha=0,0.5,1")

    vary: tuple[str, ...] = ()
    """FIELD=VALUES, once per setting: any option of the experiment and its values, separated by commas, or by | if the
    values contain commas."""
    one_at_a_time: bool = False
    """Vary one setting at a time and keep the others at the experiment's values, instead of all combinations."""

    @field_validator("vary", mode="before")
    @classmethod
    def _group_by_field(cls, value: object) -> tuple[str, ...]:
        return group_by_field(value)

    def points(self) -> list[Point]:
        """Return every combination with every seed, seed by seed.

        Raises:
            ValueError: nothing to vary, or invalid values or combinations.
        """
        combinations, base = self._combinations(), self.base()
        names = short_names(list(self.values()))
        faults: list[str] = []
        for settings in combinations if len(names) > 1 else ():
            faults += [f"{_as_options(settings)}: {fault}" for fault in find_faults(base, settings)]
        if faults:
            raise OptionError(list(dict.fromkeys(faults)))
        variants = [
            (" ".join(f"{names[field]}={value}" for field, value in settings.items()) or BASE, settings)
            for settings in combinations
        ]
        points = [Point(variant, settings, seed) for seed in self.all_seeds for variant, settings in variants]
        check_unique_keys(points)
        return points

    def values(self) -> dict[str, tuple[str, ...]]:
        """Return the values to try, by field.

        Raises:
            ValueError: nothing to vary, or invalid values.
        """
        if not self.vary:
            raise ValueError("--vary is required, for example --vary model.fusion.alpha=0,0.5,1,1.5")
        return parse_values(self.base(), self.vary)

    def _combinations(self) -> list[dict[str, str]]:
        """Return the distinct settings of all points; with one_at_a_time, the unchanged experiment comes first."""
        values = self.values()
        if not self.one_at_a_time:
            return [dict(zip(values, combination, strict=True)) for combination in product(*values.values())]
        base = self.base()
        unchanged = dump_experiment(base, {})
        single = [{field: value} for field, texts in values.items() for value in texts]
        return [{}, *(settings for settings in single if dump_experiment(base, settings) != unchanged)]

    def measure(self, run: Run) -> dict[str, Any]:
        """Return the accuracies on the validation and the test split."""
        from scmrl.study.measures import scores

        return scores(run)

    def tabulate(self, results: Results) -> StudyFindings:
        """Make the curve, importance and best values of each setting, and the table of all points."""
        from scmrl.study.cells import SELECTED_ON_TEST
        from scmrl.study.plots import heat_map, response_plot
        from scmrl.study.sensitivity.response import curve_tables, grid_table, group_results, recommend, response_curves
        from scmrl.study.tables import StudyFindings, StudyPlot

        base, values = self.base(), self.values()
        names = short_names(list(values))
        base_values = {field: _find_base_value(base, field, texts) for field, texts in values.items()}
        combinations = group_results(self.points(), results)
        curves = response_curves(values, combinations, base_values if self.one_at_a_time else None)
        # With a single setting there is no variance to share.
        independent = self.one_at_a_time or len(values) == 1
        advice, notes = recommend(base, curves, combinations, one_at_a_time=independent)
        plots = [
            StudyPlot(f"curve-{slug(names[field])}", f"Accuracy over {field}", response_plot(curve, base_values[field]))
            for field, curve in curves.items()
        ]
        if len(values) == 2 and not self.one_at_a_time:
            title = f"Validation accuracy over {' and '.join(values)}"
            rows, columns = values.items()
            means = {tuple(each.settings.values()): 100 * each.mean("validation") for each in combinations}
            plots.append(StudyPlot("grid", title, heat_map(means, rows, columns, "validation accuracy, %")))
        notes.append(
            "Mean and standard deviation over seeds. Values are compared on the validation split; a value is as good "
            "as the best if it is within one standard error of the best mean."
        )
        notes.append(
            "The range is between the lowest and the highest mean validation accuracy of a setting, in points; random "
            "variation widens it."
            if independent
            else "A curve is the mean over all values of the other settings. Importance is the fraction of the "
            "variance of validation accuracy over the grid that a setting explains alone; the rest of 100 % is "
            "interaction. Random variation adds to all of them."
        )
        if "published" in (self.train.selection, *values.get("train.selection", ())):
            notes.insert(0, SELECTED_ON_TEST)
        title = f"Sensitivity on {self.data.card().title}"
        tables = [advice, *curve_tables(curves, names), grid_table(values, combinations)]
        return StudyFindings(self.kind, title, [table for table in tables if table.rows], plots, notes)


def _as_options(settings: Mapping[str, str]) -> str:
    return " ".join(f"--{field} {value}" for field, value in settings.items())


def _find_base_value(base: Experiment, field: str, values: Sequence[str]) -> str:
    """Return the experiment's value of a field, in the spelling of `values` if it is among them."""
    unchanged = dump_experiment(base, {})
    for value in values:
        if dump_experiment(base, {field: value}) == unchanged:
            return value
    return base_value(base, field)
