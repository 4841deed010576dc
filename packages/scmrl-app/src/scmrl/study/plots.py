"""The pictures of studies."""

# matplotlib types many of its arguments loosely.
# pyright: reportUnknownMemberType=false
from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.figure import Figure

BLUE, GREY = "#3b78c3", "#8a8f98"
"""Of middling brightness, so that they show on white and on black."""


def accuracy_plot(accuracies: Mapping[str, Sequence[float]], label: str) -> Figure:
    """A dot for each seed and a bar at their mean, one line a variant, in the order given.

    Args:
        accuracies: by variant, shares of 0 to 1, one for each seed.
        label: of the axis of per cent.
    """
    figure = Figure(figsize=(7, 0.9 + 0.34 * max(1, len(accuracies))), layout="constrained")
    axes = figure.add_subplot()
    best = max((float(np.mean(values)) for values in accuracies.values()), default=0.0)
    for row, values in enumerate(accuracies.values()):
        mean = float(np.mean(values))
        colour = BLUE if mean == best else GREY
        axes.plot(100 * np.asarray(values), [row] * len(values), "o", color=colour, alpha=0.55, markersize=6)
        axes.plot([100 * mean] * 2, [row - 0.32, row + 0.32], "-", color=colour, linewidth=2.5)
    axes.set_yticks(range(len(accuracies)), list(accuracies))
    axes.set_ylim(len(accuracies) - 0.5, -0.5)
    axes.set_xlabel(label)
    axes.grid(axis="x", alpha=0.3)
    for side in ("top", "right", "left"):
        axes.spines[side].set_visible(False)
    axes.tick_params(axis="y", length=0)
    return figure
