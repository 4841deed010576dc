"""Figure of energy by layer."""

# matplotlib leaves the keyword arguments of its methods untyped.
# pyright: reportUnknownMemberType=false

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure

from scmrl.energy.output import UNITS, format_joules
from scmrl.plots.files import save_png, save_svg
from scmrl.plots.labels import layer_name
from scmrl.plots.run_figures import MAX_BARS
from scmrl.plots.style import BLUE, LIGHT, ORANGE, clean, layout


def write_figure(content: Mapping[str, Any], folder: Path) -> None:
    """Write energy.png and energy.svg from the contents of energy.json."""
    figure = energy_figure(content)
    save_png(figure, folder / "energy.png")
    save_svg(figure, folder / "energy.svg")


def energy_figure(content: Mapping[str, Any]) -> Figure:
    """Draw bars of each layer's energy by both conventions, in execution order.

    Raises:
        ValueError: there is no layer.
    """
    all_layers = content["layers"]
    if not all_layers:
        raise ValueError("there is no layer to draw: the model computes no products")
    costs = sorted((layer["energy_j"] for layer in all_layers), reverse=True)
    least = costs[MAX_BARS - 1] if len(costs) > MAX_BARS else -1.0
    layers = [layer for layer in all_layers if layer["energy_j"] >= least][:MAX_BARS]
    largest = max(max(layer["energy_j"], layer["paper"]["energy_j"]) for layer in layers)
    size, unit = next(((size, unit) for size, unit in UNITS if largest >= size), UNITS[-1])
    figure = Figure(figsize=(9, 1.9 + 0.3 * len(layers)), layout=layout())
    axes = figure.add_subplot()
    title = "Energy of one inference by layer"
    if len(layers) < len(all_layers):
        title += f"\n{len(layers)} of {len(all_layers)} layers with the highest energy; all are in energy.json"
    figure.suptitle(title, fontsize=11)
    for offset, label, color, energies in (
        (-0.2, "paper", BLUE, [layer["paper"]["energy_j"] for layer in layers]),
        (0.2, "strict", ORANGE, [layer["energy_j"] for layer in layers]),
    ):
        positions = [index + offset for index in range(len(layers))]
        total = format_joules(content["totals"][label]["energy_j"])
        values = [energy / size for energy in energies]
        axes.barh(positions, values, height=0.38, label=f"{label} (total {total})", color=color)
    axes.set_ylim(len(layers) - 0.4, -0.6)
    # Names come from files: a dollar in them must not start a formula.
    axes.set_yticks(
        range(len(layers)), [layer_name(layer["layer"]) for layer in layers], fontsize=7.5, parse_math=False
    )
    axes.set_xlabel(f"energy of one inference ({unit}), arithmetic only")
    axes.grid(axis="x", color=LIGHT, linewidth=0.6)
    axes.tick_params(axis="y", length=0)
    clean(axes)
    figure.legend(loc="outside lower center", ncols=2, frameon=False)
    return figure
