"""The figures of an explanation, for light and dark backgrounds; nothing here uses pyplot or writes a file."""

# matplotlib leaves the keyword arguments of its methods untyped.
# pyright: reportUnknownMemberType=false
from __future__ import annotations

import math
from typing import Any

import numpy as np
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure, SubFigure
from matplotlib.patches import Rectangle
from matplotlib.ticker import MaxNLocator

from scmrl.explain.explanation import Explanation
from scmrl.explain.panels import (
    FAINT,
    MIDDLE,
    SHARP,
    draw_input,
    draw_map,
    escape_math,
    has_on_off_channels,
    panel_title,
    step_label,
)
from scmrl.plots.labels import format_percent
from scmrl.plots.style import BLUE, GREEN, ORANGE, SKY, clean, layout
from snn_fusion import Pair

COLORS = (BLUE, ORANGE, GREEN, "#B8659A", "#A87908", "#808080")
"""Of lines, repeated with other dashes. Each has a contrast of at least 3 to light and dark backgrounds."""
DASHES = ("-", "--", ":", "-.")
MAX_CLASSES = 10
"""Class probabilities in a figure."""
MAX_STRIPS = 36
"""Layers in a raster; of more, queries, keys and values are omitted first, then the last ones."""
SIDE = 3.4
"""Width and height of an image, in inches."""
FLAT = (5.4, 3.4)
"""Size of a figure along one axis, in inches."""
STRIP, NAME = (0.24, 1.6), 0.22
"""Minimum and maximum height of a layer's spikes, and height of its name above them, in inches."""


def input_figure(explanation: Explanation, modality: str) -> Figure:
    """Draw an input and its saliency map, which is on the right of an image and below any other input.

    Args:
        explanation: of a sample that has the modality.
        modality: name of the modality.
    """
    flat = explanation.saliency[modality].ndim == 1
    name, saliency_title, label = _input_titles(explanation, modality)
    values = explanation.saliency[modality]
    figure = Figure(figsize=FLAT if flat else (SIDE * 2.3, SIDE), layout=layout())
    if flat:
        draw_map(figure, explanation, modality, values, title=saliency_title, label=label)
    else:
        left, right = _columns(figure, 1, 1.25)
        axes = left.add_subplot()
        draw_input(axes, explanation, modality)
        axes.set_title(name, fontsize=10)
        draw_map(right, explanation, modality, values, title=saliency_title, label=label)
    return figure


def input_panels(explanation: Explanation, modality: str) -> list[tuple[str, Figure]]:
    """Draw the panels of `input_figure` as separate figures with titles, for a page with its own layout.

    Args:
        explanation: of a sample that has the modality.
        modality: name of the modality.
    """
    values = explanation.saliency[modality]
    name, saliency_title, label = _input_titles(explanation, modality)
    flat = values.ndim == 1
    panels: list[tuple[str, Figure]] = []
    if not flat:
        image = Figure(figsize=(SIDE, SIDE), layout=layout())
        draw_input(image.add_subplot(), explanation, modality)
        colors = "; on orange, off blue, both pink" if has_on_off_channels(explanation, modality) else ""
        panels.append((f"{name}{colors}", image))
    figure = Figure(figsize=FLAT if flat else (SIDE * 1.2, SIDE), layout=layout())
    draw_map(figure, explanation, modality, values, title="", label=label)
    return [*panels, (panel_title(saliency_title, values), figure)]


def _input_titles(explanation: Explanation, modality: str) -> tuple[str, str, str]:
    """Return the titles of an input and of its saliency map, and the label of the color bar."""
    name, step = escape_math(modality), step_label(explanation, modality)
    title = f"{name} ({step})" if step else name
    if explanation.saliency_source[modality] == "attention":
        return title, f"{name}: attention", "attention (maximum = 1)"
    return title, f"{name}: occlusion", "drop when blanked (maximum = 1)"


