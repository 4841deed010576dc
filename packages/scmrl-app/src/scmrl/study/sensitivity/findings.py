"""Findings of `scmrl study sensitivity`: curves, recommended values, and the table of all points."""

from __future__ import annotations

from collections.abc import Sequence

from scmrl.config.experiment import Experiment
from scmrl.study.cells import SELECTED_ON_TEST
from scmrl.study.points import Results, slug
from scmrl.study.ranges import base_value, dump_experiment, short_names
from scmrl.study.sensitivity.plots import heat_map, response_plot
from scmrl.study.sensitivity.response import curve_tables, grid_table, group_results, recommend, response_curves
from scmrl.study.sensitivity.spec import SensitivitySpec
from scmrl.study.tables import StudyFindings, StudyPlot


def tabulate(spec: SensitivitySpec, results: Results) -> StudyFindings:
    """Make the curve, importance and best values of each setting, and the table of all points."""
    base, values = spec.base(), spec.values()
    names = short_names(list(values))
    base_values = {field: _find_base_value(base, field, texts) for field, texts in values.items()}
    combinations = group_results(spec.points(), results)
    curves = response_curves(values, combinations, base_values if spec.one_at_a_time else None)
    # With a single setting there is no variance to share.
    independent = spec.one_at_a_time or len(values) == 1
    advice, notes = recommend(base, curves, combinations, one_at_a_time=independent)
    plots = [
        StudyPlot(f"curve-{slug(names[field])}", f"Accuracy over {field}", response_plot(curve, base_values[field]))
        for field, curve in curves.items()
    ]
    if len(values) == 2 and not spec.one_at_a_time:
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
    if "test" in (spec.train.selection, *values.get("train.selection", ())):
        notes.insert(0, SELECTED_ON_TEST)
    title = f"Sensitivity on {spec.data.card.title}"
    tables = [advice, *curve_tables(curves, names), grid_table(values, combinations)]
    return StudyFindings(spec.kind, title, [table for table in tables if table.rows], plots, notes)


def _find_base_value(base: Experiment, field: str, values: Sequence[str]) -> str:
    """Return the experiment's value of a field, in the spelling of `values` if it is among them."""
    unchanged = dump_experiment(base, {})
    for value in values:
        if dump_experiment(base, {field: value}) == unchanged:
            return value
    return base_value(base, field)
