"""Save figures as files."""

# matplotlib leaves the keyword arguments of its methods untyped.
# pyright: reportUnknownMemberType=false

from __future__ import annotations

from pathlib import Path

from matplotlib import rc_context  # pyright: ignore[reportUnknownVariableType]
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure

from scmrl.plots.style import DPI
from scmrl.run_folder.atomic import atomic_write


def save_png(figure: Figure, path: Path) -> Path:
    """Save a figure as a PNG file and create its folder if necessary."""
    FigureCanvasAgg(figure)
    with atomic_write(path) as part:
        path.parent.mkdir(parents=True, exist_ok=True)
        figure.savefig(part, dpi=DPI, format="png", facecolor="white")
    return path


def save_svg(figure: Figure, path: Path) -> Path:
    """Save a figure as an SVG file; without a date and with fixed ids, the same figure gives the same file."""
    FigureCanvasSVG(figure)
    with atomic_write(path) as part, rc_context({"svg.hashsalt": "scmrl"}):
        figure.savefig(part, format="svg", facecolor="white", metadata={"Date": None})
    return path
