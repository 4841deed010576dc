"""The pictures of a page: what was explained of single samples, and the plots of studies, as long as there is room."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from matplotlib.figure import Figure

from scmrl.explain.pictures import input_picture, raster_picture, residual_picture
from scmrl.report.findings import Example
from scmrl.report.folders import StudyFiles
from scmrl.report.svg import data_address, png

ROOM = 1_600_000
"""Characters that all pictures of a page may take, so that the page stays below 2 MB."""
DPI = 90
MOST_CLASSES = 5
"""Probabilities that are shown of a sample."""
TYPES = {".svg": "image/svg+xml", ".png": "image/png"}


class Room:
    """What is left of the room for pictures."""

    def __init__(self, characters: int = ROOM) -> None:
        self.left = characters

    def takes(self, *pictures: Picture) -> bool:
        """Whether the pictures go in together; if so they are in."""
        size = sum(len(each.address) for each in pictures)
        if size > self.left:
            return False
        self.left -= size
        return True


@dataclass(frozen=True)
class Picture:
    """A picture with its caption."""

    title: str
    alt: str
    """What it shows, for those who do not see it."""
    address: str


@dataclass(frozen=True)
class Shown:
    """A sample as a page shows it."""

    id: str
    right: bool
    answer: str
    truth: str
    probabilities: Sequence[tuple[str, float]]
    """The most probable classes, and the true one."""
    contribution: Sequence[tuple[str, float]]
    absent: Sequence[str]
    inputs: Sequence[Picture]
    workings: Sequence[Picture]
    """Which neurons fired, and what was read from step to step."""


def shown(example: Example) -> Shown:
    """A sample with pictures of what went in and of what happened to it."""
    explained = example.explanation
    assert explained.label is not None
    answer, truth = explained.classes[explained.answer], explained.classes[explained.label]
    order = [int(place) for place in (-explained.probabilities).argsort(kind="stable")]
    places = order[:MOST_CLASSES]
    if explained.label not in places:
        places[-1] = explained.label
    sample = f"sample {example.id}"
    workings: list[Picture] = []
    if explained.rasters:
        workings.append(
            _picture(
                "spikes", f"which neurons fire at which time step, layer by layer, {sample}", raster_picture(explained)
            )
        )
    if explained.residuals or explained.weights:
        workings.append(
            _picture(
                "what was read",
                f"size of alpha times residual at each time step, {sample}",
                residual_picture(explained),
            )
        )
    return Shown(
        example.id,
        example.right,
        answer,
        truth,
        [(explained.classes[place], float(explained.probabilities[place])) for place in places],
        list(explained.contribution.items()),
        example.absent,
        [
            _picture(name, f"{name} of {sample}, and where the model looked", input_picture(explained, name))
            for name in explained.inputs
        ],
        workings,
    )


def plot_of(study: StudyFiles, number: int) -> Picture:
    """A study's plot.

    Raises:
        ValueError: there is no such file.
    """
    plot = study.results.plots[number]
    path = study.folder / plot.file
    if not path.is_file():
        raise ValueError(f"{study.folder / 'results.json'} names the plot {plot.file}, which is not there")
    return Picture(plot.title, plot.title, data_address(path.read_bytes(), TYPES[path.suffix]))


def _picture(title: str, alt: str, figure: Figure) -> Picture:
    return Picture(title, alt, png(figure, dpi=DPI))
