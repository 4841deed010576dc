"""Draw an input and maps of its plane.

Everything but images is drawn on a transparent background, in black and in colors that are distinguishable on light and
dark backgrounds. Gray is transparent black, so that a page can replace black by its text color.
"""

# matplotlib leaves the keyword arguments of its methods untyped.
# pyright: reportUnknownMemberType=false
from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Colormap, LinearSegmentedColormap, ListedColormap, Normalize, TwoSlopeNorm, to_rgb
from matplotlib.figure import Figure, SubFigure
from matplotlib.ticker import MaxNLocator
from numpy.typing import NDArray

from scmrl.console.tables import one_line
from scmrl.explain.explanation import Explanation
from scmrl.explain.geometry import Float32Array
from scmrl.plots.style import BLUE, ORANGE, clean

HEAT = LinearSegmentedColormap.from_list("heat", [(*to_rgb(ORANGE), 0.0), (1.0, 0.35, 0.0, 0.4), (0.9, 0.1, 0.0, 0.7)])
"""Never opaque: the image below stays visible."""
DROP_AND_RISE = LinearSegmentedColormap.from_list(
    "drop and rise", [(0.1, 0.35, 1.0, 0.7), (0.6, 0.6, 0.6, 0.0), (1.0, 0.3, 0.0, 0.7)]
)
COLORBAR_GRAY = 0.6
"""Brightness below the colors of a color bar."""
HALF = 0.5
"""Level of the contour lines, relative to the scale; also the largest start of a scale, relative to its end."""
MAX_LINES = 8
"""Number of channels up to which a series is drawn as lines."""
FAINT, MIDDLE = 0.12, 0.6
"""Opacity of black: of grid lines, and of gray elements."""
SHARP = "none"
"""Interpolation of images: none, so that an SVG holds the original pixels."""


def escape_math(text: str) -> str:
    """Escape dollar signs: names from files must not become formulas."""
    return one_line(text).replace("$", r"\$")


def draw_map(
    figure: Figure | SubFigure, explanation: Explanation, modality: str, values: Float32Array, *, title: str, label: str
) -> None:
    """Draw a map over the input: a transparent heat map over an image, bars below any other input.

    A line surrounds values above the middle of the scale. With negative values, colors diverge from 0. Tokens without
    a position in the input are drawn as bars only.

    Args:
        figure: figure to draw into.
        explanation: of the sample.
        modality: name of the modality.
        values: a map of the modality's plane, or one value per token.
        title: of the panel; "" for none.
        label: name of the values, with their unit.
    """
    on_plane = values.shape == explanation.saliency[modality].shape
    low, high = float(values.min()), float(values.max())
    signed = low < 0
    reach = max(abs(low), abs(high)) or 1.0
    colors: Colormap = DROP_AND_RISE if signed else HEAT
    # The scale starts at the minimum, but not so high that small differences look large.
    start = max(0.0, min(low, HALF * reach))
    norm: Normalize = TwoSlopeNorm(0, -reach, reach) if signed else Normalize(start, reach)
    if on_plane and values.ndim == 2:
        axes = figure.add_subplot()
        gray = _brightness(explanation, modality)
        below = (gray - gray.min()) / max(float(np.ptp(gray)), 1e-6)
        heat: NDArray[Any] = colors(norm(values))
        axes.imshow(blend(heat, below), origin=_origin(explanation, modality), interpolation=SHARP)
        _outline(axes, values, [-HALF * reach, HALF * reach] if signed else [start + HALF * (reach - start)])
        _name_axes(axes, explanation, modality)
        # An inset is as tall as the image, whatever its shape.
        colorbar_map = ListedColormap(blend(colors(np.linspace(0, 1, 256)), np.full(256, COLORBAR_GRAY)))
        bar = figure.colorbar(ScalarMappable(norm, colorbar_map), cax=axes.inset_axes((1.03, 0, 0.05, 1)))
        bar.set_label(label)
    else:
        if on_plane:
            above, axes = figure.subplots(2, 1, sharex=True, height_ratios=(1.2, 1))
            draw_input(above, explanation, modality)
            above.set_xlabel("")
        else:
            above = axes = figure.subplots()
        # Plain colors: shades would vanish on a light or on a dark background.
        axes.bar(np.arange(len(values)), values, width=0.9, color=np.where(values < 0, BLUE, ORANGE))
        axes.set_xlabel(
            _position_label(explanation, modality) if on_plane else "token (without a position in the input)"
        )
        axes.set_ylabel(label.replace(" (", "\n("), fontsize=8)
        axes.set_ylim(-1.08 * reach if signed else 0, 1.08 * reach)
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        clean(axes)
        axes = above
    if title:
        axes.set_title(panel_title(title, values), fontsize=10)


def blend(colors: NDArray[Any], brightness: NDArray[Any]) -> NDArray[Any]:
    """Blend RGBA colors [..., 4] over gray of a given brightness [...]; returns RGB [..., 3]."""
    opacity = colors[..., 3:]
    return opacity * colors[..., :3] + (1 - opacity) * brightness[..., None]


