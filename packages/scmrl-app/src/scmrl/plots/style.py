"""Colors and layout of all figures.

Nothing here uses pyplot, so drawing changes no global state and needs no display.
"""

from __future__ import annotations

from matplotlib.axes import Axes
from matplotlib.layout_engine import ConstrainedLayoutEngine

DPI = 150
BLUE, SKY, ORANGE, GREEN = "#0072B2", "#56B4E9", "#D55E00", "#009E73"
"""Okabe and Ito's colors, distinguishable for the color-blind and in print."""
GRAY, LIGHT = "#666666", "#E4E4E4"
MEDIUM_BLUE, MEDIUM_GRAY = "#3b78c3", "#8a8f98"
"""Of medium brightness, so that they are visible on white and on black."""
CURVE_COLORS = ("#3b78c3", "#d5722b", "#2f9e6e", "#b3589a", "#a08a2c", "#4fa9c9", "#c2534f", "#7a7f88")
"""Of medium brightness, and distinct for the color-blind."""
CURVE_MARKERS = "os^Dvph*"


def layout(*, wspace: float = 0.02) -> ConstrainedLayoutEngine:
    """Return a layout with padding at the edge of the figure."""
    return ConstrainedLayoutEngine(w_pad=0.1, h_pad=0.1, wspace=wspace)


def clean(axes: Axes) -> None:
    """Hide the top and right spines and draw the grid below the data."""
    axes.spines[["top", "right"]].set_visible(False)
    axes.set_axisbelow(True)
