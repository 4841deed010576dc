"""Plots of studies."""

# matplotlib types many of its arguments loosely.
# pyright: reportUnknownMemberType=false
from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np
from matplotlib.figure import Figure

from scmrl.console.tables import first_and_last

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from scmrl.study.sensitivity.response import ResponseCurve

BLUE, GRAY = "#3b78c3", "#8a8f98"
"""Of medium brightness, so that they are visible on white and on black."""
MAX_ROWS = 60
"""Number of variants to draw; if there are more, the best and the worst."""
MAX_INCHES = 24.0
"""Largest side of a heat map; a larger one has no numbers."""


def accuracy_plot(accuracies: Mapping[str, Sequence[float]], label: str) -> Figure:
    """Draw a dot for each seed and a bar at their mean, one row per variant, in the order of the mapping.

    Args:
        accuracies: by variant, one per seed, 0 to 1.
        label: of the horizontal axis, in per cent.
    """
    count = len(accuracies)
    if count > MAX_ROWS:
        ranked = sorted(accuracies, key=lambda name: -float(np.mean(accuracies[name])))
        drawn = {ranked[index] for index in first_and_last(count, MAX_ROWS)}
        accuracies = {name: values for name, values in accuracies.items() if name in drawn}
    figure = Figure(figsize=(7, 0.9 + 0.34 * max(1, len(accuracies))), layout="constrained")
    axes = figure.add_subplot()
    if count > len(accuracies):
        axes.set_title(f"the best and the worst {len(accuracies)} of {count}", fontsize=10)
    best = max((float(np.mean(values)) for values in accuracies.values()), default=0.0)
    for row, values in enumerate(accuracies.values()):
        mean = float(np.mean(values))
        color = BLUE if mean == best else GRAY
        axes.plot(100 * np.asarray(values), [row] * len(values), "o", color=color, alpha=0.55, markersize=6)
        axes.plot([100 * mean] * 2, [row - 0.32, row + 0.32], "-", color=color, linewidth=2.5)
    # Names come from files: a dollar in them must not start a formula.
    axes.set_yticks(range(len(accuracies)), list(accuracies), parse_math=False)
    axes.set_ylim(len(accuracies) - 0.5, -0.5)
    axes.set_xlabel(label)
    axes.grid(axis="x", alpha=0.3)
    for side in ("top", "right", "left"):
        axes.spines[side].set_visible(False)
    axes.tick_params(axis="y", length=0)
    return figure


def response_plot(curve: ResponseCurve, base_value: str) -> Figure:
    """Draw accuracy over the values of a setting: mean over seeds, a band of one standard deviation, a dot per seed.

    Args:
        curve: of one setting; its axis is logarithmic if the numbers span more than a factor of 30.
        base_value: the experiment's own value, which is marked if the curve includes it.
    """
    figure = Figure(figsize=(6, 4), layout="constrained")
    axes = figure.add_subplot()
    x: list[float] = curve.numbers or [float(index) for index in range(len(curve.values))]
    for split, color, marker in (("validation", BLUE, "o"), ("test", GRAY, "s")):
        summaries = curve.summaries("test" if split == "test" else "validation")
        mean = 100 * np.array([summary.mean for summary in summaries])
        deviation = 100 * np.array([summary.std for summary in summaries])
        axes.fill_between(x, mean - deviation, mean + deviation, color=color, alpha=0.18, linewidth=0)
        axes.plot(x, mean, f"-{marker}", color=color, label=split, markersize=5)
        for value, by_split in zip(x, curve.accuracies.values(), strict=True):
            seeds = by_split["test" if split == "test" else "validation"]
            axes.plot([value] * len(seeds), 100 * np.asarray(seeds), ".", color=color, alpha=0.4, markersize=4)
    if base_value in curve.values:
        axes.axvline(x[curve.values.index(base_value)], color=GRAY, linestyle=":", label=f"base: {base_value}")
    if curve.numbers is None:
        axes.set_xticks(x, curve.values, parse_math=False)
    elif min(x) > 0 and max(x) / min(x) > 30:
        axes.set_xscale("log")
    axes.set_xlabel(curve.field, parse_math=False)
    axes.set_ylabel("accuracy, %")
    axes.grid(alpha=0.3)
    axes.legend()
    return figure


