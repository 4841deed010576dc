"""Draw the figures of a run as PNG files.

Figures are made with matplotlib's objects alone: nothing here touches pyplot, so drawing changes no global state and
needs no display. The colours are those of Okabe and Ito, which stay apart for the colour-blind and in print.
"""

# matplotlib leaves the keyword arguments of its methods untyped.
# pyright: reportUnknownMemberType=false

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator, NullLocator

from scmrl.engine.rates import SILENT

DPI = 150
BLUE, SKY, ORANGE, GREEN = "#0072B2", "#56B4E9", "#D55E00", "#009E73"
GREY, LIGHT = "#666666", "#E4E4E4"
MOST_MARKERS = 30
"""Epochs up to which each is marked on its line."""
LONGEST = 30
"""Characters up to which a class's name is written out beside its row and column."""
MOST_NUMBERS = 25
"""Classes up to which the cells of a confusion matrix carry their counts."""


def plot_curves(history: Sequence[Mapping[str, float]], path: Path, *, best_epoch: int | None) -> Path:
    """Draw loss and accuracy of each epoch.

    history: one mapping an epoch, with `epoch`, `train_loss`, `val_loss`, `train_accuracy` and `val_accuracy` (0 to 1)
        and, if there is one, `alignment_loss`; what an epoch lacks leaves a gap
    best_epoch: the epoch whose weights were kept, or None
    """
    return write(curves_figure(history, best_epoch=best_epoch), path)


def plot_confusion(matrix: Sequence[Sequence[int]], classes: Sequence[str], path: Path, *, title: str) -> Path:
    """Draw how often each true class (row) was taken for each class (column)."""
    return write(confusion_figure(matrix, classes, title=title), path)


def plot_rates(first: Mapping[str, float], last: Mapping[str, float], path: Path) -> Path:
    """Draw the firing rate (0 to 1) of each layer of the cross-modal branch at the first and at the last step."""
    return write(rates_figure(first, last), path)


def write(figure: Figure, path: Path) -> Path:
    """Save a figure as a PNG file, and make its folder if need be."""
    path.parent.mkdir(parents=True, exist_ok=True)
    FigureCanvasAgg(figure)
    figure.savefig(path, dpi=DPI, format="png", facecolor="white")
    return path


def curves_figure(history: Sequence[Mapping[str, float]], *, best_epoch: int | None) -> Figure:
    """The figure of `plot_curves`: loss on the left, accuracy on the right, alignment on an axis of its own."""
    if not history:
        raise ValueError("the history is empty; train for at least one epoch before drawing it")
    figure = Figure(figsize=(10, 4), layout=layout(wspace=0.06))
    loss, accuracy = figure.add_subplot(1, 2, 1), figure.add_subplot(1, 2, 2)
    first, last = min(row["epoch"] for row in history), max(row["epoch"] for row in history)
    beside = max(0.5, 0.02 * (last - first))
    handles: list[Line2D] = []
    for axes, quantity, scale in ((accuracy, "accuracy", 100), (loss, "loss", 1)):
        handles = [
            draw_line(axes, history, f"train_{quantity}", scale, label="training", color=BLUE),
            draw_line(axes, history, f"val_{quantity}", scale, label="validation", color=ORANGE, style="--"),
        ]
        axes.set_xlabel("epoch")
        axes.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1, steps=[1, 2, 5, 10]))
        axes.set_xlim(first - beside, last + beside)
        axes.grid(color=LIGHT, linewidth=0.6)
        clean(axes)
    loss.set_ylabel("loss")
    accuracy.set_ylabel("accuracy (%)")
    accuracy.set_ylim(0, 102)
    if any("alignment_loss" in row for row in history):
        right = loss.twinx()
        name = "alignment loss (right axis)"
        handles.append(draw_line(right, history, "alignment_loss", 1, label=name, color=GREEN, width=1))
        right.set_ylabel("alignment loss", color=GREEN)
        right.tick_params(axis="y", colors=GREEN)
        right.spines["right"].set_color(GREEN)
        right.spines["top"].set_visible(False)
    if best_epoch is not None:
        marks = [
            axes.axvline(best_epoch, color=GREY, linewidth=1, linestyle=":", zorder=1) for axes in (loss, accuracy)
        ]
        marks[0].set_label(f"selected epoch ({best_epoch})")
        handles.append(marks[0])
    figure.legend(handles=handles, loc="outside lower center", ncols=len(handles), frameon=False)
    return figure


def draw_line(
    axes: Axes,
    history: Sequence[Mapping[str, float]],
    key: str,
    scale: float,
    *,
    label: str,
    color: str,
    style: str = "-",
    width: float = 1.8,
) -> Line2D:
    """Draw one quantity against the epoch; few epochs are marked, so that a single one can be seen."""
    epochs = [row["epoch"] for row in history]
    values = [scale * row.get(key, math.nan) for row in history]
    marker = "o" if len(history) <= MOST_MARKERS else ""
    (line,) = axes.plot(
        epochs, values, label=label, color=color, linestyle=style, linewidth=width, marker=marker, markersize=2 + width
    )
    return line


