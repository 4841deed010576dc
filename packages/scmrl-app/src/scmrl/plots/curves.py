"""Curves with a band over seeds, such as accuracy over the strength of a disturbance or the number of samples."""

# matplotlib types many of its arguments loosely.
# pyright: reportUnknownMemberType=false
from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import NullLocator
from numpy.typing import NDArray

from scmrl.plots.style import CURVE_COLORS, CURVE_MARKERS, MEDIUM_GRAY


@dataclass(frozen=True, eq=False)
class Curve:
    """One line, with a band of one standard deviation on either side."""

    label: str
    x: Sequence[float]
    y: Sequence[NDArray[np.float64]]
    """One array per seed, as long as `x`."""
    color: int
    """Index of color and marker."""
    dashed: bool = False
    detached_first: bool = False
    """Whether the first point is off the scale of the others and drawn detached."""


@dataclass(frozen=True, eq=False)
class Panel:
    """Curves on the same axes."""

    title: str
    curves: Sequence[Curve]
    label: str = "test accuracy, %"
    """Of the vertical axis."""
    factor: float = 100.0
    """Multiplies the values."""


def curves_plot(
    panels: Sequence[Panel],
    label: str,
    *,
    ticks: Mapping[float, str] | None = None,
    reverse: bool = False,
    logarithmic: bool = False,
    chance: float | None = None,
    columns: int = 3,
    from_zero: bool = False,
) -> Figure:
    """Draw panels side by side with one legend.

    Args:
        panels: one or more; panels with the same label share the range of the vertical axis.
        label: of the horizontal axis.
        ticks: positions and labels of its ticks; None: chosen by matplotlib.
        reverse: whether the horizontal axis runs from high to low.
        logarithmic: whether it is logarithmic.
        chance: accuracy of always predicting the most frequent class, drawn as a dotted line.
        columns: number of panels per row.
        from_zero: whether vertical axes start at 0.
    """
    columns = min(len(panels), columns)
    rows = -(-len(panels) // columns)
    figure = Figure(figsize=(max(5.0, 3.6 * columns + 0.6), 3.1 * rows + 0.7), layout="constrained")
    shared: dict[str, Axes] = {}
    for index, panel in enumerate(panels, 1):
        axes = figure.add_subplot(rows, columns, index, sharey=shared.get(panel.label))
        shared.setdefault(panel.label, axes)
        for curve in panel.curves:
            _draw(axes, curve, panel.factor)
        if chance is not None:
            axes.axhline(
                panel.factor * chance, color=MEDIUM_GRAY, linestyle=":", linewidth=1.2, label="most frequent class"
            )
        if logarithmic:
            axes.set_xscale("log")
        if ticks is not None:
            axes.set_xticks(list(ticks), list(ticks.values()), fontsize=8)
            axes.xaxis.set_minor_locator(NullLocator())
        if reverse:
            axes.invert_xaxis()
        if from_zero:
            axes.set_ylim(bottom=0)
        # Names come from files: a dollar in them must not start a formula.
        axes.set_title(panel.title, fontsize=10, parse_math=False)
        axes.set_xlabel(label)
        axes.set_ylabel(panel.label)
        axes.grid(alpha=0.3)
        for side in ("top", "right"):
            axes.spines[side].set_visible(False)
    entries = {
        text: handle for axes in figure.axes for handle, text in zip(*axes.get_legend_handles_labels(), strict=True)
    }
    legend = figure.legend(
        list(entries.values()), list(entries), loc="outside lower center", ncols=min(4, len(entries)), frameon=False
    )
    for text in legend.get_texts():
        text.set_parse_math(False)
    return figure


def _draw(axes: Axes, curve: Curve, factor: float) -> None:
    x, y = np.asarray(curve.x, np.float64), factor * np.stack(curve.y)
    mean = y.mean(0)
    color, marker = (
        CURVE_COLORS[curve.color % len(CURVE_COLORS)],
        CURVE_MARKERS[(curve.color + curve.color // len(CURVE_COLORS)) % len(CURVE_MARKERS)],
    )
    style = "--" if curve.dashed else "-"
    face = "white" if curve.dashed else color
    if curve.detached_first:
        axes.plot(x[:2], mean[:2], ":", color=color, linewidth=1.0)
    line = slice(1, None) if curve.detached_first else slice(None)
    axes.plot(x[line], mean[line], style, color=color, linewidth=1.6)
    axes.plot(x, mean, marker, color=color, markerfacecolor=face, markersize=4.5)
    axes.plot([], [], style, color=color, marker=marker, markerfacecolor=face, markersize=4.5, label=curve.label)
    if len(y) > 1:
        deviation = y.std(0, ddof=1)
        axes.fill_between(
            x[line], (mean - deviation)[line], (mean + deviation)[line], color=color, alpha=0.13, linewidth=0
        )
        if curve.detached_first:
            axes.errorbar(x[:1], mean[:1], deviation[:1], color=color, capsize=2, linewidth=1)