def heat_map(
    values: Mapping[tuple[str, ...], float],
    rows: tuple[str, Sequence[str]],
    columns: tuple[str, Sequence[str]],
    label: str,
) -> Figure:
    """Draw a number for each pair of values of two settings; missing combinations stay empty.

    Args:
        values: by the values of both settings, rows first.
        rows: the setting of the rows, and its values.
        columns: the setting of the columns, and its values.
        label: of the color bar.
    """
    width, height = 1.8 + 0.8 * len(columns[1]), 1.5 + 0.5 * len(rows[1])
    figure = Figure(figsize=(min(width, MAX_INCHES), min(height, MAX_INCHES)), layout="constrained")
    axes = figure.add_subplot()
    grid = np.array([[values.get((row, column), np.nan) for column in columns[1]] for row in rows[1]])
    image = axes.imshow(grid, cmap="viridis", aspect="auto")
    middle = (np.nanmin(grid) + np.nanmax(grid)) / 2
    legible = width <= MAX_INCHES and height <= MAX_INCHES  # otherwise the numbers would overlap
    for (row, column), value in np.ndenumerate(grid):
        if legible and not np.isnan(value):
            best = value == np.nanmax(grid)
            axes.text(
                column,
                row,
                f"{value:.1f}",
                ha="center",
                va="center",
                color="black" if value > middle else "white",
                weight="bold" if best else "normal",
            )
    axes.set_xticks(range(len(columns[1])), list(columns[1]), parse_math=False)
    axes.set_yticks(range(len(rows[1])), list(rows[1]), parse_math=False)
    axes.set_xlabel(columns[0], parse_math=False)
    axes.set_ylabel(rows[0], parse_math=False)
    figure.colorbar(image, ax=axes, label=label)
    return figure


Trials = Sequence[tuple[int, float, bool]]
"""Number, accuracy from 0 to 1, and whether the trial is complete."""


def history_plot(trials: Trials) -> Figure:
    """Draw the accuracy of every trial in the order of their numbers, and the best so far."""
    figure = Figure(figsize=(6, 4), layout="constrained")
    axes = figure.add_subplot()
    _draw_dots(axes, [float(number) for number, *_ in trials], trials)
    complete = [(number, accuracy) for number, accuracy, is_complete in trials if is_complete]
    if complete:
        best = 100 * np.maximum.accumulate([accuracy for _, accuracy in complete])
        axes.step([number for number, _ in complete], best, where="post", color=BLUE, label="best so far")
    axes.set_xlabel("trial")
    axes.legend()
    return figure


def trials_plot(
    field: str, values: Sequence[str], trials: Trials, *, order: Sequence[str] | None = None, log: bool = False
) -> Figure:
    """Draw the accuracy of every trial over the value of a setting.

    Args:
        field: the setting.
        values: one per trial.
        trials: in the same order.
        order: all values, if they are not numbers.
        log: whether their axis is logarithmic.
    """
    figure = Figure(figsize=(6, 4), layout="constrained")
    axes = figure.add_subplot()
    _draw_dots(axes, [float(order.index(value)) if order else float(value) for value in values], trials)
    if order:
        axes.set_xticks(range(len(order)), list(order), parse_math=False)
    if log:
        axes.set_xscale("log")
    axes.set_xlabel(field, parse_math=False)
    axes.legend()
    return figure


def _draw_dots(axes: Axes, x: Sequence[float], trials: Trials) -> None:
    for is_complete, label, marker, color in ((True, "complete", "o", BLUE), (False, "pruned", "x", GRAY)):
        dots = [
            (value, 100 * accuracy)
            for value, (_, accuracy, complete) in zip(x, trials, strict=True)
            if complete is is_complete
        ]
        if dots:
            axes.plot(*zip(*dots, strict=True), marker, color=color, alpha=0.8, label=label)
    axes.set_ylabel("validation accuracy, %")
    axes.grid(alpha=0.3)