def attention_figure(explanation: Explanation, pair: Pair) -> Figure:
    """Draw how much each target position read (left) and each source position was read (right)."""
    target, source = escape_math(pair[0]), escape_math(pair[1])
    label = "attention (uniform = 1)"
    panels = [(pair[1], explanation.attention[pair], f"positions of {source} that were read")]
    if pair[0] != pair[1]:
        panels.insert(0, (pair[0], explanation.target_attention[pair], f"positions of {target} that read"))
    figure = Figure(figsize=(SIDE * 1.35 * len(panels), SIDE + 0.3), layout=layout())
    figure.suptitle(f"{target} reads {source}" if pair[0] != pair[1] else f"{target} reads itself", fontsize=11)
    parts = _columns(figure, *[1] * len(panels))
    for part, (modality, values, title) in zip(parts, panels, strict=True):
        draw_map(part, explanation, modality, values, title=title, label=label)
    return figure


def occlusion_figure(explanation: Explanation, modality: str) -> Figure:
    """Draw the change of the predicted class's probability when a part is blanked: orange falls, blue rises."""
    values = 100 * explanation.occlusion[modality]
    figure = Figure(figsize=FLAT if values.ndim == 1 else (SIDE * 1.4, SIDE), layout=layout())
    prediction = escape_math(explanation.classes[explanation.prediction])
    title = f"{escape_math(modality)}: effect of blanking on “{prediction}”"
    draw_map(figure, explanation, modality, values, title=title, label="drop of the probability (points)")
    return figure


def prediction_figure(explanation: Explanation) -> Figure:
    """Draw the most probable classes (left) and the contribution of each modality (right)."""
    order = [int(k) for k in (-explanation.probabilities).argsort(kind="stable")[:MAX_CLASSES]]
    if explanation.label is not None and explanation.label not in order:
        order[-1] = explanation.label
    names = list(explanation.contributions)
    figure = Figure(figsize=(9, 1.4 + 0.28 * max(len(order), len(names) + 2)), layout=layout(wspace=0.08))
    left, right = figure.subplots(1, 2)
    shares = [100 * float(explanation.probabilities[k]) for k in order]
    bars = left.barh(range(len(order)), shares, color=[BLUE if k == explanation.prediction else SKY for k in order])
    left.bar_label(bars, [f"{share:.1f} %" for share in shares], padding=3, fontsize=8)
    classes = [escape_math(explanation.classes[k]) + (" (true)" if k == explanation.label else "") for k in order]
    left.set_yticks(range(len(order)), classes)
    left.set_ylim(len(order) - 0.4, -0.6)
    left.set_xlim(0, 118)
    left.set_xlabel("probability (%)")
    left.set_title("prediction", fontsize=10)

    # A waterfall from chance to the prediction: each bar starts where the previous one ended.
    chance = 100 / len(explanation.classes)
    right.barh(0, chance, color="black", alpha=FAINT)
    end = chance
    for row, name in enumerate(names, start=1):
        gain = 100 * explanation.contributions[name]
        right.barh(row, gain, left=end, color=GREEN if gain >= 0 else ORANGE)
        right.plot([end, end], [row - 1.4, row + 0.4], color="black", alpha=MIDDLE, linewidth=0.8)
        right.annotate(
            f"{gain:+.1f}", (max(end, end + gain), row), (4, 0), textcoords="offset points", va="center", fontsize=8
        )
        end += gain
    right.barh(len(names) + 1, end, color=BLUE)
    right.set_yticks(range(len(names) + 2), ["chance", *map(escape_math, names), "prediction"])
    right.set_ylim(len(names) + 1.6, -0.6)
    right.set_xlim(min(0, right.get_xlim()[0]), max(110, right.get_xlim()[1]))
    right.set_xlabel(f"probability of “{escape_math(explanation.classes[explanation.prediction])}” (%)")
    right.set_title("contribution of each modality", fontsize=10)
    for axes in (left, right):
        clean(axes)
    return figure


