"""The folder that `scmrl explain` writes: figures and numbers by sample."""

# PyTorch and matplotlib are partly untyped.
# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false
from __future__ import annotations

import json
import re
import shutil
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from scmrl.explain.explanation import Explanation
from scmrl.explain.figures import (
    attention_figure,
    input_figure,
    occlusion_figure,
    prediction_figure,
    raster_figure,
    residual_figure,
)
from scmrl.explain.panels import has_on_off_channels
from scmrl.plots.files import save_png, save_svg
from scmrl.run_folder.atomic import write_text

FORMAT_VERSION = 1
"""Of explanation.json and explain.json; incremented when the meaning of their content changes."""
OWN_FILES = {"index.md", "explain.json", "samples", "features.png", "features.svg"}


@dataclass(frozen=True)
class FigureEntry:
    """A figure and its text on the page."""

    file: str
    """Its PNG, relative to the sample's folder; an SVG of the same name is next to it."""
    title: str
    legend: str
    """How to read figures of this kind."""
    note: str = ""
    """What applies to this figure only."""


def check_out(out: Path) -> None:
    """Verify that a folder is new, empty or an earlier explanation.

    Raises:
        ValueError: it is a file or holds anything else.
    """
    if out.exists() and not out.is_dir():
        raise ValueError(f"--out {out} is a file; name a folder that is new or empty, or one of an earlier explanation")
    if not out.absolute().parent.is_dir():
        raise ValueError(f"--out {out}: there is no folder {out.absolute().parent}")
    names = {path.name for path in out.iterdir()} if out.is_dir() else set[str]()
    if names and "explain.json" not in names:
        raise ValueError(
            f"--out {out} is not empty and holds no earlier explanation; name a folder that is new or empty"
        )
    if foreign := sorted(names - OWN_FILES):
        raise ValueError(
            f"--out {out} holds {foreign[0]}, which is not part of an earlier explanation; move it elsewhere"
        )


def replace_folder(source: Path, out: Path) -> None:
    """Move a finished folder to `out` and delete the earlier one."""
    if out.is_dir():
        shutil.rmtree(out)
    source.rename(out)


def sample_folder_name(number: int, sample: str) -> str:
    """Return a folder name that any file system takes; sample ids may hold slashes and other characters."""
    return f"{number:02d}-" + (re.sub(r"[^A-Za-z0-9_-]+", "-", sample).strip("-")[:60] or "sample")


def write_sample(folder: Path, sample: str, explanation: Explanation, absent: tuple[str, ...]) -> list[FigureEntry]:
    """Write a sample's numbers and figures into its new folder; returns the figures."""
    folder.mkdir(parents=True)
    text = json.dumps(to_json(sample, explanation, absent), allow_nan=False)
    write_text(folder / "explanation.json", text + "\n")
    entries: list[FigureEntry] = []
    for entry, figure in draw_figures(explanation):
        save_figure(figure, folder / entry.file)
        entries.append(entry)
    return entries


def save_figure(figure: Figure, path: Path) -> None:
    """Save a figure as `path`, a PNG, and as an SVG next to it; the same figure always gives the same files."""
    with warnings.catch_warnings():
        # Class names may hold characters that the font lacks; a box is drawn instead.
        warnings.filterwarnings("ignore", "Glyph .* missing from font")
        save_png(figure, path)
        figure.set_layout_engine("none")  # the layout of the PNG is reused
        save_svg(figure, path.with_suffix(".svg"))


