"""Plots of accuracy over the values of one or two settings."""

# matplotlib types many of its arguments loosely.
# pyright: reportUnknownMemberType=false
from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.figure import Figure

from scmrl.plots.style import MEDIUM_BLUE, MEDIUM_GRAY
from scmrl.study.sensitivity.response import ResponseCurve

MAX_INCHES = 24.0
"""Largest side of a heat map; a larger one has no numbers."""


def response_plot(curve: ResponseCurve, base_value: str) -> Figure:
    """Draw accuracy over the values of a setting: mean over seeds, a band of one standard deviation, a dot per seed.

    Args:
        curve: of one setting; its axis is logarithmic if the numbers span more than a factor of 30.
        base_value: the experiment's own value, which is marked if the curve includes it.
    """
    figure = Figure(figsize=(6, 4), layout="constrained")
    axes = figure.add_subplot()
    x: list[float] = curve.numbers or [float(index) for index in range(len(curve.values))]
    for split, color, marker in (("validation", MEDIUM_BLUE, "o"), ("test", MEDIUM_GRAY, "s")):
        summaries = curve.summaries("test" if split == "test" else "validation")
        mean = 100 * np.array([summary.mean for summary in summaries])
        deviation = 100 * np.array([summary.std for summary in summaries])
        axes.fill_between(x, mean - deviation, mean + deviation, color=color, alpha=0.18, linewidth=0)
        axes.plot(x, mean, f"-{marker}", color=color, label=split, markersize=5)
        for value, by_split in zip(x, curve.accuracies.values(), strict=True):
            seeds = by_split["test" if split == "test" else "validation"]
            axes.plot([value] * len(seeds), 100 * np.asarray(seeds), ".", color=color, alpha=0.4, markersize=4)
    if base_value in curve.values:
        axes.axvline(x[curve.values.index(base_value)], color=MEDIUM_GRAY, linestyle=":", label=f"base: {base_value}")
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
