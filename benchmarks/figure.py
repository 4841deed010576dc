"""Draw docs/images/speed.svg, the figure of README.md, from a table that model.py has written.

uv run python benchmarks/figure.py benchmarks/results/model-intel-xeon-2-cores.md
"""

from __future__ import annotations

import argparse
import re
from pathlib import Path

import matplotlib as mpl
from matplotlib.figure import Figure
from matplotlib.patches import Patch

TARGET = Path(__file__).parents[1] / "docs" / "images" / "speed.svg"
COLORS = {"float32": "#5b8def", "bfloat16": "#e08a3c"}
INK = "#7d8590"
"""Readable on a white and on a dark page."""


def speedups(text: str) -> dict[str, dict[tuple[str, str], float]]:
    """Return by configuration the speedup over the baseline in float32, of (task, precision)."""
    result: dict[str, dict[tuple[str, str], float]] = {}
    name = ""
    for line in text.splitlines():
        if heading := re.match(r"## (.*?): T = (\d+)", line):
            name = heading.group(1)
        elif row := re.match(r"\| (training|inference) \| (float32|bfloat16) \|.*\| ([\d.]+) \|$", line):
            result.setdefault(name, {})[row.group(1), row.group(2)] = float(row.group(3))
    return result


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("table", type=Path, help="the file that model.py has written")
    values = speedups(parser.parse_args().table.read_text(encoding="utf-8"))
    if not values:
        parser.error("the file has no table of model.py")
    mpl.rcParams |= {"svg.hashsalt": "speed", "svg.fonttype": "none", "text.color": INK, "font.family": "sans-serif"}
    figure = Figure(figsize=(8, 3.2), layout="constrained")
    for axes, task in zip(figure.subplots(1, 2, sharey=True), ("training", "inference"), strict=True):  # pyright: ignore[reportGeneralTypeIssues]
        for offset, (precision, color) in zip((-0.2, 0.2), COLORS.items(), strict=True):
            rows = [row + offset for row in range(len(values))]
            bars = axes.barh(rows, [of_task[task, precision] for of_task in values.values()], 0.38, color=color)
            axes.bar_label(bars, fmt="%.1f", color=INK, padding=3)
        axes.axvline(1, color=INK, linewidth=0.8, linestyle=":")
        axes.set_yticks(range(len(values)), list(values))
        axes.set_title(f"{task}, times as fast")
        axes.tick_params(colors=INK, left=False)
        axes.margins(x=0.12)
        axes.spines[:].set_visible(False)
    figure.axes[0].invert_yaxis()
    handles = [Patch(color=color, label=f"ours in {name}") for name, color in COLORS.items()]
    figure.legend(handles=handles, loc="outside lower center", ncols=2, frameon=False, labelcolor=INK)
    figure.savefig(TARGET, metadata={"Date": None}, transparent=True)


if __name__ == "__main__":
    main()
