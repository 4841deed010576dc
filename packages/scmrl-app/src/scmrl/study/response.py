"""How accuracy answers to settings: curves, importance, and which values to take. Imports no PyTorch."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from scmrl.experiment import Experiment
from scmrl.study.cells import plus_minus
from scmrl.study.points import Point, slug
from scmrl.study.ranges import faults_of
from scmrl.study.spec import Results
from scmrl.study.statistics import Summary, as_good_as_the_best, main_effects
from scmrl.study.tables import StudyTable

Split = Literal["validation", "test"]
SPLITS: tuple[Split, Split] = ("validation", "test")


@dataclass(frozen=True, eq=False)
class Cell:
    """One combination of settings with every seed that is done."""

    settings: Mapping[str, str]
    results: Mapping[int, Mapping[str, Any]]
    """By seed."""

    def accuracies(self, split: Split) -> list[float]:
        """One a seed."""
        return [result[f"{split}_accuracy"] for result in self.results.values()]

    def mean(self, split: Split) -> float:
        """Over seeds."""
        return Summary.of(self.accuracies(split)).mean


@dataclass(frozen=True, eq=False)
class Curve:
    """Accuracies over the values of one setting."""

    field: str
    accuracies: Mapping[str, Mapping[Split, list[float]]]
    """By value, one a seed; numbers in their order, other values as they were given."""

    @property
    def values(self) -> list[str]:
        """Every value that there is something on."""
        return list(self.accuracies)

    @property
    def numbers(self) -> list[float] | None:
        """The values as numbers; None if some are none."""
        return numbers(self.values)

    def summaries(self, split: Split) -> list[Summary]:
        """One a value."""
        return [Summary.of(of[split]) for of in self.accuracies.values()]


def numbers(values: Sequence[str]) -> list[float] | None:
    """Texts as numbers; None if some are none."""
    try:
        return [float(value) for value in values]
    except ValueError:
        return None


def cells_of(points: Sequence[Point], results: Results) -> list[Cell]:
    """Results together with their settings, in the order of the points."""
    settings = {point.variant: point.settings for point in points}
    done: dict[str, dict[int, Mapping[str, Any]]] = {}
    for point in points:
        if point.key in results:
            done.setdefault(point.variant, {})[point.seed] = results[point.key]
    return [Cell(settings[variant], done[variant]) for variant in settings if variant in done]


def curves_of(
    values: Mapping[str, Sequence[str]], cells: Sequence[Cell], as_it_is: Mapping[str, str] | None
) -> dict[str, Curve]:
    """A curve for each setting, without those that there is nothing on yet.

    Over a grid, a point of the curve is the mean over all other settings, seed by seed; a seed counts where all of
    them are done.

    Args:
        values: the grid's, by setting.
        cells: what is done.
        as_it_is: what the experiment itself says of each setting, if settings were varied one at a time; None: all
            combinations were.
    """
    found: dict[str, Curve] = {}
    for field, texts in values.items():
        if as_it_is is None:
            size = math.prod(len(others) for other, others in values.items() if other != field)
            on = {value: [cell for cell in cells if cell.settings[field] == value] for value in texts}
        else:
            size = 1
            here = [value for value in texts if value != as_it_is[field]]
            on = {value: [cell for cell in cells if cell.settings == {field: value}] for value in here}
            on[as_it_is[field]] = [cell for cell in cells if not cell.settings]
        ordered = sorted(on, key=float) if numbers(list(on)) is not None else [v for v in texts if v in on]
        ordered += [value for value in on if value not in ordered]
        accuracies = {value: _by_split(on[value], size) for value in ordered}
        accuracies = {value: of for value, of in accuracies.items() if of["validation"]}
        if accuracies:
            found[field] = Curve(field, accuracies)
    return found


def _by_split(cells: Sequence[Cell], size: int) -> dict[Split, list[float]]:
    """Mean over cells, one a seed that all have."""
    seeds = [seed for seed in cells[0].results if all(seed in cell.results for cell in cells)] if cells else []
    if len(cells) < size:
        seeds = []
    return {
        split: [sum(cell.results[seed][f"{split}_accuracy"] for cell in cells) / len(cells) for seed in seeds]
        for split in SPLITS
    }


def advise(
    base: Experiment, curves: Mapping[str, Curve], cells: Sequence[Cell], *, one_at_a_time: bool
) -> tuple[StudyTable, list[str]]:
    """Which value of each setting to take, which are as good, and how much the setting matters, as table and words.

    Over a grid, the best combination is meant, and the values as good are those beside it, with all other settings as
    in the best. A best value at the edge of those tried is warned of, if the setting may go further.
    """
    grid = {} if one_at_a_time else _importance(cells)
    rows: list[list[str]] = []
    notes: list[str] = []
    most = max((len(cell.results) for cell in cells), default=0)
    for field, curve in curves.items():
        if one_at_a_time:
            places = as_good_as_the_best([of["validation"] for of in curve.accuracies.values()])
            good, tried = [curve.values[place] for place in places], curve.values
            mean = curve.summaries("validation")[places[0]]
            importance = [s.mean for s in curve.summaries("validation")]
            weight = f"{100 * (max(importance) - min(importance)):.1f}"
        else:
            places = as_good_as_the_best([cell.accuracies("validation") for cell in cells])
            best = cells[places[0]]
            beside = [cells[place] for place in places if _but(cells[place], field) == _but(best, field)]
            good = [cell.settings[field] for cell in beside]
            tried = [cell.settings[field] for cell in cells if _but(cell, field) == _but(best, field)]
            mean = Summary.of(best.accuracies("validation"))
            weight = f"{grid[field]:.0%}" if field in grid else "-"
        rows.append([field, weight, good[0], together(good, tried), plus_minus(mean, 100)])
        also = f"; as good within one standard error: {together(good, tried)}" if len(good) > 1 else ""
        notes.append(f"{field}: take {good[0]}, with a validation accuracy of {mean.mean:.1%}{also}.")
        if mean.n < most:
            notes.append(
                f"The best {field}, {good[0]}, has {mean.n} of {most} seeds only: its mean is without trainings that "
                "failed or are missing."
            )
        beyond = edge(base, field, good[0], tried)
        if beyond and len(good) < len(tried):
            notes.append(f"The best {field}, {good[0]}, is at the edge of what was tried: try {beyond} ones, too.")
    measure = "range, points" if one_at_a_time else "importance"
    columns = ("setting", measure, "best value", "as good as the best", "validation at the best, %")
    return StudyTable("settings", "What to take", columns, rows), notes


def _importance(cells: Sequence[Cell]) -> dict[str, float]:
    """Of every setting, if no combination of the values that there are is missing."""
    fields = list(cells[0].settings)
    means = {tuple(cell.settings.values()): cell.mean("validation") for cell in cells}
    size = math.prod(len({cell.settings[field] for cell in cells}) for field in fields)
    return dict(zip(fields, main_effects(means), strict=True)) if len(means) == size > 1 else {}


def _but(cell: Cell, field: str) -> dict[str, str]:
    return {name: value for name, value in cell.settings.items() if name != field}


def together(values: Sequence[str], tried: Sequence[str]) -> str:
    """Values in short: `0.5 to 2` for numbers with nothing tried between them that is missing, else one by one."""
    if numbers(values) is None or numbers(tried) is None:
        return ", ".join(values)
    ordered, every = sorted(values, key=float), sorted(tried, key=float)
    first = every.index(ordered[0])
    if len(ordered) > 1 and every[first : first + len(ordered)] == ordered:
        return f"{ordered[0]} to {ordered[-1]}"
    return ", ".join(ordered)


def edge(base: Experiment, field: str, best: str, tried: Sequence[str]) -> str:
    """`smaller` or `larger` if the best is the first or last of the numbers tried and the setting may go further."""
    if len(tried) < 2 or numbers(tried) is None:
        return ""
    ordered = sorted(tried, key=float)
    for side, at, beside in (("smaller", ordered[0], ordered[1]), ("larger", ordered[-1], ordered[-2])):
        if best == at and any(
            not faults_of(base, {field: further}) for further in _further(float(at), float(beside), at + beside)
        ):
            return side
    return ""


def _further(at: float, beside: float, written: str) -> list[str]:
    """Numbers beyond the edge, by the same step and by the same factor."""
    beyond = [2 * at - beside, *([at * at / beside] if at > 0 and beside > 0 else [])]
    is_whole = written.replace("-", "").isdigit()
    return [f"{round(x)}" if is_whole else f"{x:g}" for x in beyond if (round(x) if is_whole else x) != at]


def tables_of(curves: Mapping[str, Curve], names: Mapping[str, str]) -> list[StudyTable]:
    """The numbers of each curve."""
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


def grid_table(values: Mapping[str, Sequence[str]], cells: Sequence[Cell]) -> StudyTable:
    """Every combination that is done, in the order of the grid."""
    rows = [
        [
            *(cell.settings.get(field, "as it is") for field in values),
            str(len(cell.results)),
            *(plus_minus(Summary.of(cell.accuracies(split)), 100) for split in SPLITS),
            f"{Summary.of([result['seconds'] for result in cell.results.values()]).mean:.0f}",
        ]
        for cell in cells
    ]
    return StudyTable("points", "Every point", (*values, "seeds", "validation, %", "test, %", "seconds"), rows)
