"""Draw an input, and what belongs to its places over it.

What is not a picture itself is drawn on nothing, in black and in colors that stay apart on light and on dark paper:
gray is black that lets the paper through, so that a page may take its own ink for black.
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
from scmrl.explain.geometry import Floats
from scmrl.report.figures import BLUE, ORANGE, clean

HEAT = LinearSegmentedColormap.from_list("heat", [(*to_rgb(ORANGE), 0.0), (1.0, 0.35, 0.0, 0.4), (0.9, 0.1, 0.0, 0.7)])
"""From nothing to much. It never covers wholly: the picture below stays to be seen everywhere."""
DROP_AND_RISE = LinearSegmentedColormap.from_list(
    "drop and rise", [(0.1, 0.35, 1.0, 0.7), (0.6, 0.6, 0.6, 0.0), (1.0, 0.3, 0.0, 0.7)]
)
PAPER = 0.6
"""Brightness of what lies below the colors in a key."""
HALF = 0.5
"""Of a scale, where a line is drawn round a region; a scale begins at 0, or at most at this share of its end."""
MOST_LINES = 8
"""Channels up to which a series is drawn as lines."""
FAINT, MIDDLE = 0.12, 0.6
"""How much black covers its paper: of the lines of a grid, and of what is gray."""
SHARP = "none"
"""Interpolation of pictures: none at all, so that an SVG holds the pixels themselves."""


def plain(text: str) -> str:
    """Text that matplotlib shows as it is: names come from files and are no formulas."""
    return one_line(text).replace("$", r"\$")


def draw_places(
    figure: Figure | SubFigure, explained: Explanation, modality: str, values: Floats, *, title: str, label: str
) -> None:
    """Draw one number a place over the input: as heat over a picture, as bars below anything else.

    The heat lets the picture through, and a line surrounds what is above the middle of its scale. Where numbers
    fall below 0, colors diverge from there. Tokens that have no place in the input are bars alone.

    Args:
        figure: where to draw.
        explained: what was found of the sample.
        modality: whose input it is.
        values: a map of the modality's plane, or one number a token.
        title: of the panel; "" for none.
        label: of the numbers, with their unit.
    """
    on_plane = values.shape == explained.saliency[modality].shape
    low, high = float(values.min()), float(values.max())
    signed = low < 0
    reach = max(abs(low), abs(high)) or 1.0
    colors: Colormap = DROP_AND_RISE if signed else HEAT
    # What everything has in common is no heat; but differences that hardly are any must not look large.
    least = max(0.0, min(low, HALF * reach))
    norm: Normalize = TwoSlopeNorm(0, -reach, reach) if signed else Normalize(least, reach)
    if on_plane and values.ndim == 2:
        axes = figure.add_subplot()
        gray = _brightness(explained, modality)
        below = (gray - gray.min()) / max(float(np.ptp(gray)), 1e-6)
        heat: NDArray[Any] = colors(norm(values))
        axes.imshow(covered(heat, below), origin=_origin(explained, modality), interpolation=SHARP)
        _outline(axes, values, [-HALF * reach, HALF * reach] if signed else [least + HALF * (reach - least)])
        _name_axes(axes, explained, modality)
        # An inset is as tall as the picture, whatever its shape.
        key = ListedColormap(covered(colors(np.linspace(0, 1, 256)), np.full(256, PAPER)))
        bar = figure.colorbar(ScalarMappable(norm, key), cax=axes.inset_axes((1.03, 0, 0.05, 1)))
        bar.set_label(label)
    else:
        if on_plane:
            above, axes = figure.subplots(2, 1, sharex=True, height_ratios=(1.2, 1))
            draw_input(above, explained, modality)
            above.set_xlabel("")
        else:
            above = axes = figure.subplots()
        # Their height tells how much: shades of it would be lost on one paper or the other.
        axes.bar(np.arange(len(values)), values, width=0.9, color=np.where(values < 0, BLUE, ORANGE))
        axes.set_xlabel(_place_name(explained, modality) if on_plane else "token (they have no place in the input)")
        axes.set_ylabel(label.replace(" (", "\n("), fontsize=8)
        axes.set_ylim(-1.08 * reach if signed else 0, 1.08 * reach)
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        clean(axes)
        axes = above
    if title:
        axes.set_title(titled(title, values), fontsize=10)


def covered(colors: NDArray[Any], brightness: NDArray[Any]) -> NDArray[Any]:
    """Colors [..., 4] of red, green, blue and opacity over gray of that brightness [...]; red, green, blue [..., 3]."""
    opacity = colors[..., 3:]
    return opacity * colors[..., :3] + (1 - opacity) * brightness[..., None]


def _outline(axes: Axes, values: Floats, at: Sequence[float]) -> None:
    """A line, white in a dark one, round the regions beyond these values."""
    levels = [level for level in at if float(values.min()) < level < float(values.max())]
    if levels and min(values.shape) > 1:
        # Not quite black: a page may take its own ink for black.
        axes.contour(values, levels, colors="#101010", linewidths=1.8, linestyles="-", alpha=0.6)
        axes.contour(values, levels, colors="#ffffff", linewidths=0.8, linestyles="-")


def titled(title: str, values: Floats) -> str:
    """A panel's title, which tells where there is nothing to see."""
    return title if values.any() else f"{title}: none"


