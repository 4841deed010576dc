"""The pictures of a page: what was explained of single samples, and the plots of studies, as long as there is room."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import chain

from markupsafe import Markup
from matplotlib.figure import Figure

from scmrl.explain.pictures import input_panels, raster_picture, residual_picture
from scmrl.report.findings import Example
from scmrl.report.folders import StudyFiles
from scmrl.report.svg import data_address, inline

ROOM = 1_600_000
"""Characters that all pictures of a page may take, so that the page stays below 2 MB."""
MOST_CLASSES = 5
"""Probabilities that are shown of a sample."""
TYPES = {".svg": "image/svg+xml", ".png": "image/png"}


class Room:
    """What is left of the room for pictures."""

    def __init__(self, characters: int = ROOM) -> None:
        self.left = characters

    def takes(self, *pictures: Picture) -> bool:
        """Whether the pictures go in together; if so they are in."""
        size = sum(len(each.content) for each in pictures)
        if size > self.left:
            return False
        self.left -= size
        return True


@dataclass(frozen=True)
class Picture:
    """A picture with its caption."""

    title: str
    content: Markup
    """An element that says what it shows to those who do not see it."""


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
    inputs: Sequence[Sequence[Picture]]
    """Of each modality, what went in and what counted in it."""
    workings: Sequence[Picture]
    """Which neurons fired, and what was read from step to step."""

    @property
    def pictures(self) -> list[Picture]:
        """All of them."""
        return [*chain(*self.inputs), *self.workings]


def shown(example: Example, *, name: str) -> Shown:
    """A sample with pictures of what went in and of what happened to it.

    Args:
        example: the sample.
        name: unique in the page; begins the identifiers in its pictures.
    """
    explained = example.explanation
    assert explained.label is not None
    answer, truth = explained.classes[explained.answer], explained.classes[explained.label]
    order = [int(place) for place in (-explained.probabilities).argsort(kind="stable")]
    places = order[:MOST_CLASSES]
    if explained.label not in places:
        places[-1] = explained.label
    sample = f"sample {example.id}"
    inputs = [
        [
            Picture(title, inline(figure, name=f"{name}-{modality}-{number}", alt=f"{title}, {sample}"))
            for number, (title, figure) in enumerate(input_panels(explained, modality), 1)
        ]
        for modality in explained.inputs
    ]
    drawings: dict[str, tuple[str, Figure]] = {}
    if explained.rasters:
        drawings["spikes"] = ("which neurons fire at which time step, layer by layer", raster_picture(explained))
    if explained.residuals:
        drawings["what was read"] = ("size of alpha times residual at each time step", residual_picture(explained))
    elif explained.weights:
        drawings["weights"] = ("what each sense is multiplied by at each time step", residual_picture(explained))
    workings = [
        Picture(title, inline(figure, name=f"{name}-working-{number}", alt=f"{alt}, {sample}"))
        for number, (title, (alt, figure)) in enumerate(drawings.items(), 1)
    ]
    return Shown(
        example.id,
        example.right,
        answer,
        truth,
        [(explained.classes[place], float(explained.probabilities[place])) for place in places],
        list(explained.contribution.items()),
        example.absent,
        inputs,
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
    address = data_address(path.read_bytes(), TYPES[path.suffix])
    return Picture(plot.title, Markup('<img src="{}" alt="{}">').format(address, plot.title))
