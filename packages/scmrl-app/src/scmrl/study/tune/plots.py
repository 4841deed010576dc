"""Plots of the trials of a search."""

# matplotlib types many of its arguments loosely.
# pyright: reportUnknownMemberType=false
from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from scmrl.plots.style import MEDIUM_BLUE, MEDIUM_GRAY

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
        axes.step([number for number, _ in complete], best, where="post", color=MEDIUM_BLUE, label="best so far")
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
    for is_complete, label, marker, color in (
        (True, "complete", "o", MEDIUM_BLUE),
        (False, "pruned", "x", MEDIUM_GRAY),
    ):
        dots = [
            (value, 100 * accuracy)
            for value, (_, accuracy, complete) in zip(x, trials, strict=True)
            if complete is is_complete
        ]
        if dots:
            axes.plot(*zip(*dots, strict=True), marker, color=color, alpha=0.8, label=label)
    axes.set_ylabel("validation accuracy, %")
    axes.grid(alpha=0.3)
