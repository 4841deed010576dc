"""Plot of accuracies by variant."""

# matplotlib types many of its arguments loosely.
# pyright: reportUnknownMemberType=false
from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.figure import Figure

from scmrl.console.tables import first_and_last
from scmrl.plots.style import MEDIUM_BLUE, MEDIUM_GRAY

MAX_ROWS = 60
"""Number of variants to draw; if there are more, the best and the worst."""


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
        color = MEDIUM_BLUE if mean == best else MEDIUM_GRAY
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
