"""A picture of a run's model, from its spec: inputs, encoders, who reads whom, and the readout."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from markupsafe import Markup, escape

from scmrl.console.tables import one_line
from scmrl.report.drawings import COLORS
from snn_fusion.topology import pairs

METHODS = {
    "ccssa": "cross-modal attention (CCSSA)",
    "qk": "QK attention",
    "sca": "cross attention (SCA)",
    "cmci": "joint representation (CMCI)",
    "weight_attention": "one weight a modality",
    "none": "no reading between modalities",
}
"""What fusion methods are called, by the kind in a spec."""
LANE, TOP = 92, 66
"""Height of a modality's lane, and of the headings above the first."""
WIDTH = 790
LONGEST = 19
"""Signs of a name that fit into a box."""


@dataclass(frozen=True)
class ModelShape:
    """What the picture shows of a model."""

    encoders: Mapping[str, tuple[str, str]]
    """By modality the kind of its encoder, and the shape of its input in words."""
    channels: int
    time_steps: int
    neuron: str
    method: str
    pairs: Mapping[tuple[str, str], float | None]
    """(target, source) with the scale of what is read, where there is one."""
    readout: str
    classes: int


def read_shape(path: Path, alphas: Mapping[tuple[str, str], float]) -> ModelShape:
    """The shape of a model from its spec.json.

    Args:
        path: the file.
        alphas: scales of what each target reads of each source, from the model itself; empty if that is not there.

    Raises:
        ValueError: the file does not hold a model's spec.
    """
    try:
        model: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))["model"]
        encoders = {
            str(name): (str(encoder["kind"]).replace("_", " "), _shape(encoder))
            for name, encoder in model["encoders"].items()
        }
        fusion = model["fusion"]
        kind = str(fusion["kind"])
        read: dict[tuple[str, str], float | None] = dict(alphas)
        if not read and len(encoders) > 1 and "topology" in fusion:
            read = dict.fromkeys(pairs(fusion["topology"], tuple(encoders)))
        return ModelShape(
            encoders,
            int(model["channels"]),
            int(model["time_steps"]),
            str(model["neuron"]["kind"]).upper(),
            METHODS.get(kind, kind.replace("_", " ")),
            read,
            str(model["readout"].get("combine", "")),
            int(model["num_classes"]),
        )
    except (KeyError, TypeError, AttributeError, RecursionError) as error:
        raise ValueError(f"{path} holds no spec of a model: {error}") from None


def model_picture(model: ModelShape) -> Markup:
    """The picture as an `<svg>` element in the page's colors."""
    names = list(model.encoders)
    height = TOP + LANE * len(names) + 8
    middle = {name: TOP + LANE * row + LANE / 2 - 6 for row, name in enumerate(names)}
    color = {name: COLORS[row % len(COLORS)] for row, name in enumerate(names)}
    parts: list[Markup] = []
    fused = len(names) > 1
    headings = [(75, "input"), (250, "encoder"), (705, "readout")]
    if fused:
        headings.append((465, "fusion"))
    parts += [_text(x, 20, text, "mid", quiet=True) for x, text in headings]
    if fused:
        parts.append(_box(365, TOP - 26, 200, LANE * len(names) + 18, dashed=True))
        parts.append(_text(465, TOP - 8, model.method, "mid", small=True))
    for name, y in middle.items():
        kind, shape = model.encoders[name]
        parts += [
            _box(5, y - 26, 140, 52, edge=color[name]),
            _text(75, y - 4, name, "mid", bold=True),
            _text(75, y + 15, shape, "mid", small=True, quiet=True),
            _arrow(145, y, 180, y),
            _box(180, y - 26, 140, 52),
            _text(250, y - 4, kind, "mid"),
            _text(250, y + 15, f"{model.channels} channels", "mid", small=True, quiet=True),
        ]
        if not fused:
            parts.append(_arrow(320, y, 630, y))
            continue
        parts += [_arrow(320, y, 388, y), _dot(393, y, color[name], 5), _line(398, y, 528, y, "currentColor", 1.2)]
        parts += [_arrow(546, y, 630, y)]
    parts += _readings(model, middle, color)
    if fused:
        for y in middle.values():
            parts += [_dot(537, y, "var(--paper)", 8, edge=True), _text(537, y + 5, "+", "mid")]
    low, high = min(middle.values()), max(middle.values())
    parts += [
        _box(630, low - 30, 150, high - low + 60),
        _text(705, (low + high) / 2 - 4, f"{model.classes:,} classes", "mid", bold=True),
        _text(705, (low + high) / 2 + 15, _joined(model.readout) if fused else "", "mid", small=True, quiet=True),
    ]
    description = escape(describe(model))
    return Markup('<svg class="model" viewBox="0 0 {} {}" role="img" aria-label="{}">{}</svg>').format(
        WIDTH, height, description, Markup("").join(parts)
    )