def draw_figures(explanation: Explanation) -> Iterator[tuple[FigureEntry, Figure]]:
    """Yield every figure of a sample."""
    yield (
        FigureEntry(
            "prediction.png",
            "prediction",
            "Left: the most probable classes. Right: what the probability of the predicted class consists of. Starting "
            "at chance, each modality adds its contribution (its Shapley value, in percentage points); a negative one "
            "is orange.",
        ),
        prediction_figure(explanation),
    )
    for name in explanation.inputs:
        saliency = (
            "how much of each position the model read, over all targets that read this modality"
            if explanation.saliency_source[name] == "attention"
            else "how much the prediction depends on each position, from occlusion, because there is no attention"
        )
        colors = "Orange: on events. Blue: off events. Pink: both." if has_on_off_channels(explanation, name) else ""
        yield (
            FigureEntry(
                f"input-{name}.png",
                f"{name}: input and saliency",
                f"The input of the model, and {saliency}; the maximum is 1. Attention is not importance: compare the "
                "next figure. A line surrounds values above the middle of the scale.",
                colors,
            ),
            input_figure(explanation, name),
        )
        yield (
            FigureEntry(
                f"occlusion-{name}.png",
                f"{name}: occlusion",
                "Each part of the input was blanked once. Orange: the probability of the predicted class fell by so "
                "many points, so the prediction depends on this part. Blue: the probability rose.",
            ),
            occlusion_figure(explanation, name),
        )
    for target, source in explanation.attention:
        is_self = target == source
        yield (
            FigureEntry(
                f"attention-{target}-reads-{source}.png",
                f"{target} reads {'itself' if is_self else source}",
                (
                    "How much each position was read by the other positions of the same modality"
                    if is_self
                    else "Left: how much each position of the target read. Right: how much each position of the source "
                    "was read"
                )
                + ": coinciding spikes of queries, keys and values, over all heads and time steps. 1 is uniform "
                "attention.",
                "" if explanation.attention[target, source].any() else "Nothing was read here: no spikes coincide.",
            ),
            attention_figure(explanation, (target, source)),
        )
    yield (
        FigureEntry(
            "spikes.png",
            "spikes",
            "One strip per layer: time runs from top to bottom, a mark is a spike of one unit. The number on the right "
            "is the firing rate. An empty strip is a silent layer, which passes nothing on. A vertical line is a unit "
            "that fires at every time step and carries no information about time.",
        ),
        raster_figure(explanation),
    )
    yield (
        FigureEntry(
            "residuals.png",
            "residuals by time step",
            "The mean magnitude of alpha times the residual of each pair, over tokens and channels (tokens themselves "
            "are 0, 1 or slightly more). At 0 nothing is read. For a method that weights modalities, the weights.",
        ),
        residual_figure(explanation),
    )


def to_json(sample: str, explanation: Explanation, absent: tuple[str, ...]) -> dict[str, Any]:
    """Return the content of explanation.json; the inputs are omitted."""

    def rounded(values: Any) -> Any:
        return np.asarray(values, np.float64).round(6).tolist()

    return {
        "format_version": FORMAT_VERSION,
        "id": sample,
        "classes": list(explanation.classes),
        "probabilities": rounded(explanation.probabilities),
        "prediction": explanation.prediction,
        "label": explanation.label,
        "absent": list(absent),
        "chance": 1 / len(explanation.classes),
        "contributions": explanation.contributions,
        "plane_kinds": explanation.plane_kinds,
        "attention": [
            {
                "target": target,
                "source": source,
                "of_source": rounded(values),
                "by_target": rounded(explanation.target_attention[target, source]),
            }
            for (target, source), values in explanation.attention.items()
        ],
        "saliency": {
            name: {"source": explanation.saliency_source[name], "values": rounded(values)}
            for name, values in explanation.saliency.items()
        },
        "occlusion": {name: rounded(values) for name, values in explanation.occlusion.items()},
        "weights": {name: rounded(values) for name, values in explanation.weights.items()},
        "residuals": [
            {"target": target, "source": source, "steps": rounded(values)}
            for (target, source), values in explanation.residuals.items()
        ],
        "rasters": {
            layer: ["".join("01"[int(spike)] for spike in step) for step in spikes]
            for layer, spikes in explanation.rasters.items()
        },
    }