def raster_figure(explanation: Explanation) -> Figure:
    """Draw the spikes of each unit: one strip per layer, time from top to bottom, units from left to right.

    Above each strip are the layer's name, without the part of the model that its color encodes, and the firing rate.
    """
    layers = raster_layers(explanation)
    steps = max((len(explanation.rasters[layer]) for layer in layers), default=1)
    height = min(STRIP[1], max(STRIP[0], 0.055 * steps))
    row = NAME + height
    figure = Figure(figsize=(4.8, 0.75 + row * max(1, len(layers))), layout=layout())
    if not layers:
        return _message(figure, "no spiking layer ran")
    # One panel for all layers: the layout of many panels takes seconds.
    axes = figure.add_subplot()
    for number, layer in enumerate(layers):
        spikes, top = explanation.rasters[layer], number * row + NAME
        color = BLUE if layer.startswith("encoders.") else ORANGE
        marks = np.zeros((*spikes.shape, 4))
        marks[spikes] = (*to_rgb(color), 1)
        axes.imshow(marks, aspect="auto", interpolation=SHARP, extent=(0, 1, top + height, top))
        axes.add_patch(Rectangle((0, top), 1, height, fill=False, edgecolor=color, linewidth=0.6, clip_on=False))
        axes.text(0, top - 0.05, escape_math(layer.partition(".")[2]), fontsize=8.5)
        axes.text(1, top - 0.05, format_percent(100 * float(spikes.mean())), fontsize=8.5, ha="right")
    axes.set_xlim(0, 1)
    axes.set_ylim(row * len(layers), 0)
    axes.set_axis_off()
    count = len(explanation.rasters)
    axes.set_title(
        f"spikes of {steps} {'step' if steps == 1 else 'steps'}, top to bottom, and the firing rate;\n"
        "encoders blue, cross-modal branch orange; at most 200 units per layer"
        + (f"\n{len(layers)} of {count} layers" if len(layers) < count else ""),
        fontsize=8.5,
        loc="left",
    )
    return figure


def raster_layers(explanation: Explanation) -> list[str]:
    """Return the layers in the raster figure, at most `MAX_STRIPS`."""
    layers = list(explanation.rasters)
    if len(layers) > MAX_STRIPS:
        layers = [name for name in layers if not {"query", "key", "value"} & set(name.split("."))]
    return layers[:MAX_STRIPS]


def residual_figure(explanation: Explanation) -> Figure:
    """Draw the magnitude of each residual by time step; for methods that weight modalities, the weights."""
    lines = {f"{escape_math(t)} reads {escape_math(s)}": values for (t, s), values in explanation.residuals.items()}
    label = "mean |alpha · residual|"
    title = "residuals by time step"
    if not lines:
        lines = {f"weight of {escape_math(name)}": values for name, values in explanation.weights.items()}
        label, title = "weight", "weight of each modality by time step"
    figure = Figure(figsize=(4.8, 2.7 + 0.2 * math.ceil(len(lines) / 2)), layout=layout())
    if not lines:
        return _message(figure, "no residuals: the modalities of this model\nare combined in the readout only")
    axes = figure.add_subplot()
    for number, (name, values) in enumerate(lines.items()):
        color, dashes = COLORS[number % len(COLORS)], DASHES[number // len(COLORS) % len(DASHES)]
        axes.plot(np.arange(1, len(values) + 1), values, dashes, color=color, marker="o", markersize=4, label=name)
    if min(float(values.min()) for values in lines.values()) >= 0:
        axes.set_ylim(bottom=0)
    axes.set_xlabel("time step")
    axes.set_ylabel(label)
    axes.set_title(title, fontsize=10)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.grid(color="black", alpha=FAINT, linewidth=0.6)
    clean(axes)
    figure.legend(loc="outside lower center", ncols=2, frameon=False, fontsize=8)
    return figure


def _columns(figure: Figure, *widths: float) -> list[SubFigure]:
    """Divide a figure into columns of these relative widths."""
    parts: Any = figure.subfigures(1, len(widths), squeeze=False, width_ratios=widths)
    return list(parts[0])


def _message(figure: Figure, text: str) -> Figure:
    figure.text(0.5, 0.5, text, ha="center", va="center", alpha=MIDDLE)
    return figure