def describe(model: ModelShape) -> str:
    """The picture in words."""
    encoders = "; ".join(
        f"{name}{f' ({shape})' if shape else ''} by a {kind} encoder" for name, (kind, shape) in model.encoders.items()
    )
    read = ", ".join(f"{target} reads {source}" for target, source in model.pairs)
    return one_line(
        f"{encoders}. Fusion: {model.method}{': ' + read if read else ''}. Readout into {model.classes:,} classes."
    )


def caption(model: ModelShape) -> str:
    """What to know beside the picture."""
    text = f"{model.neuron} neurons, {model.time_steps} time steps."
    scales = {scale for scale in model.pairs.values() if scale is not None}
    if len(scales) == 1:
        text += f" What a modality reads from another is scaled by alpha = {scales.pop():.3g} and added to its tokens."
    elif scales:
        text += " What a modality reads from another is scaled by the number on its line and added to its tokens."
    return text


def _readings(model: ModelShape, middle: Mapping[str, float], color: Mapping[str, str]) -> list[Markup]:
    """A line from each source to each of its targets, with its scale where they differ."""
    parts: list[Markup] = []
    several = len({scale for scale in model.pairs.values() if scale is not None}) > 1
    for (target, source), scale in model.pairs.items():
        y, to = middle[source], middle[target]
        parts.append(_arrow(397, y, 530, to + (7 if y > to else -7), color[source], 1.8))
        if several and scale is not None and len(middle) <= 4:
            at = 0.24 + 0.12 * list(middle).index(target)
            parts.append(_text(397 + 133 * at, y + (to - y) * at - 4, f"{scale:.3g}", "start", small=True))
    return parts


def _shape(encoder: Mapping[str, Any]) -> str:
    """What goes into an encoder, by the fields of its spec; "" where they do not tell."""
    if shape := encoder.get("input_shape"):
        return " × ".join(map(str, shape))
    return f"{encoder['in_channels']} channels" if "in_channels" in encoder else ""


def _joined(combine: str) -> str:
    return {"add": "features added up", "concat": "features side by side"}.get(combine, combine.replace("_", " "))


def _box(
    x: float, y: float, width: float, height: float, edge: str = "var(--quiet)", *, dashed: bool = False
) -> Markup:
    extra = Markup(' stroke-dasharray="4 4"') if dashed else ""
    fill = "none" if dashed else "var(--raised)"
    return Markup(
        '<rect x="{:g}" y="{:g}" width="{:g}" height="{:g}" rx="7" fill="{}" stroke="{}" stroke-width="1.4"{}/>'
    ).format(x, y, width, height, fill, edge, extra)


def _text(
    x: float, y: float, text: str, anchor: str, *, bold: bool = False, small: bool = False, quiet: bool = False
) -> Markup:
    text = one_line(text)
    short = text if len(text) <= LONGEST + 12 * small else f"{text[: LONGEST + 12 * small - 1]}…"
    look = f"font-size:{12.5 if small else 14.5}px" + (";font-weight:600" if bold else "")
    title = Markup("<title>{}</title>").format(text) if short != text else ""
    return Markup('<text x="{:g}" y="{:g}" text-anchor="{}" fill="{}" style="{}">{}{}</text>').format(
        x, y, "middle" if anchor == "mid" else anchor, "var(--quiet)" if quiet else "currentColor", look, title, short
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
