"""`scmrl study sensitivity`: what settings do, and which values are as good as the best."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import product
from typing import TYPE_CHECKING, Any, ClassVar

from pydantic import field_validator

from scmrl.experiment import Experiment
from scmrl.overlay import OptionError
from scmrl.study.points import Point, refuse_twins, slug
from scmrl.study.ranges import by_field, faults_of, said_of, short_names, values_of, what_it_says
from scmrl.study.spec import Results, StudySpec

if TYPE_CHECKING:
    from scmrl.engine.train import Run
    from scmrl.study.tables import Findings

BASE = "as it is"
"""The experiment itself, among points that differ from it in one field each."""


class SensitivitySpec(StudySpec):
    """Accuracy over the values of some settings: every combination, or each setting by itself."""

    kind: ClassVar[str] = "sensitivity"
    repeated: ClassVar[tuple[str, str] | None] = ("vary", "model.fusion.alpha=0,0.5,1")

    vary: tuple[str, ...] = ()
    """FIELD=VALUES, once for each setting to vary: any option of the experiment, and its values, separated by commas,
    or by | where values hold commas."""
    one_at_a_time: bool = False
    """Vary each setting by itself, all others as the experiment says, rather than every combination."""

    @field_validator("vary", mode="before")
    @classmethod
    def _by_field(cls, given: object) -> tuple[str, ...]:
        return by_field(given)

    def points(self) -> list[Point]:
        """Every combination with every seed, one seed after the other.

        Raises:
            ValueError: nothing to vary, or values or combinations that the experiment may not have.
        """
        combinations, base = self._combinations(), self.base()
        names = short_names(list(self._values()))
        faults: list[str] = []
        for settings in combinations if len(names) > 1 else ():
            faults += [f"{_said(settings)}: {fault}" for fault in faults_of(base, settings)]
        if faults:
            raise OptionError(list(dict.fromkeys(faults)))
        variants = [
            (" ".join(f"{names[field]}={value}" for field, value in settings.items()) or BASE, settings)
            for settings in combinations
        ]
        points = [Point(variant, settings, seed) for seed in self.every_seed for variant, settings in variants]
        refuse_twins(points)
        return points

    def _values(self) -> dict[str, tuple[str, ...]]:
        if not self.vary:
            raise ValueError("--vary says what to vary, as in --vary model.fusion.alpha=0,0.5,1,1.5")
        return values_of(self.base(), self.vary)

    def _combinations(self) -> list[dict[str, str]]:
        """The settings of every point, each once; in one_at_a_time, the first is the experiment as it is."""
        values = self._values()
        if not self.one_at_a_time:
            return [dict(zip(values, chosen, strict=True)) for chosen in product(*values.values())]
        base = self.base()
        as_it_is = what_it_says(base, {})
        alone = [{field: value} for field, texts in values.items() for value in texts]
        return [{}, *(settings for settings in alone if what_it_says(base, settings) != as_it_is)]

    def measure(self, run: Run) -> dict[str, Any]:
        """Accuracies on the validation and the test split."""
        from scmrl.study.measures import scores

        return scores(run)

    def tabulate(self, results: Results) -> Findings:
        """Each setting's curve, importance and best values, and every point."""
        from scmrl.study.plots import heat_map, response_plot
        from scmrl.study.response import advise, cells_of, curves_of, grid_table, tables_of
        from scmrl.study.tables import Findings, StudyPlot

        base, values = self.base(), self._values()
        names = short_names(list(values))
        as_it_is = {field: _as_it_is(base, field, texts) for field, texts in values.items()}
        cells = cells_of(self.points(), results)
        curves = curves_of(values, cells, as_it_is if self.one_at_a_time else None)
        # Of a setting alone there is no share of anything to tell.
        alone = self.one_at_a_time or len(values) == 1
        advice, notes = advise(base, curves, cells, one_at_a_time=alone)
        plots = [
            StudyPlot(f"curve-{slug(names[field])}", f"Accuracy over {field}", response_plot(curve, as_it_is[field]))
            for field, curve in curves.items()
        ]
        if len(values) == 2 and not self.one_at_a_time:
            title = f"Validation accuracy over {' and '.join(values)}"
            rows, columns = values.items()
            means = {tuple(cell.settings.values()): 100 * cell.mean("validation") for cell in cells}
            plots.append(StudyPlot("grid", title, heat_map(means, rows, columns, "validation accuracy, %")))
        notes.append(
            "Mean and standard deviation over seeds. Values are compared on the validation split: as good as the best "
            "is what lies within one standard error of its mean."
        )
        notes.append(
            "The range is that of the mean validation accuracies of a setting, in points; chance widens it."
            if alone
            else "A curve is the mean over all values of the other settings. Importance is the share of the variance "
            "of validation accuracy over the grid that a setting explains by itself; the rest of 100 % is how settings "
            "act together. Chance adds to all of them."
        )
        if "published" in (self.train.selection, *values.get("train.selection", ())):
            notes.insert(0, "Epochs were selected on the test split, as published: no estimate for new data.")
        title = f"Sensitivity on {self.data.card().title}"
        tables = [advice, *tables_of(curves, names), grid_table(values, cells)]
        return Findings(self.kind, title, [table for table in tables if table.rows], plots, notes)


def _said(settings: Mapping[str, str]) -> str:
    return " ".join(f"--{field} {value}" for field, value in settings.items())


def _as_it_is(base: Experiment, field: str, values: Sequence[str]) -> str:
    """What the experiment says of a field: as it was given, if it was."""
    says = what_it_says(base, {})
    for value in values:
        if what_it_says(base, {field: value}) == says:
            return value
    return said_of(base, field)
