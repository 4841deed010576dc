"""Draw the figures of a run as PNG files.

Figures are made with matplotlib's objects alone: nothing here touches pyplot, so drawing changes no global state and
needs no display. The colors are those of Okabe and Ito, which stay apart for the color-blind and in print.
"""

# matplotlib leaves the keyword arguments of its methods untyped.
# pyright: reportUnknownMemberType=false

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator
from numpy.typing import NDArray

from scmrl.console.tables import one_line
from scmrl.engine.diagnostics import SILENT
from scmrl.report.layer_names import layer_name
from scmrl.run_folder.atomic import atomic_write

DPI = 150
BLUE, SKY, ORANGE, GREEN = "#0072B2", "#56B4E9", "#D55E00", "#009E73"
GRAY, LIGHT = "#666666", "#E4E4E4"
MOST_MARKERS = 30
"""Epochs up to which each is marked on its line."""
LONGEST = 30
"""Characters up to which a class's name is written out beside its row and column."""
MOST_NUMBERS = 25
"""Classes up to which the cells of a confusion matrix carry their counts."""
MOST_NAMES = 50
"""Classes up to which each has its name beside the matrix; of more, every second, fifth and so on has."""
MOST_CELLS = 500
"""Rows and columns up to which a cell of the picture is one pair of classes; of more, neighbors are added up."""
MOST_BARS = 40
"""Layers that a figure of bars shows; of more, those that stand out most."""


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
    FigureCanvasAgg(figure)
    with atomic_write(path) as part:
        path.parent.mkdir(parents=True, exist_ok=True)
        figure.savefig(part, dpi=DPI, format="png", facecolor="white")
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
            axes.axvline(best_epoch, color=GRAY, linewidth=1, linestyle=":", zorder=1) for axes in (loss, accuracy)
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
    """The figure of `plot_confusion`: the color is the share of the true class, the number is the count."""
    size = len(classes)
    if size == 0 or len(matrix) != size or any(len(row) != size for row in matrix):
        raise ValueError(f"the confusion matrix must have a row and a column for each of the {size} classes")
    counts = np.asarray(matrix, dtype=np.int64)
    together = math.ceil(size / MOST_CELLS)  # classes a cell
    if together > 1:
        title += f"\n{size:,} classes, {together} by {together} a cell, in their order"
    shares = class_shares(counts, together)
    step = _every(size)
    named = range(0, size, step)
    edge = 3.2 + (0.4 if size <= MOST_NUMBERS else 0.2) * min(size, MOST_NAMES)
    figure = Figure(figsize=(edge + 0.9, edge), layout=layout())
    axes = figure.add_subplot()
    # Cells are where the indices of their classes are, however many classes are added up in one.
    span = (-0.5, together * len(shares) - 0.5, together * len(shares) - 0.5, -0.5)
    image = axes.imshow(shares, cmap="Blues", vmin=0, vmax=100, extent=span)
    small = 8 if size <= MOST_NUMBERS else 6.5
    slant = 40 if size <= 10 else 90
    names = [shortened(classes[at]) for at in named]
    if step > 1:
        title += f"\none of {step} class names is shown"
    # Names of classes come from files: a dollar in them is no formula.
    axes.set_xticks(
        named,
        names,
        fontsize=small,
        rotation=slant,
        ha="right",
        va="center",
        rotation_mode="anchor",
        parse_math=False,
    )
    axes.set_yticks(named, names, fontsize=small, parse_math=False)
    axes.set_xlabel("predicted class")
    axes.set_ylabel("true class")
    axes.set_title(title, fontsize=11, wrap=True)
    axes.tick_params(length=0, pad=6)
    if size <= MOST_NUMBERS:
        for (row, column), count in np.ndenumerate(counts):
            ink = "white" if shares[row, column] > 55 else "black" if count else GRAY
            axes.text(column, row, str(count), ha="center", va="center", color=ink, fontsize=small)
    # An inset is as tall as the matrix, whatever the labels take.
    bar = figure.colorbar(image, cax=axes.inset_axes((1.03, 0, max(0.025, 0.06 - 0.004 * size), 1)))
    bar.set_label("share of the true class (%)")
    return figure


def class_shares(counts: NDArray[np.int64], together: int = 1) -> NDArray[np.float64]:
    """Shares of the true class in per cent, from a confusion matrix [K, K], neighboring classes added up."""
    if together > 1:
        more = -len(counts) % together
        blocks = np.pad(counts, ((0, more), (0, more))).reshape(
            (len(counts) + more) // together, together, (len(counts) + more) // together, together
        )
        counts = blocks.sum((1, 3))
    return 100 * counts / np.maximum(1, counts.sum(1, keepdims=True))


def _every(size: int) -> int:
    """The step of 1, 2, 5, 10, 20 ... at which names of that many classes fit beside a matrix."""
    steps = (factor * 10**power for power in range(12) for factor in (1, 2, 5))
    return next(step for step in steps if size <= step * MOST_NAMES)


def shortened(name: str) -> str:
    """The name of a class as a figure shows it, on one line and cut where it is long."""
    name = one_line(name)
    return name if len(name) <= LONGEST else f"{name[: LONGEST - 1]}…"


def rates_figure(first: Mapping[str, float], last: Mapping[str, float]) -> Figure:
    """The figure of `plot_rates`: bars on a linear axis, which ends where the highest rate does.

    Of very many layers, those with the lowest and the highest rates are shown.
    """
    layers = list({**first, **last})
    if not layers:
        raise ValueError("there is no layer to draw; record firing rates before drawing them")
    count, newest = len(layers), {**first, **last}
    if count > MOST_BARS:
        ranked = sorted(layers, key=lambda layer: newest[layer])
        drawn = {*ranked[: MOST_BARS // 2], *ranked[-(MOST_BARS // 2) :]}
        layers = [layer for layer in layers if layer in drawn]
    names = [layer_name(layer) for layer in layers]
    silent = 100 * SILENT
    figure = Figure(figsize=(8.5, 2.0 + 0.5 * len(layers)), layout=layout())
    axes = figure.add_subplot()
    most = max(100 * rates[layer] for rates in (first, last) for layer in layers if layer in rates)
    axes.set_xlim(0, max(1.18 * most, 5 * silent))  # room for the numbers behind the bars
    axes.set_ylim(len(layers) - 0.4, -0.6)
    for rates, offset, label, color in (
        (first, -0.2, "at the first training step", SKY),
        (last, 0.2, "at the last one", BLUE),
    ):
        places = [place + offset for place, layer in enumerate(layers) if layer in rates]
        values = [100 * rates[layer] for layer in layers if layer in rates]
        bars = axes.barh(places, values, height=0.36, label=label, color=color)
        labels = [percent(value) + (", silent" if value < silent else "") for value in values]
        axes.bar_label(bars, labels, padding=3, fontsize=8)
    # Names of modalities come from files: a dollar in them is no formula.
    axes.set_yticks(range(len(layers)), names, parse_math=False)
    axes.set_xlabel("firing rate: share of neurons and time steps with a spike (%)")
    axes.grid(axis="x", color=LIGHT, linewidth=0.6)
    axes.tick_params(axis="y", length=0)
    clean(axes)
    title = "Firing rates of the layers by which modalities read each other"
    if count > len(layers):
        title += f"\n{len(layers)} of {count} layers, the lowest and the highest rates; all are in summary.json"
    figure.suptitle(title, fontsize=11)
    figure.legend(loc="outside lower center", ncols=2, frameon=False)
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
