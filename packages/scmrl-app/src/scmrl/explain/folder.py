"""The folder that `scmrl explain` leaves: pictures and numbers by sample, and a page that shows them."""

# PyTorch and matplotlib leave types of their own open.
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
from matplotlib import rc_context
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure

from scmrl.explain.explanation import Explanation
from scmrl.explain.panels import of_two_inks
from scmrl.explain.pictures import (
    answer_picture,
    attention_picture,
    input_picture,
    occlusion_picture,
    raster_picture,
    residual_picture,
)
from scmrl.report.figures import write
from scmrl.run_folder.atomic import atomic_write, write_text

FORMAT_VERSION = 1
"""Of explanation.json and explain.json; raised when what is there changes its meaning."""
OURS = {"index.md", "explain.json", "samples", "features.png", "features.svg"}
"""What the folder holds."""


@dataclass(frozen=True)
class Picture:
    """A picture beside the page that shows it."""

    file: str
    """Its PNG, from the sample's folder; an SVG of the same name lies beside it."""
    title: str
    reading: str
    """How to read pictures of its kind."""
    note: str = ""
    """What holds for this one alone."""


def check_out(out: Path) -> None:
    """Refuse a folder that holds anything but an earlier explanation.

    Raises:
        ValueError: it is a file, or not empty and something else.
    """
    if out.exists() and not out.is_dir():
        raise ValueError(f"--out {out} is a file; name a folder that is new or empty, or one of an earlier explanation")
    if not out.absolute().parent.is_dir():
        raise ValueError(f"--out {out}: there is no folder {out.absolute().parent}")
    held = {path.name for path in out.iterdir()} if out.is_dir() else set[str]()
    if held and "explain.json" not in held:
        raise ValueError(
            f"--out {out} is not empty and holds no earlier explanation; name a folder that is new or empty"
        )
    if foreign := sorted(held - OURS):
        raise ValueError(f"--out {out} holds {foreign[0]}, which is not of an earlier explanation; move it elsewhere")


def put_in_place(made: Path, out: Path) -> None:
    """Let a finished folder take the place of an earlier one."""
    if out.is_dir():
        shutil.rmtree(out)
    made.rename(out)


def sample_folder(number: int, sample: str) -> str:
    """A name for a sample's folder that any file system takes: ids may hold slashes and anything else."""
    return f"{number:02d}-" + (re.sub(r"[^A-Za-z0-9_-]+", "-", sample).strip("-")[:60] or "sample")


def write_sample(folder: Path, sample: str, explained: Explanation, absent: tuple[str, ...]) -> list[Picture]:
    """Write a sample's numbers and pictures into its new folder; what there is to show of it."""
    folder.mkdir(parents=True)
    text = json.dumps(contents(sample, explained, absent), allow_nan=False)
    write_text(folder / "explanation.json", text + "\n")
    pictures: list[Picture] = []
    for picture, figure in drawn(explained):
        save(figure, folder / picture.file)
        pictures.append(picture)
    return pictures


def save(figure: Figure, path: Path) -> None:
    """Save a figure as `path`, a PNG, and as an SVG beside it; the same figure always gives the same files."""
    with warnings.catch_warnings(), rc_context({"svg.hashsalt": "scmrl"}):
        # Names of classes may hold signs that the font lacks; a box stands for them.
        warnings.filterwarnings("ignore", "Glyph .* missing from font")
        write(figure, path)
        figure.set_layout_engine("none")  # found once, good for both
        FigureCanvasSVG(figure)
        with atomic_write(path.with_suffix(".svg")) as part:
            figure.savefig(part, format="svg", facecolor="white", metadata={"Date": None})


