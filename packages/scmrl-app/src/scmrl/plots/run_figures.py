"""Draw the figures of a run."""

# matplotlib leaves the keyword arguments of its methods untyped.
# pyright: reportUnknownMemberType=false

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator
from numpy.typing import NDArray

from scmrl.engine.diagnostics import SILENT
from scmrl.plots.labels import format_percent, layer_name, short_name
from scmrl.plots.style import BLUE, GRAY, GREEN, LIGHT, ORANGE, SKY, clean, layout

MAX_MARKERS = 30
"""Number of epochs up to which each has a marker."""
MAX_NUMBERS = 25
"""Number of classes up to which the cells of a confusion matrix show their counts."""
MAX_NAMES = 50
"""Number of classes up to which each is labeled; beyond, every second, fifth and so on."""
MAX_CELLS = 500
"""Rows and columns up to which a cell is one pair of classes; beyond, neighboring classes are summed."""
MAX_BARS = 40
"""Layers in a bar chart; of more, the most extreme ones are shown."""


def curves_figure(history: Sequence[Mapping[str, float]], *, best_epoch: int | None) -> Figure:
    """Draw loss (left) and accuracy (right) of each epoch, and the alignment loss on a separate axis.

    Args:
        history: one mapping per epoch, with `epoch`, `train_loss`, `val_loss`, `train_accuracy` and `val_accuracy` (0
            to 1) and, if there is one, `alignment_loss`; a missing value leaves a gap.
        best_epoch: the selected epoch, or None.
    """
    if not history:
        raise ValueError("the history is empty; train for at least one epoch before drawing it")
    figure = Figure(figsize=(10, 4), layout=layout(wspace=0.06))
    loss, accuracy = figure.add_subplot(1, 2, 1), figure.add_subplot(1, 2, 2)
    epochs = [row["epoch"] for row in history]
    handles: list[Line2D] = []
    for axes, quantity, scale in ((accuracy, "accuracy", 100), (loss, "loss", 1)):
        handles = [
            draw_line(axes, history, f"train_{quantity}", scale, label="training", color=BLUE),
            draw_line(axes, history, f"val_{quantity}", scale, label="validation", color=ORANGE, style="--"),
        ]
        set_epoch_axis(axes, epochs)
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


def set_epoch_axis(axes: Axes, epochs: Sequence[float]) -> None:
    """Label the x axis, with ticks at integers and a margin."""
    margin = max(0.5, 0.02 * (max(epochs) - min(epochs)))
    axes.set_xlabel("epoch")
    axes.set_xlim(min(epochs) - margin, max(epochs) + margin)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1, steps=[1, 2, 5, 10]))


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
    """Draw one quantity against the epoch, with markers if there are few epochs: one epoch alone makes no line."""
    epochs = [row["epoch"] for row in history]
    values = [scale * row.get(key, math.nan) for row in history]
    marker = "o" if len(history) <= MAX_MARKERS else ""
    (line,) = axes.plot(
        epochs, values, label=label, color=color, linestyle=style, linewidth=width, marker=marker, markersize=2 + width
    )
    return line


def confusion_figure(matrix: Sequence[Sequence[int]], classes: Sequence[str], *, title: str) -> Figure:
    """Draw counts of true classes (rows) by predicted classes (columns); colors are fractions of the true class."""
    size = len(classes)
    if size == 0 or len(matrix) != size or any(len(row) != size for row in matrix):
        raise ValueError(f"the confusion matrix must have a row and a column for each of the {size} classes")
    counts = np.asarray(matrix, dtype=np.int64)
    block = math.ceil(size / MAX_CELLS)  # classes per cell
    if block > 1:
        title += f"\n{size:,} classes, {block} by {block} per cell, in the order of the dataset"
    percentages = row_percentages(counts, block)
    step = _label_step(size)
    labeled = range(0, size, step)
    edge = 3.2 + (0.4 if size <= MAX_NUMBERS else 0.2) * min(size, MAX_NAMES)
    figure = Figure(figsize=(edge + 0.9, edge), layout=layout())
    axes = figure.add_subplot()
    # Axes count classes, also if a cell sums several.
    end = block * len(percentages) - 0.5
    extent = (-0.5, end, end, -0.5)
    image = axes.imshow(percentages, cmap="Blues", vmin=0, vmax=100, extent=extent)
    small = 8 if size <= MAX_NUMBERS else 6.5
    rotation = 40 if size <= 10 else 90
    names = [short_name(classes[index]) for index in labeled]
    if step > 1:
        title += f"\none of {step} class names is shown"
    # Class names come from files: a dollar sign must not start a formula.
    axes.set_xticks(
        labeled,
        names,
        fontsize=small,
        rotation=rotation,
        ha="right",
        va="center",
        rotation_mode="anchor",
        parse_math=False,
    )
    axes.set_yticks(labeled, names, fontsize=small, parse_math=False)
    axes.set_xlabel("predicted class")
    axes.set_ylabel("true class")
    axes.set_title(title, fontsize=11, wrap=True)
    axes.tick_params(length=0, pad=6)
    if size <= MAX_NUMBERS:
        for (row, column), count in np.ndenumerate(counts):
            color = "white" if percentages[row, column] > 55 else "black" if count else GRAY
            axes.text(column, row, str(count), ha="center", va="center", color=color, fontsize=small)
    # An inset is as tall as the matrix, whatever space the labels take.
    bar = figure.colorbar(image, cax=axes.inset_axes((1.03, 0, max(0.025, 0.06 - 0.004 * size), 1)))
    bar.set_label("share of the true class (%)")
    return figure