def _outline(axes: Axes, values: Float32Array, levels: Sequence[float]) -> None:
    """Draw contour lines at these levels, white with a dark edge."""
    levels = [level for level in levels if float(values.min()) < level < float(values.max())]
    if levels and min(values.shape) > 1:
        # Not quite black: a page replaces black by its text color.
        axes.contour(values, levels, colors="#101010", linewidths=1.8, linestyles="-", alpha=0.6)
        axes.contour(values, levels, colors="#ffffff", linewidths=0.8, linestyles="-")


def panel_title(title: str, values: Float32Array) -> str:
    """Return the title, with ": none" if all values are 0."""
    return title if values.any() else f"{title}: none"


def draw_input(axes: Axes, explanation: Explanation, modality: str) -> None:
    """Draw the input: images as images, series as lines or rows, vectors as bars."""
    value, kind = explanation.inputs[modality], explanation.plane_kinds[modality]
    timed = modality in explanation.timed
    if explanation.saliency[modality].ndim == 2:
        _draw_image(axes, explanation, modality)
        return
    axes.set_xlabel(_position_label(explanation, modality))
    if kind == "vector" and not timed:
        axes.bar(np.arange(len(value)), value, width=0.9, color="black", alpha=MIDDLE)
        axes.set_ylabel("value")
        clean(axes)
        return
    if kind == "vector":
        rows, row_name = value, "time step"
    else:
        rows, row_name = value.mean(0) if timed else value, "channel"
        rows = rows.reshape(len(rows), -1)
        rows = rows.T if kind == "tokens" else rows
    if kind == "series" and len(rows) <= MAX_LINES:
        for number, row in enumerate(rows):
            axes.plot(row, linewidth=1, color="black", alpha=1 - 0.65 * number / max(1, len(rows) - 1))
        axes.set_ylabel("value")
        axes.grid(color="black", alpha=FAINT, linewidth=0.6)
        clean(axes)
        return
    # Stretched to the panel: an image of few rows would be a thin line.
    axes.imshow(rows, cmap="gray_r", aspect="auto", interpolation=SHARP)
    axes.set_ylabel(row_name)
    axes.yaxis.set_major_locator(MaxNLocator(integer=True))


def step_label(explanation: Explanation, modality: str) -> str:
    """Describe the time step that an image shows; "" for inputs without time steps."""
    if modality not in explanation.timed or explanation.plane_kinds[modality] == "vector":
        return ""
    steps = len(explanation.inputs[modality])
    if explanation.kinds[modality] == "video":
        return f"step {steps // 2 + 1} of {steps}"
    return f"mean of {steps} steps"


def _draw_image(axes: Axes, explanation: Explanation, modality: str) -> None:
    """Draw RGB images in color, two event channels as on (orange) and off (blue), else the mean over channels."""
    value, kind = _channels(explanation, modality), explanation.kinds[modality]
    origin = _origin(explanation, modality)
    if len(value) == 3 and kind in ("image", "video"):
        span = max(float(np.ptp(value)), 1e-6)
        axes.imshow(np.moveaxis((value - value.min()) / span, 0, 2), origin=origin, interpolation=SHARP)
    elif has_on_off_channels(explanation, modality):
        # Opaque over any background; on and off together make pink instead of canceling.
        off, on = (value / max(float(value.max()), 1e-6)).clip(0, 1)[..., None]
        opacity = np.maximum(on, off)
        color = np.maximum(on * np.array(to_rgb(ORANGE)), off * np.array(to_rgb(BLUE))) / np.maximum(opacity, 1e-6)
        axes.imshow(np.concatenate([color, opacity], 2), origin=origin, interpolation=SHARP)
    else:
        axes.imshow(value.mean(0), cmap="gray", origin=origin, interpolation=SHARP)
    _name_axes(axes, explanation, modality)


def has_on_off_channels(explanation: Explanation, modality: str) -> bool:
    """Return whether an input is an image of events with an on and an off channel."""
    if explanation.kinds[modality] != "events" or explanation.saliency[modality].ndim != 2:
        return False
    return len(_channels(explanation, modality)) == 2


def _brightness(explanation: Explanation, modality: str) -> Float32Array:
    """Return the mean over channels; for events it is proportional to their number."""
    return _channels(explanation, modality).mean(0)


def _channels(explanation: Explanation, modality: str) -> Float32Array:
    """Return an image [C, H, W]: the middle step of a video, the mean over the time steps of other inputs."""
    value = explanation.inputs[modality]
    if modality in explanation.timed:
        value = value[len(value) // 2] if explanation.kinds[modality] == "video" else value.mean(0)
    return value


def _name_axes(axes: Axes, explanation: Explanation, modality: str) -> None:
    is_sound = explanation.kinds[modality] == "waveform"
    axes.set_xlabel("time (frames)" if is_sound else "column (pixels)")
    axes.set_ylabel("frequency (bands)" if is_sound else "row (pixels)")
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_major_locator(MaxNLocator(4, integer=True))
    axes.tick_params(labelsize=8)


def _origin(explanation: Explanation, modality: str) -> Any:
    """Put low frequencies at the bottom of a spectrogram, and the first row at the top of an image."""
    return "lower" if explanation.kinds[modality] == "waveform" else "upper"


def _position_label(explanation: Explanation, modality: str) -> str:
    names = {"series": "position in the series (samples)", "vector": "element", "tokens": "token"}
    return names[explanation.plane_kinds[modality]]
