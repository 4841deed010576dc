"""The drawings of a page: thin lines in colors that stay apart on white and on black paper, and keys for them."""

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
from matplotlib.ticker import MaxNLocator

from scmrl.report.figures import BLUE, GREEN, MOST_CELLS, ORANGE, class_shares, clean, layout
from scmrl.report.svg import data_address, inline

PURPLE = "#B8659A"
COLORS = (BLUE, ORANGE, GREEN, PURPLE)
"""Each has a contrast of at least 3 to white and to the page's dark paper."""
DASHES = ("", "5 2", "1.5 1.5")
"""Lines differ in both, so that twelve can be told apart, and neither two that meet nor their colors matter."""
FAINT = "#808080"
SIZE = (4.6, 2.9)
"""Inches; on a phone a figure is as wide as the window, and its labels stay legible."""
MOST_MARKERS = 30

History = Sequence[Mapping[str, float]]


@dataclass(frozen=True)
class Key:
    """What a line means."""

    label: str
    color: str
    dash: str


@dataclass(frozen=True)
class Drawing:
    """A figure with what has to be said below it."""

    title: str
    svg: Markup
    keys: tuple[Key, ...]


def learning_curves(history: History, best_epoch: int | None, *, beside: str, name: str) -> list[Drawing]:
    """Loss and accuracy by epoch, and the alignment loss where anything was aligned.

    Args:
        history: one mapping an epoch, as metrics.jsonl holds it.
        best_epoch: the epoch whose weights were kept; marked by a line.
        beside: what the split is called that selected the epoch.
        name: unique in the page.
    """
    both = (("train", "training"), ("val", beside))
    drawings = [
        lines(
            [(label, history, f"{split}_{quantity}") for split, label in both],
            quantity,
            best_epoch,
            name=f"{name}-{quantity}",
        )
        for quantity in ("loss", "accuracy")
    ]
    if any(row.get("alignment_loss", 0) for row in history):
        drawings.append(
            lines([("training", history, "alignment_loss")], "alignment loss", best_epoch, name=f"{name}-alignment")
        )
    return drawings


def lines(series: Sequence[tuple[str, History, str]], quantity: str, mark: int | None, *, name: str) -> Drawing:
    """One quantity of one or several histories against the epoch; accuracy in per cent.

    Args:
        series: label, history, and which of its numbers to draw.
        quantity: what it is.
        mark: an epoch to mark by a line, or None.
        name: unique in the page.
    """
    figure = Figure(figsize=SIZE, layout=layout())
    axes = figure.add_subplot()
    scale = 100 if quantity.endswith("accuracy") else 1
    epochs = [row["epoch"] for _, history, _ in series for row in history]
    keys: list[Key] = []
    for place, (label, history, field) in enumerate(series):
        key = Key(label, COLORS[place % len(COLORS)], DASHES[place % len(DASHES)])
        dash = tuple(map(float, key.dash.split()))
        axes.plot(
            [row["epoch"] for row in history],
            [scale * row.get(field, math.nan) for row in history],
            color=key.color,
            linestyle=(0, dash) if dash else "-",
            linewidth=1.6,
            marker="o" if len(history) <= MOST_MARKERS else "",
            markersize=3.5,
        )
        keys.append(key)
    if mark is not None:
        axes.axvline(mark, color=FAINT, linewidth=1, linestyle=(0, (1.5, 1.5)), zorder=1)
        keys.append(Key(f"selected epoch ({mark})", FAINT, DASHES[2]))
    beside = max(0.5, 0.02 * (max(epochs) - min(epochs)))
    axes.set_xlim(min(epochs) - beside, max(epochs) + beside)
    if scale == 100:
        axes.set_ylim(0, 102)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1, steps=[1, 2, 5, 10]))
    axes.set_xlabel("epoch")
    axes.set_ylabel(f"{quantity} (%)" if scale == 100 else quantity)
    axes.grid(color=FAINT, alpha=0.25, linewidth=0.6)
    clean(axes)
    return Drawing(quantity, inline(figure, name=name, alt=_told(series, quantity, scale)), tuple(keys))


def confusion_picture(matrix: Sequence[Sequence[int]]) -> str:
    """A confusion matrix that is too large for a table, as the address of a PNG file with one pixel a cell.

    Beyond 500 classes a pixel adds up neighboring ones.

    True classes go down and predicted ones across, in order; the darker, the larger the share of the true class. Darker
    means on white: a dark page turns it round.
    """
    shares = class_shares(np.array(matrix, dtype=np.int64), math.ceil(len(matrix) / MOST_CELLS))
    written = io.BytesIO()
    imsave(written, shares, cmap="Blues", vmin=0, vmax=100, format="png")
    return data_address(written.getvalue(), "image/png")


def _told(series: Sequence[tuple[str, History, str]], quantity: str, scale: int) -> str:
    """The figure in words: where each line begins and ends."""
    unit = " %" if scale == 100 else ""
    parts = [
        f"{label} from {scale * history[0].get(field, math.nan):.4g}{unit} in epoch {history[0]['epoch']:.0f} "
        f"to {scale * history[-1].get(field, math.nan):.4g}{unit} in epoch {history[-1]['epoch']:.0f}"
        for label, history, field in series
    ]
    return f"{quantity} by epoch: " + "; ".join(parts)
