"""The pictures of an explanation, as figures of matplotlib; nothing here touches pyplot or writes a file.

Like their panels they suit light and dark paper, see `scmrl.explain.panels`.
"""

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
from scmrl.explain.panels import FAINT, MIDDLE, SHARP, draw_input, draw_places, of_two_inks, plain, shown_step, titled
from scmrl.report.figures import BLUE, GREEN, ORANGE, SKY, clean, layout, percent
from snn_fusion import Pair

COLORS = (BLUE, ORANGE, GREEN, "#B8659A", "#A87908", "#808080")
"""Of lines, one after the other; then again with other dashes. Each has a contrast of at least 3 to both papers."""
DASHES = ("-", "--", ":", "-.")
MOST_CLASSES = 10
"""Classes of which the probability is drawn."""
MOST_STRIPS = 36
"""Layers up to which all are drawn; beyond, queries, keys and values are left out, and then what is too much."""
SIDE = 3.4
"""Inches of a picture's edge."""
FLAT = (5.4, 3.4)
"""Inches of what is drawn along one axis."""
STRIP, NAME = (0.24, 1.6), 0.22
"""Inches of a layer's spikes, at least and at most, and of its name above them."""


def input_picture(explanation: Explanation, modality: str, saliency: bool = True) -> Figure:
    """One input, and beside it (below it, where it is no picture) how much each of its places counted.

    Args:
        explanation: of a sample that has the modality.
        modality: its name.
        saliency: whether to draw more than the input.
    """
    flat = explanation.saliency[modality].ndim == 1
    name, found, label = _input_words(explanation, modality)
    values = explanation.saliency[modality]
    figure = Figure(figsize=FLAT if flat else (SIDE * (2.3 if saliency else 1.05), SIDE), layout=layout())
    if not saliency:
        axes = figure.add_subplot()
        draw_input(axes, explanation, modality)
        axes.set_title(name, fontsize=10)
    elif flat:
        draw_places(figure, explanation, modality, values, title=found, label=label)
    else:
        left, right = _beside(figure, 1, 1.25)
        axes = left.add_subplot()
        draw_input(axes, explanation, modality)
        axes.set_title(name, fontsize=10)
        draw_places(right, explanation, modality, values, title=found, label=label)
    return figure


def input_panels(explanation: Explanation, modality: str) -> list[tuple[str, Figure]]:
    """What `input_picture` shows, panel by panel with the titles beside them, for a page that lays them out itself.

    Args:
        explanation: of a sample that has the modality.
        modality: its name.
    """
    values = explanation.saliency[modality]
    name, found, label = _input_words(explanation, modality)
    flat = values.ndim == 1
    panels: list[tuple[str, Figure]] = []
    if not flat:
        alone = Figure(figsize=(SIDE, SIDE), layout=layout())
        draw_input(alone.add_subplot(), explanation, modality)
        inks = "; on orange, off blue, both pink" if of_two_inks(explanation, modality) else ""
        panels.append((f"{name}{inks}", alone))
    figure = Figure(figsize=FLAT if flat else (SIDE * 1.2, SIDE), layout=layout())
    draw_places(figure, explanation, modality, values, title="", label=label)
    return [*panels, (titled(found, values), figure)]


def _input_words(explanation: Explanation, modality: str) -> tuple[str, str, str]:
    """Titles of an input and of what counted in it, and the label of its numbers."""
    name, step = plain(modality), shown_step(explanation, modality)
    title = f"{name} ({step})" if step else name
    if explanation.saliency_from[modality] == "attention":
        return title, f"{name}: what the model read", "read (strongest = 1)"
    return title, f"{name}: what the answer rests on", "drop when blanked (largest = 1)"


def attention_picture(explanation: Explanation, pair: Pair) -> Figure:
    """Where the target read from (left) and which places of the source it read (right); once within a modality."""
    target, source = plain(pair[0]), plain(pair[1])
    label = "read (even share = 1)"
    panels = [(pair[1], explanation.attention[pair], f"which places of {source} were read")]
    if pair[0] != pair[1]:
        panels.insert(0, (pair[0], explanation.reading[pair], f"which places of {target} did the reading"))
    figure = Figure(figsize=(SIDE * 1.35 * len(panels), SIDE + 0.3), layout=layout())
    figure.suptitle(f"{target} reads {source}" if pair[0] != pair[1] else f"{target} reads itself", fontsize=11)
    parts = _beside(figure, *[1] * len(panels))
    for part, (modality, values, title) in zip(parts, panels, strict=True):
        draw_places(part, explanation, modality, values, title=title, label=label)
    return figure


def occlusion_picture(explanation: Explanation, modality: str) -> Figure:
    """How the answer's probability changes when a part of the input is blanked: orange falls, blue rises."""
    values = 100 * explanation.occlusion[modality]
    figure = Figure(figsize=FLAT if values.ndim == 1 else (SIDE * 1.4, SIDE), layout=layout())
    answer = plain(explanation.classes[explanation.answer])
    title = f"{plain(modality)}: blanked parts and “{answer}”"
    draw_places(figure, explanation, modality, values, title=title, label="drop of the probability (points)")
    return figure