def row_percentages(counts: NDArray[np.int64], block: int = 1) -> NDArray[np.float64]:
    """Return the percentage of each row in a confusion matrix [K, K]; blocks of neighboring classes are summed."""
    if block > 1:
        padding = -len(counts) % block
        size = (len(counts) + padding) // block
        counts = np.pad(counts, ((0, padding), (0, padding))).reshape(size, block, size, block).sum((1, 3))
    return 100 * counts / np.maximum(1, counts.sum(1, keepdims=True))


def _label_step(size: int) -> int:
    """Return the smallest step among 1, 2, 5, 10, 20 ... at which the class names fit beside a matrix."""
    steps = (factor * 10**power for power in range(12) for factor in (1, 2, 5))
    return next(step for step in steps if size <= step * MAX_NAMES)


def rates_figure(first: Mapping[str, float], last: Mapping[str, float]) -> Figure:
    """Draw the firing rate (0 to 1) of each layer of the cross-modal branch at the first and the last training step.

    The linear axis ends at the highest rate. Of more than 40 layers, those with the lowest and the highest rates are
    shown.
    """
    layers = list({**first, **last})
    if not layers:
        raise ValueError("no layer to draw; record firing rates before drawing them")
    count, latest = len(layers), {**first, **last}
    if count > MAX_BARS:
        ranked = sorted(layers, key=lambda layer: latest[layer])
        drawn = {*ranked[: MAX_BARS // 2], *ranked[-(MAX_BARS // 2) :]}
        layers = [layer for layer in layers if layer in drawn]
    names = [layer_name(layer) for layer in layers]
    silent = 100 * SILENT
    figure = Figure(figsize=(8.5, 2.0 + 0.5 * len(layers)), layout=layout())
    axes = figure.add_subplot()
    most = max(100 * rates[layer] for rates in (first, last) for layer in layers if layer in rates)
    axes.set_xlim(0, max(1.18 * most, 5 * silent))  # space for the numbers right of the bars
    axes.set_ylim(len(layers) - 0.4, -0.6)
    for rates, offset, label, color in (
        (first, -0.2, "at the first training step", SKY),
        (last, 0.2, "at the last training step", BLUE),
    ):
        positions = [row + offset for row, layer in enumerate(layers) if layer in rates]
        values = [100 * rates[layer] for layer in layers if layer in rates]
        bars = axes.barh(positions, values, height=0.36, label=label, color=color)
        labels = [format_percent(value) + (", silent" if value < silent else "") for value in values]
        axes.bar_label(bars, labels, padding=3, fontsize=8)
    # Modality names come from files: a dollar sign must not start a formula.
    axes.set_yticks(range(len(layers)), names, parse_math=False)
    axes.set_xlabel("firing rate: share of neurons and time steps with a spike (%)")
    axes.grid(axis="x", color=LIGHT, linewidth=0.6)
    axes.tick_params(axis="y", length=0)
    clean(axes)
    title = "Firing rates of the cross-modal branch"
    if count > len(layers):
        title += f"\n{len(layers)} of {count} layers, with the lowest and the highest rates; all are in summary.json"
    figure.suptitle(title, fontsize=11)
    figure.legend(loc="outside lower center", ncols=2, frameon=False)
    return figure