def draw_input(axes: Axes, explained: Explanation, modality: str) -> None:
    """Draw the input alone: pictures as pictures, series as lines or rows, readings as bars."""
    value, places = explained.inputs[modality], explained.places[modality]
    timed = modality in explained.timed
    if explained.saliency[modality].ndim == 2:
        _draw_picture(axes, explained, modality)
        return
    axes.set_xlabel(_place_name(explained, modality))
    if places == "vector" and not timed:
        axes.bar(np.arange(len(value)), value, width=0.9, color="black", alpha=MIDDLE)
        axes.set_ylabel("value")
        clean(axes)
        return
    if places == "vector":
        rows, row_name = value, "time step"
    else:
        rows, row_name = value.mean(0) if timed else value, "channel"
        rows = rows.reshape(len(rows), -1)
        rows = rows.T if places == "tokens" else rows
    if places == "series" and len(rows) <= MOST_LINES:
        for number, row in enumerate(rows):
            axes.plot(row, linewidth=1, color="black", alpha=1 - 0.65 * number / max(1, len(rows) - 1))
        axes.set_ylabel("value")
        axes.grid(color="black", alpha=FAINT, linewidth=0.6)
        clean(axes)
        return
    # Rows are as tall as the panel allows; a picture of few rows would else be a thin line.
    axes.imshow(rows, cmap="gray_r", aspect="auto", interpolation=SHARP)
    axes.set_ylabel(row_name)
    axes.yaxis.set_major_locator(MaxNLocator(integer=True))


def shown_step(explained: Explanation, modality: str) -> str:
    """Which time step a picture shows, in words; "" for inputs without time."""
    if modality not in explained.timed or explained.places[modality] == "vector":
        return ""
    steps = len(explained.inputs[modality])
    if explained.kinds[modality] == "video":
        return f"step {steps // 2 + 1} of {steps}"
    return f"mean of {steps} steps"


def _draw_picture(axes: Axes, explained: Explanation, modality: str) -> None:
    """Three channels of a picture are its colors, two of events on (orange) and off (blue); else their mean."""
    value, kind = _channels(explained, modality), explained.kinds[modality]
    origin = _origin(explained, modality)
    if len(value) == 3 and kind in ("image", "video"):
        span = max(float(np.ptp(value)), 1e-6)
        axes.imshow(np.moveaxis((value - value.min()) / span, 0, 2), origin=origin, interpolation=SHARP)
    elif of_two_inks(explained, modality):
        # As inks that cover whatever paper there is: where a place has both, they make pink instead of canceling.
        off, on = (value / max(float(value.max()), 1e-6)).clip(0, 1)[..., None]
        most = np.maximum(on, off)
        ink = np.maximum(on * np.array(to_rgb(ORANGE)), off * np.array(to_rgb(BLUE))) / np.maximum(most, 1e-6)
        axes.imshow(np.concatenate([ink, most], 2), origin=origin, interpolation=SHARP)
    else:
        axes.imshow(value.mean(0), cmap="gray", origin=origin, interpolation=SHARP)
    _name_axes(axes, explained, modality)


def of_two_inks(explained: Explanation, modality: str) -> bool:
    """Whether an input is a picture with an ink for what turns on and one for what turns off."""
    if explained.kinds[modality] != "events" or explained.saliency[modality].ndim != 2:
        return False
    return len(_channels(explained, modality)) == 2


def _brightness(explained: Explanation, modality: str) -> Floats:
    """A picture in one channel; for events how many there were."""
    return _channels(explained, modality).mean(0)


def _channels(explained: Explanation, modality: str) -> Floats:
    """A picture [C, H, W]: the middle step of a video, the mean over the steps of what else has time."""
    value = explained.inputs[modality]
    if modality in explained.timed:
        value = value[len(value) // 2] if explained.kinds[modality] == "video" else value.mean(0)
    return value


def _name_axes(axes: Axes, explained: Explanation, modality: str) -> None:
    sound = explained.kinds[modality] == "waveform"
    axes.set_xlabel("time (frames)" if sound else "column (pixels)")
    axes.set_ylabel("frequency (bands)" if sound else "row (pixels)")
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_major_locator(MaxNLocator(4, integer=True))
    axes.tick_params(labelsize=8)


def _origin(explained: Explanation, modality: str) -> Any:
    """Low frequencies are at the bottom of a spectrogram, the first row at the top of a picture."""
    return "lower" if explained.kinds[modality] == "waveform" else "upper"


def _place_name(explained: Explanation, modality: str) -> str:
    names = {"series": "place in the series (samples)", "vector": "number of the reading", "tokens": "token"}
    return names[explained.places[modality]]