def answer_picture(explanation: Explanation) -> Figure:
    """The most probable classes (left), and how much of the answer each modality contributed (right)."""
    order = [int(k) for k in (-explanation.probabilities).argsort(kind="stable")[:MOST_CLASSES]]
    if explanation.label is not None and explanation.label not in order:
        order[-1] = explanation.label
    names = list(explanation.contribution)
    figure = Figure(figsize=(9, 1.4 + 0.28 * max(len(order), len(names) + 2)), layout=layout(wspace=0.08))
    left, right = figure.subplots(1, 2)
    shares = [100 * float(explanation.probabilities[k]) for k in order]
    bars = left.barh(range(len(order)), shares, color=[BLUE if k == explanation.answer else SKY for k in order])
    left.bar_label(bars, [f"{share:.1f} %" for share in shares], padding=3, fontsize=8)
    classes = [plain(explanation.classes[k]) + (" (true)" if k == explanation.label else "") for k in order]
    left.set_yticks(range(len(order)), classes)
    left.set_ylim(len(order) - 0.4, -0.6)
    left.set_xlim(0, 118)
    left.set_xlabel("probability (%)")
    left.set_title("what the model says", fontsize=10)

    # From chance to the answer: each modality starts where the one before it ended.
    chance = 100 / len(explanation.classes)
    right.barh(0, chance, color="black", alpha=FAINT)
    end = chance
    for place, name in enumerate(names, start=1):
        gain = 100 * explanation.contribution[name]
        right.barh(place, gain, left=end, color=GREEN if gain >= 0 else ORANGE)
        right.plot([end, end], [place - 1.4, place + 0.4], color="black", alpha=MIDDLE, linewidth=0.8)
        right.annotate(
            f"{gain:+.1f}", (max(end, end + gain), place), (4, 0), textcoords="offset points", va="center", fontsize=8
        )
        end += gain
    right.barh(len(names) + 1, end, color=BLUE)
    right.set_yticks(range(len(names) + 2), ["chance", *map(plain, names), "answer"])
    right.set_ylim(len(names) + 1.6, -0.6)
    right.set_xlim(min(0, right.get_xlim()[0]), max(110, right.get_xlim()[1]))
    right.set_xlabel(f"probability of “{plain(explanation.classes[explanation.answer])}” (%)")
    right.set_title("what each sense contributes", fontsize=10)
    for axes in (left, right):
        clean(axes)
    return figure


def raster_picture(explanation: Explanation) -> Figure:
    """Which units fire at which time step: one strip a layer, time from top to bottom, units side by side.

    Above each strip stand the layer's name, without the part of the model that its color tells, and the share that
    fires.
    """
    layers = drawn_layers(explanation)
    steps = max((len(explanation.rasters[layer]) for layer in layers), default=1)
    tall = min(STRIP[1], max(STRIP[0], 0.055 * steps))
    row = NAME + tall
    figure = Figure(figsize=(4.8, 0.75 + row * max(1, len(layers))), layout=layout())
    if not layers:
        return _nothing(figure, "no layer of neurons ran")
    # One panel for all: to lay out as many panels as there are layers takes seconds.
    axes = figure.add_subplot()
    for place, layer in enumerate(layers):
        spikes, top = explanation.rasters[layer], place * row + NAME
        color = BLUE if layer.startswith("encoders.") else ORANGE
        marks = np.zeros((*spikes.shape, 4))
        marks[spikes] = (*to_rgb(color), 1)
        axes.imshow(marks, aspect="auto", interpolation=SHARP, extent=(0, 1, top + tall, top))
        axes.add_patch(Rectangle((0, top), 1, tall, fill=False, edgecolor=color, linewidth=0.6, clip_on=False))
        axes.text(0, top - 0.05, plain(layer.partition(".")[2]), fontsize=8.5)
        axes.text(1, top - 0.05, percent(100 * float(spikes.mean())), fontsize=8.5, ha="right")
    axes.set_xlim(0, 1)
    axes.set_ylim(row * len(layers), 0)
    axes.set_axis_off()
    count = len(explanation.rasters)
    axes.set_title(
        f"spikes of {steps} {'step' if steps == 1 else 'steps'}, top to bottom, and the share that fires;\n"
        "encoders blue, cross-modal branch orange; at most 200 units a layer"
        + (f"\n{len(layers)} of {count} layers" if len(layers) < count else ""),
        fontsize=8.5,
        loc="left",
    )
    return figure


def drawn_layers(explanation: Explanation) -> list[str]:
    """The layers of the raster picture: all, or the most telling of too many."""
    layers = list(explanation.rasters)
    if len(layers) > MOST_STRIPS:
        layers = [name for name in layers if not {"query", "key", "value"} & set(name.split("."))]
    return layers[:MOST_STRIPS]


def residual_picture(explanation: Explanation) -> Figure:
    """How strongly each modality reads each other one, step by step; for methods that weigh senses, the weights."""
    lines = {f"{plain(t)} reads {plain(s)}": values for (t, s), values in explanation.residuals.items()}
    label = "mean |alpha · residual|"
    title = "what is added to each sense, step by step"
    if not lines:
        lines = {f"weight of {plain(name)}": values for name, values in explanation.weights.items()}
        label, title = "weight (no unit)", "what each sense is multiplied by, step by step"
    figure = Figure(figsize=(4.8, 2.7 + 0.2 * math.ceil(len(lines) / 2)), layout=layout())
    if not lines:
        return _nothing(figure, "this model's senses do not read each other:\nthey meet in the readout only")
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


def _beside(figure: Figure, *widths: float) -> list[SubFigure]:
    """Parts of a figure from left to right, of these widths."""
    parts: Any = figure.subfigures(1, len(widths), squeeze=False, width_ratios=widths)
    return list(parts[0])


def _nothing(figure: Figure, why: str) -> Figure:
    figure.text(0.5, 0.5, why, ha="center", va="center", alpha=MIDDLE)
    return figure
