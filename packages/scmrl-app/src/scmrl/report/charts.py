"""Line charts and confusion matrix images for the HTML report, in colors that are legible on white and on black."""

# matplotlib leaves the keyword arguments of its methods untyped.
# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false
from __future__ import annotations

import io
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from markupsafe import Markup
from matplotlib.figure import Figure
from matplotlib.image import imsave

from scmrl.plots.run_figures import MAX_CELLS, MAX_MARKERS, row_percentages, set_epoch_axis
from scmrl.plots.style import BLUE, GREEN, ORANGE, clean, layout
from scmrl.plots.svg import data_url, inline_svg

PURPLE = "#B8659A"
COLORS = (BLUE, ORANGE, GREEN, PURPLE)
"""Each has a contrast of at least 3 to white and to the dark background of the page."""
DASHES = ("", "5 2", "1.5 1.5")
"""Lines differ in color and dash, so that twelve can be distinguished."""
FAINT = "#808080"
SIZE = (4.6, 2.9)
"""Inches; small enough that labels stay legible when the figure fills a phone's screen."""

History = Sequence[Mapping[str, float]]


@dataclass(frozen=True)
class LegendEntry:
    """The label, color and dash of one line."""

    label: str
    color: str
    dash: str


@dataclass(frozen=True)
class LineChart:
    """A figure with its legend, which the page shows below it."""

    title: str
    svg: Markup
    legend: tuple[LegendEntry, ...]


def learning_curves(history: History, best_epoch: int | None, *, validation: str, name: str) -> list[LineChart]:
    """Plot loss and accuracy by epoch, and the alignment loss if there is one.

    Args:
        history: one mapping per epoch, as in metrics.jsonl.
        best_epoch: selected epoch; marked by a vertical line.
        validation: label of the split that selected the epoch.
        name: prefix of the identifiers in the SVG; unique in the page.
    """
    splits = (("train", "training"), ("val", validation))
    charts = [
        line_chart(
            [(label, history, f"{split}_{quantity}") for split, label in splits],
            quantity,
            best_epoch,
            name=f"{name}-{quantity}",
        )
        for quantity in ("loss", "accuracy")
    ]
    if any(row.get("alignment_loss", 0) for row in history):
        series = [("training", history, "alignment_loss")]
        charts.append(line_chart(series, "alignment loss", best_epoch, name=f"{name}-alignment"))
    return charts


def line_chart(
    series: Sequence[tuple[str, History, str]], quantity: str, marked_epoch: int | None, *, name: str
) -> LineChart:
    """Plot one quantity of one or several histories against the epoch; accuracy in percent.

    Args:
        series: label, history, and the field of the history to plot.
        quantity: name of the quantity.
        marked_epoch: epoch to mark by a vertical line, or None.
        name: prefix of the identifiers in the SVG; unique in the page.
    """
    figure = Figure(figsize=SIZE, layout=layout())
    axes = figure.add_subplot()
    scale = 100 if quantity.endswith("accuracy") else 1
    epochs = [row["epoch"] for _, history, _ in series for row in history]
    legend: list[LegendEntry] = []
    for number, (label, history, field) in enumerate(series):
        entry = LegendEntry(label, COLORS[number % len(COLORS)], DASHES[number % len(DASHES)])
        dash = tuple(map(float, entry.dash.split()))
        axes.plot(
            [row["epoch"] for row in history],
            [scale * row.get(field, math.nan) for row in history],
            color=entry.color,
            linestyle=(0, dash) if dash else "-",
            linewidth=1.6,
            marker="o" if len(history) <= MAX_MARKERS else "",
            markersize=3.5,
        )
        legend.append(entry)
    if marked_epoch is not None:
        axes.axvline(marked_epoch, color=FAINT, linewidth=1, linestyle=(0, (1.5, 1.5)), zorder=1)
        legend.append(LegendEntry(f"selected epoch ({marked_epoch})", FAINT, DASHES[2]))
    set_epoch_axis(axes, epochs)
    if scale == 100:
        axes.set_ylim(0, 102)
    axes.set_ylabel(f"{quantity} (%)" if scale == 100 else quantity)
    axes.grid(color=FAINT, alpha=0.25, linewidth=0.6)
    clean(axes)
    return LineChart(quantity, inline_svg(figure, name=name, alt=_alt_text(series, quantity, scale)), tuple(legend))


def confusion_image(matrix: Sequence[Sequence[int]]) -> str:
    """Return a confusion matrix as the data URL of a PNG with one pixel per cell, for matrices too large for a table.

    Rows are true classes, columns predicted classes; darker means a larger share of the true class. Beyond 500 classes
    neighboring classes share a pixel. The page inverts the image in dark mode.
    """
    percentages = row_percentages(np.array(matrix, dtype=np.int64), math.ceil(len(matrix) / MAX_CELLS))
    png = io.BytesIO()
    imsave(png, percentages, cmap="Blues", vmin=0, vmax=100, format="png")
    return data_url(png.getvalue(), "image/png")


def _alt_text(series: Sequence[tuple[str, History, str]], quantity: str, scale: int) -> str:
    """Describe the chart in words: the first and the last value of each line."""
    unit = " %" if scale == 100 else ""
    parts = [
        f"{label} from {scale * history[0].get(field, math.nan):.4g}{unit} in epoch {history[0]['epoch']:.0f} "
        f"to {scale * history[-1].get(field, math.nan):.4g}{unit} in epoch {history[-1]['epoch']:.0f}"
        for label, history, field in series
    ]
    return f"{quantity} by epoch: " + "; ".join(parts)
