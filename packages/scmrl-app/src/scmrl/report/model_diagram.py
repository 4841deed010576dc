"""Diagram of a model from its spec: inputs, encoders, fusion and readout."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from markupsafe import Markup, escape

from scmrl.console.tables import one_line
from scmrl.report.charts import COLORS
from snn_fusion.topology import pairs

METHOD_CAPTIONS = {
    "ccssa": "cross-modal attention (CCSSA)",
    "qk": "QK attention",
    "sca": "cross attention (SCA)",
    "cmci": "joint representation (CMCI)",
    "weight_attention": "one weight a modality",
    "none": "no fusion before the readout",
}
"""Readable names of fusion methods, by kind."""
LANE, TOP = 92, 66
"""Height of one modality's lane, and of the headings, in SVG units."""
WIDTH = 790
MAX_NAME = 19
"""Characters of a name that fit into a box."""


@dataclass(frozen=True)
class ModelOutline:
    """The parts of a model that the diagram shows."""

    encoders: Mapping[str, tuple[str, str]]
    """By modality, the kind of its encoder and the shape of its input in words."""
    channels: int
    time_steps: int
    neuron: str
    method: str
    pairs: Mapping[tuple[str, str], float | None]
    """Scale of the residual by (target, source); None if unknown."""
    readout: str
    classes: int


def read_outline(path: Path, alphas: Mapping[tuple[str, str], float]) -> ModelOutline:
    """Read the outline of a model from its spec.json.

    Args:
        path: the file.
        alphas: scale of the residual by (target, source), from the model itself; empty if it is not available.

    Raises:
        ValueError: the file holds no spec of a model.
    """
    try:
        model: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))["model"]
        encoders = {
            str(name): (str(encoder["kind"]).replace("_", " "), _shape(model["input_shapes"].get(name)))
            for name, encoder in model["encoders"].items()
        }
        fusion = model["fusion"]
        kind = str(fusion["kind"])
        scales: dict[tuple[str, str], float | None] = dict(alphas)
        if not scales and len(encoders) > 1 and "topology" in fusion:
            scales = dict.fromkeys(pairs(fusion["topology"], tuple(encoders)))
        return ModelOutline(
            encoders,
            int(model["channels"]),
            int(model["time_steps"]),
            str(model["neuron"]["kind"]).upper(),
            METHOD_CAPTIONS.get(kind, kind.replace("_", " ")),
            scales,
            str(model["readout"].get("combine", "")),
            int(model["num_classes"]),
        )
    except (KeyError, TypeError, AttributeError, RecursionError) as error:
        raise ValueError(f"{path} holds no spec of a model: {error}") from None


def model_diagram(model: ModelOutline) -> Markup:
    """Return the diagram as an `<svg>` element in the page's colors."""
    names = list(model.encoders)
    height = TOP + LANE * len(names) + 8
    middle = {name: TOP + LANE * row + LANE / 2 - 6 for row, name in enumerate(names)}
    color = {name: COLORS[row % len(COLORS)] for row, name in enumerate(names)}
    parts: list[Markup] = []
    fused = len(names) > 1
    headings = [(75, "input"), (250, "encoder"), (705, "readout")]
    if fused:
        headings.append((465, "fusion"))
    parts += [_text(x, 20, text, "mid", muted=True) for x, text in headings]
    if fused:
        parts.append(_box(365, TOP - 26, 200, LANE * len(names) + 18, dashed=True))
        parts.append(_text(465, TOP - 8, model.method, "mid", small=True))
    for name, y in middle.items():
        kind, shape = model.encoders[name]
        parts += [
            _box(5, y - 26, 140, 52, edge=color[name]),
            _text(75, y - 4, name, "mid", bold=True),
            _text(75, y + 15, shape, "mid", small=True, muted=True),
            _arrow(145, y, 180, y),
            _box(180, y - 26, 140, 52),
            _text(250, y - 4, kind, "mid"),
            _text(250, y + 15, f"{model.channels} channels", "mid", small=True, muted=True),
        ]
        if not fused:
            parts.append(_arrow(320, y, 630, y))
            continue
        parts += [_arrow(320, y, 388, y), _dot(393, y, color[name], 5), _line(398, y, 528, y, "currentColor", 1.2)]
        parts += [_arrow(546, y, 630, y)]
    parts += _residual_arrows(model, middle, color)
    if fused:
        for y in middle.values():
            parts += [_dot(537, y, "var(--background)", 8, edge=True), _text(537, y + 5, "+", "mid")]
    low, high = min(middle.values()), max(middle.values())
    parts += [
        _box(630, low - 30, 150, high - low + 60),
        _text(705, (low + high) / 2 - 4, f"{model.classes:,} classes", "mid", bold=True),
        _text(705, (low + high) / 2 + 15, _combination(model.readout) if fused else "", "mid", small=True, muted=True),
    ]
    description = escape(outline_text(model))
    return Markup('<svg class="model" viewBox="0 0 {} {}" role="img" aria-label="{}">{}</svg>').format(
        WIDTH, height, description, Markup("").join(parts)
    )


