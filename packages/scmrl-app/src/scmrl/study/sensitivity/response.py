"""The response of accuracy to settings: curves, importance and recommended values. Imports no PyTorch."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from scmrl.config.experiment import Experiment
from scmrl.study.cells import plus_minus
from scmrl.study.points import Point, Results, group_by_variant, slug
from scmrl.study.ranges import find_faults
from scmrl.study.statistics import MeanStd, main_effects, within_one_standard_error
from scmrl.study.tables import StudyTable

ScoreSplit = Literal["validation", "test"]
SCORE_SPLITS: tuple[ScoreSplit, ScoreSplit] = ("validation", "test")


@dataclass(frozen=True, eq=False)
class Combination:
    """One combination of settings with the results of its finished seeds."""

    settings: Mapping[str, str]
    results: Mapping[int, Mapping[str, Any]]
    """By seed."""

    def accuracies(self, split: ScoreSplit) -> list[float]:
        """Return one accuracy per seed."""
        return [result[f"{split}_accuracy"] for result in self.results.values()]

    def mean(self, split: ScoreSplit) -> float:
        """Return the mean accuracy over seeds."""
        return MeanStd.of(self.accuracies(split)).mean


@dataclass(frozen=True, eq=False)
class ResponseCurve:
    """Accuracies over the values of one setting."""

    field: str
    accuracies: Mapping[str, Mapping[ScoreSplit, list[float]]]
    """One accuracy per seed, by value. Numbers are in ascending order, other values in the order of the option."""

    @property
    def values(self) -> list[str]:
        """The values of the setting."""
        return list(self.accuracies)

    @property
    def numbers(self) -> list[float] | None:
        """The values as numbers; None if some are not numbers."""
        return parse_numbers(self.values)

    def summaries(self, split: ScoreSplit) -> list[MeanStd]:
        """Return mean and standard deviation for each value."""
        return [MeanStd.of(by_split[split]) for by_split in self.accuracies.values()]


def parse_numbers(values: Sequence[str]) -> list[float] | None:
    """Return texts as numbers; None if some are not numbers."""
    try:
        return [float(value) for value in values]
    except ValueError:
        return None


def group_results(points: Sequence[Point], results: Results) -> list[Combination]:
    """Group results by combination of settings, in the order of the points."""
    settings = {point.variant: point.settings for point in points}
    by_variant = group_by_variant(points, results)
    return [Combination(settings[variant], by_variant[variant]) for variant in settings if variant in by_variant]


def response_curves(
    values: Mapping[str, Sequence[str]], combinations: Sequence[Combination], base_values: Mapping[str, str] | None
) -> dict[str, ResponseCurve]:
    """Make a curve for each setting; settings without results have none.

    Over a grid, a point of the curve is the mean over all other settings, separately for each seed. A seed counts only
    if all of its combinations are finished.

    Args:
        values: of the grid, by setting.
        combinations: the finished ones.
        base_values: the experiment's own values, if settings were varied one at a time; None for a full grid.
    """
    curves: dict[str, ResponseCurve] = {}
    for field, texts in values.items():
        if base_values is None:
            size = math.prod(len(others) for other, others in values.items() if other != field)
            by_value = {value: [each for each in combinations if each.settings[field] == value] for value in texts}
        else:
            size = 1
            varied = [value for value in texts if value != base_values[field]]
            by_value = {value: [each for each in combinations if each.settings == {field: value}] for value in varied}
            by_value[base_values[field]] = [each for each in combinations if not each.settings]
        is_numeric = parse_numbers(list(by_value)) is not None
        ordered = sorted(by_value, key=float) if is_numeric else [value for value in texts if value in by_value]
        ordered += [value for value in by_value if value not in ordered]
        accuracies = {value: _mean_by_seed(by_value[value], size) for value in ordered}
        accuracies = {value: by_split for value, by_split in accuracies.items() if by_split["validation"]}
        if accuracies:
            curves[field] = ResponseCurve(field, accuracies)
    return curves


def _mean_by_seed(combinations: Sequence[Combination], size: int) -> dict[ScoreSplit, list[float]]:
    """Return the mean over combinations for each seed that all of them have; nothing if there are less than `size`."""
    seeds: list[int] = []
    if combinations and len(combinations) >= size:
        seeds = [seed for seed in combinations[0].results if all(seed in each.results for each in combinations)]
    return {
        split: [
            sum(each.results[seed][f"{split}_accuracy"] for each in combinations) / len(combinations) for seed in seeds
        ]
        for split in SCORE_SPLITS
    }


def recommend(
    base: Experiment,
    curves: Mapping[str, ResponseCurve],
    combinations: Sequence[Combination],
    *,
    one_at_a_time: bool,
) -> tuple[StudyTable, list[str]]:
    """Recommend a value of each setting, with equally good values and the setting's importance; table and notes.

    Over a grid, the recommendation is the best combination, and equally good values are compared with all other
    settings as in the best. Warns if the best value is the lowest or highest one tried and the setting allows more.
    """
    effects = {} if one_at_a_time else _importance(combinations)
    rows: list[list[str]] = []
    notes: list[str] = []
    max_seeds = max((len(each.results) for each in combinations), default=0)
    for field, curve in curves.items():
        if one_at_a_time:
            near = within_one_standard_error([by_split["validation"] for by_split in curve.accuracies.values()])
            good, tried = [curve.values[index] for index in near], curve.values
            summary = curve.summaries("validation")[near[0]]
            means = [each.mean for each in curve.summaries("validation")]
            importance = f"{100 * (max(means) - min(means)):.1f}"
        else:
            near = within_one_standard_error([each.accuracies("validation") for each in combinations])
            best = combinations[near[0]]
            rest = _other_settings(best, field)
            good = [combinations[i].settings[field] for i in near if _other_settings(combinations[i], field) == rest]
            tried = [each.settings[field] for each in combinations if _other_settings(each, field) == rest]
            summary = MeanStd.of(best.accuracies("validation"))
            importance = f"{effects[field]:.0%}" if field in effects else "-"
        rows.append([field, importance, good[0], format_values(good, tried), plus_minus(summary, 100)])
        others = f"; equally good within one standard error: {format_values(good, tried)}" if len(good) > 1 else ""
        notes.append(f"{field}: {good[0]} is best, with a validation accuracy of {summary.mean:.1%}{others}.")
        if summary.n < max_seeds:
            notes.append(
                f"The best {field}, {good[0]}, has only {summary.n} of {max_seeds} seeds; its other trainings failed "
                "or are missing."
            )
        side = edge_side(base, field, good[0], tried)
        if side and len(good) < len(tried):
            notes.append(f"The best {field}, {good[0]}, is the {_EXTREMES[side]} value tried: try {side} ones, too.")
    measure = "range, points" if one_at_a_time else "importance"
    columns = ("setting", measure, "best value", "equally good values", "validation at the best, %")
    return StudyTable("settings", "Recommended values", columns, rows), notes


_EXTREMES = {"smaller": "smallest", "larger": "largest"}


def _importance(combinations: Sequence[Combination]) -> dict[str, float]:
    """Return the importance of every setting; empty if the grid is incomplete."""
    fields = list(combinations[0].settings)
    means = {tuple(each.settings.values()): each.mean("validation") for each in combinations}
    size = math.prod(len({each.settings[field] for each in combinations}) for field in fields)
    return dict(zip(fields, main_effects(means), strict=True)) if len(means) == size > 1 else {}


def _other_settings(combination: Combination, field: str) -> dict[str, str]:
    return {name: value for name, value in combination.settings.items() if name != field}


def format_values(values: Sequence[str], tried: Sequence[str]) -> str:
    """List values; consecutive ones of the numbers tried are an interval, as in `0.5 to 2`."""
    if parse_numbers(values) is None or parse_numbers(tried) is None:
        return ", ".join(values)
    ordered, all_tried = sorted(values, key=float), sorted(tried, key=float)
    first = all_tried.index(ordered[0])
    if len(ordered) > 1 and all_tried[first : first + len(ordered)] == ordered:
        return f"{ordered[0]} to {ordered[-1]}"
    return ", ".join(ordered)


def edge_side(base: Experiment, field: str, best: str, tried: Sequence[str]) -> str:
    """Return `smaller` or `larger` if the best value is the first or last one tried and the setting allows more."""
    if len(tried) < 2 or parse_numbers(tried) is None:
        return ""
    ordered = sorted(tried, key=float)
    for side, edge, neighbor in (("smaller", ordered[0], ordered[1]), ("larger", ordered[-1], ordered[-2])):
        if best == edge and any(not find_faults(base, {field: value}) for value in _values_beyond(edge, neighbor)):
            return side
    return ""


def _values_beyond(edge_text: str, neighbor_text: str) -> list[str]:
    """Return numbers beyond the edge, by the same step and by the same factor."""
    edge, neighbor = float(edge_text), float(neighbor_text)
    beyond = [2 * edge - neighbor, *([edge * edge / neighbor] if edge > 0 and neighbor > 0 else [])]
    is_integer = (edge_text + neighbor_text).replace("-", "").isdigit()
    return [f"{round(x)}" if is_integer else f"{x:g}" for x in beyond if (round(x) if is_integer else x) != edge]


def curve_tables(curves: Mapping[str, ResponseCurve], names: Mapping[str, str]) -> list[StudyTable]:
    """Make one table per curve."""
    return [
        StudyTable(
            f"curve-{slug(names[field])}",
            f"Accuracy over {field}",
            (field, "seeds", "validation, %", "test, %"),
            [
                [value, str(validation.n), plus_minus(validation, 100), plus_minus(test, 100)]
                for value, validation, test in zip(
                    curve.values, curve.summaries("validation"), curve.summaries("test"), strict=True
                )
            ],
        )
        for field, curve in curves.items()
    ]


def grid_table(values: Mapping[str, Sequence[str]], combinations: Sequence[Combination]) -> StudyTable:
    """Make the table of all finished combinations, in the order of the grid."""
    rows = [
        [
            *(each.settings.get(field, "base") for field in values),
            str(len(each.results)),
            *(plus_minus(MeanStd.of(each.accuracies(split)), 100) for split in SCORE_SPLITS),
            f"{MeanStd.of([result['seconds'] for result in each.results.values()]).mean:.0f}",
        ]
        for each in combinations
    ]
    return StudyTable("points", "All points", (*values, "seeds", "validation, %", "test, %", "seconds"), rows)