def drawn(explained: Explanation) -> Iterator[tuple[Picture, Figure]]:
    """Every picture of a sample, one after the other."""
    yield (
        Picture(
            "answer.png",
            "answer",
            "Left, the probabilities of the most probable classes. Right, how the answer comes about: from chance on, "
            "each sense adds its contribution (its Shapley value, in points of probability) or, in orange, takes some "
            "away.",
        ),
        answer_picture(explained),
    )
    for name in explained.inputs:
        read = (
            "how much of each place the model read, over all who read this sense"
            if explained.saliency_from[name] == "attention"
            else "how much the answer suffers when a place is blanked, because nothing tells what was read here"
        )
        inks = "Orange are on events, blue off events, pink are both." if of_two_inks(explained, name) else ""
        yield (
            Picture(
                f"input-{name}.png",
                f"{name}: input and what was read",
                f"The input as the model got it, and {read}; the strongest place is 1. Much read is not the same as "
                "important: compare the next picture. A line surrounds what is above the middle of the scale.",
                inks,
            ),
            input_picture(explained, name),
        )
        yield (
            Picture(
                f"occlusion-{name}.png",
                f"{name}: what the answer rests on",
                "Each part of the input was blanked once. Where it is orange, the answer's probability fell by so many "
                "points: the answer rests on it. Where it is blue, the probability rose.",
            ),
            occlusion_picture(explained, name),
        )
    for target, source in explained.attention:
        own = target == source
        yield (
            Picture(
                f"attention-{target}-reads-{source}.png",
                f"{target} reads {'itself' if own else source}",
                (
                    "How much of each place was read by the others of the same modality"
                    if own
                    else "Left, which places of the reader did the reading; right, which places of the other they read"
                )
                + ": coinciding spikes of queries, keys and values, over all heads and time steps. At 1 a place took "
                "as much part as if all were alike.",
                "" if explained.attention[target, source].any() else "Nothing was read here: no spikes coincide.",
            ),
            attention_picture(explained, (target, source)),
        )
    yield (
        Picture(
            "spikes.png",
            "spikes",
            "One strip a layer: time runs from top to bottom, a mark is a unit that fires. The number at the right is "
            "the share that fires. Empty strips are silent layers and pass nothing on; lines from top to bottom are "
            "units that fire at every step and tell nothing about time.",
        ),
        raster_picture(explained),
    )
    yield (
        Picture(
            "residuals.png",
            "what is added, step by step",
            "How large what each sense reads from another is at each time step, alpha included, on average over tokens "
            "and channels (tokens themselves are 0, 1 or a little more). A line at 0 means that nothing is read. For a "
            "method that weighs senses instead, the weights.",
        ),
        residual_picture(explained),
    )


def contents(sample: str, explained: Explanation, absent: tuple[str, ...]) -> dict[str, Any]:
    """An explanation in numbers, as explanation.json holds it; inputs are left out."""

    def listed(values: Any) -> Any:
        return np.asarray(values, np.float64).round(6).tolist()

    return {
        "format_version": FORMAT_VERSION,
        "id": sample,
        "classes": list(explained.classes),
        "probabilities": listed(explained.probabilities),
        "answer": explained.answer,
        "label": explained.label,
        "absent": list(absent),
        "chance": 1 / len(explained.classes),
        "contribution": explained.contribution,
        "places": explained.places,
        "attention": [
            {"target": t, "source": s, "read": listed(values), "reading": listed(explained.reading[t, s])}
            for (t, s), values in explained.attention.items()
        ],
        "saliency": {
            name: {"from": explained.saliency_from[name], "values": listed(values)}
            for name, values in explained.saliency.items()
        },
        "occlusion": {name: listed(values) for name, values in explained.occlusion.items()},
        "weights": {name: listed(values) for name, values in explained.weights.items()},
        "residuals": [
            {"target": t, "source": s, "steps": listed(values)} for (t, s), values in explained.residuals.items()
        ],
        "rasters": {
            layer: ["".join("01"[int(fires)] for fires in step) for step in spikes]
            for layer, spikes in explained.rasters.items()
        },
    }