def outline_text(model: ModelOutline) -> str:
    """Describe the diagram in words."""
    encoders = "; ".join(
        f"{name}{f' ({shape})' if shape else ''} by a {kind} encoder" for name, (kind, shape) in model.encoders.items()
    )
    reads = ", ".join(f"{target} reads {source}" for target, source in model.pairs)
    return one_line(
        f"{encoders}. Fusion: {model.method}{': ' + reads if reads else ''}. Readout into {model.classes:,} classes."
    )


def caption(model: ModelOutline) -> str:
    """Return the caption: neurons, time steps and the scales alpha."""
    text = f"{model.neuron} neurons, {model.time_steps} time steps."
    scales = {scale for scale in model.pairs.values() if scale is not None}
    if len(scales) == 1:
        text += f" Residuals are scaled by alpha = {scales.pop():.3g} and added to the tokens of the target."
    elif scales:
        text += " Residuals are scaled by alpha, the number on each arrow, and added to the tokens of the target."
    return text


def _residual_arrows(model: ModelOutline, middle: Mapping[str, float], color: Mapping[str, str]) -> list[Markup]:
    """Draw an arrow from each source to each target, labeled with its scale if scales differ."""
    parts: list[Markup] = []
    differ = len({scale for scale in model.pairs.values() if scale is not None}) > 1
    for (target, source), scale in model.pairs.items():
        start, end = middle[source], middle[target]
        parts.append(_arrow(397, start, 530, end + (7 if start > end else -7), color[source], 1.8))
        if differ and scale is not None and len(middle) <= 4:
            position = 0.24 + 0.12 * list(middle).index(target)
            x, y = 397 + 133 * position, start + (end - start) * position - 4
            parts.append(_text(x, y, f"{scale:.3g}", "start", small=True))
    return parts


def _shape(shape: Sequence[int] | None) -> str:
    """Describe the shape of an encoder's input; empty if it is unknown."""
    if not shape:
        return ""
    return " × ".join(map(str, shape)) if len(shape) > 1 else f"{shape[0]} channels"


def _combination(combine: str) -> str:
    return {"add": "features summed", "concat": "features concatenated"}.get(combine, combine.replace("_", " "))


def _box(
    x: float, y: float, width: float, height: float, edge: str = "var(--muted)", *, dashed: bool = False
) -> Markup:
    extra = Markup(' stroke-dasharray="4 4"') if dashed else ""
    fill = "none" if dashed else "var(--raised)"
    return Markup(
        '<rect x="{:g}" y="{:g}" width="{:g}" height="{:g}" rx="7" fill="{}" stroke="{}" stroke-width="1.4"{}/>'
    ).format(x, y, width, height, fill, edge, extra)


def _text(
    x: float, y: float, text: str, anchor: str, *, bold: bool = False, small: bool = False, muted: bool = False
) -> Markup:
    text = one_line(text)
    short = text if len(text) <= MAX_NAME + 12 * small else f"{text[: MAX_NAME + 12 * small - 1]}…"
    style = f"font-size:{12.5 if small else 14.5}px" + (";font-weight:600" if bold else "")
    title = Markup("<title>{}</title>").format(text) if short != text else ""
    return Markup('<text x="{:g}" y="{:g}" text-anchor="{}" fill="{}" style="{}">{}{}</text>').format(
        x, y, "middle" if anchor == "mid" else anchor, "var(--muted)" if muted else "currentColor", style, title, short
    )


def _line(x: float, y: float, to_x: float, to_y: float, color: str, width: float) -> Markup:
    return Markup('<path d="M{:g} {:g}L{:g} {:g}" stroke="{}" stroke-width="{:g}" fill="none"/>').format(
        x, y, to_x, to_y, color, width
    )


def _arrow(x: float, y: float, to_x: float, to_y: float, color: str = "currentColor", width: float = 1.2) -> Markup:
    """A line with a head at its end."""
    length = ((to_x - x) ** 2 + (to_y - y) ** 2) ** 0.5
    along, across = (to_x - x) / length, (to_y - y) / length
    base = (to_x - 8 * along, to_y - 8 * across)
    corners = [(to_x, to_y), *((base[0] - side * across, base[1] + side * along) for side in (-4, 4))]
    head = " ".join(f"{a:.1f},{b:.1f}" for a, b in corners)
    return _line(x, y, *base, color, width) + Markup('<polygon points="{}" fill="{}"/>').format(head, color)


def _dot(x: float, y: float, fill: str, radius: float, *, edge: bool = False) -> Markup:
    stroke = Markup(' stroke="currentColor" stroke-width="1.4"') if edge else ""
    return Markup('<circle cx="{:g}" cy="{:g}" r="{:g}" fill="{}"{}/>').format(x, y, radius, fill, stroke)