def confusion_figure(matrix: Sequence[Sequence[int]], classes: Sequence[str], *, title: str) -> Figure:
    """The figure of `plot_confusion`: the colour is the share of the true class, the number is the count."""
    size = len(classes)
    if size == 0 or len(matrix) != size or any(len(row) != size for row in matrix):
        raise ValueError(f"the confusion matrix must have a row and a column for each of the {size} classes")
    shares = [[100 * count / max(1, sum(row)) for count in row] for row in matrix]
    edge = 3.2 + (0.4 if size <= MOST_NUMBERS else 0.2) * size
    figure = Figure(figsize=(edge + 0.9, edge), layout=layout())
    axes = figure.add_subplot()
    image = axes.imshow(shares, cmap="Blues", vmin=0, vmax=100)
    small = 8 if size <= MOST_NUMBERS else 6.5
    slant = 40 if size <= 10 else 90
    names = [name if len(name) <= LONGEST else f"{name[: LONGEST - 1]}…" for name in classes]
    # Names of classes come from files: a dollar in them is no formula.
    axes.set_xticks(
        range(size),
        names,
        fontsize=small,
        rotation=slant,
        ha="right",
        va="center",
        rotation_mode="anchor",
        parse_math=False,
    )
    axes.set_yticks(range(size), names, fontsize=small, parse_math=False)
    axes.set_xlabel("predicted class")
    axes.set_ylabel("true class")
    axes.set_title(title, fontsize=11, wrap=True)
    axes.tick_params(length=0, pad=6)
    if size <= MOST_NUMBERS:
        for row, counts in enumerate(matrix):
            for column, count in enumerate(counts):
                ink = "white" if shares[row][column] > 55 else "black" if count else GREY
                axes.text(column, row, str(count), ha="center", va="center", color=ink, fontsize=small)
    # An inset is as tall as the matrix, whatever the labels take.
    bar = figure.colorbar(image, cax=axes.inset_axes((1.03, 0, max(0.025, 0.06 - 0.004 * size), 1)))
    bar.set_label("share of the true class (%)")
    return figure


def rates_figure(first: Mapping[str, float], last: Mapping[str, float]) -> Figure:
    """The figure of `plot_rates`; the axis is linear up to the silence line and logarithmic from there on."""
    layers = list({**first, **last})
    if not layers:
        raise ValueError("there is no layer to draw; record firing rates before drawing them")
    limit = 100 * SILENT
    figure = Figure(figsize=(8, 1.7 + 0.5 * len(layers)), layout=layout())
    axes = figure.add_subplot()
    axes.set_xscale("symlog", linthresh=limit, linscale=0.6)
    axes.set_xlim(0, 200)
    axes.set_ylim(len(layers) - 0.4, -0.6)
    axes.axvspan(0, limit, color=LIGHT, linewidth=0, zorder=0)
    for rates, offset, label, color in ((first, -0.2, "first step", SKY), (last, 0.2, "last step", BLUE)):
        places = [place + offset for place, layer in enumerate(layers) if layer in rates]
        values = [100 * rates[layer] for layer in layers if layer in rates]
        bars = axes.barh(places, values, height=0.36, label=label, color=color)
        axes.bar_label(bars, [percent(value) for value in values], padding=3, fontsize=8)
    silence = axes.axvline(limit, color=ORANGE, linestyle="--", linewidth=1.2)
    silence.set_label(f"silent below {limit:g} %")
    axes.set_yticks(range(len(layers)), layers)
    axes.set_xticks([0, limit, 1, 10, 100], ["0", f"{limit:g}", "1", "10", "100"])
    axes.xaxis.set_minor_locator(NullLocator())
    axes.set_xlabel("firing rate (%, logarithmic above the silence line)")
    clean(axes)
    figure.legend(loc="outside lower center", ncols=3, frameon=False)
    return figure


def layout(*, wspace: float = 0.02) -> ConstrainedLayoutEngine:
    """A layout that keeps text off the edge of the picture."""
    return ConstrainedLayoutEngine(w_pad=0.1, h_pad=0.1, wspace=wspace)


def percent(value: float) -> str:
    """A rate with about two digits; what is not quite zero must not look like it."""
    if 0 < value < 0.01:
        return "< 0.01 %"
    return f"{value:.{0 if value >= 10 or value == 0 else 1 if value >= 1 else 2}f} %"


def clean(axes: Axes) -> None:
    """Take the frame away where no axis is."""
    axes.spines[["top", "right"]].set_visible(False)
    axes.set_axisbelow(True)
