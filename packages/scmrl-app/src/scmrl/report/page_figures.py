"""The figures of the HTML report: explained samples and study plots, within a size budget."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import chain

from markupsafe import Markup
from matplotlib.figure import Figure

from scmrl.explain.figures import input_panels, raster_figure, residual_figure
from scmrl.plots.svg import data_url, inline_svg
from scmrl.report.analysis import Example
from scmrl.report.folders import StudyFiles

MAX_CHARACTERS = 1_600_000
"""Of all figures of a page together, so that the page stays below 2 MB."""
MAX_CLASSES = 5
"""Class probabilities listed per sample."""
MEDIA_TYPES = {".svg": "image/svg+xml", ".png": "image/png"}


class FigureBudget:
    """The number of characters that are left for figures."""

    def __init__(self, characters: int = MAX_CHARACTERS) -> None:
        self.left = characters

    def reserve(self, *figures: PageFigure) -> bool:
        """Return whether all these figures fit, and subtract their size if they do."""
        size = sum(len(figure.content) for figure in figures)
        if size > self.left:
            return False
        self.left -= size
        return True


@dataclass(frozen=True)
class PageFigure:
    """A figure with its caption."""

    title: str
    content: Markup
    """An element with an alternative text."""


@dataclass(frozen=True)
class SampleCard:
    """An explained sample, ready for the template."""

    id: str
    correct: bool
    predicted: str
    true_class: str
    probabilities: Sequence[tuple[str, float]]
    """Of the most probable classes and of the true one."""
    contributions: Sequence[tuple[str, float]]
    absent: Sequence[str]
    inputs: Sequence[Sequence[PageFigure]]
    """By modality, the input and its saliency map."""
    internals: Sequence[PageFigure]
    """Spikes by layer, and residuals by time step."""

    @property
    def figures(self) -> list[PageFigure]:
        """All figures of the sample."""
        return [*chain(*self.inputs), *self.internals]


def sample_card(example: Example, *, name: str) -> SampleCard:
    """Draw an explained sample.

    Args:
        example: the sample.
        name: prefix of the identifiers in its SVGs; unique in the page.
    """
    explanation = example.explanation
    assert explanation.label is not None
    predicted, true_class = explanation.classes[explanation.prediction], explanation.classes[explanation.label]
    listed = [int(k) for k in (-explanation.probabilities).argsort(kind="stable")][:MAX_CLASSES]
    if explanation.label not in listed:
        listed[-1] = explanation.label
    sample = f"sample {example.id}"
    inputs = [
        [
            PageFigure(title, inline_svg(figure, name=f"{name}-{modality}-{number}", alt=f"{title}, {sample}"))
            for number, (title, figure) in enumerate(input_panels(explanation, modality), 1)
        ]
        for modality in explanation.inputs
    ]
    drawings: dict[str, tuple[str, Figure]] = {}
    if explanation.rasters:
        drawings["spikes"] = ("which neurons fire at which time step, layer by layer", raster_figure(explanation))
    if explanation.residuals:
        drawings["residuals"] = ("mean |alpha · residual| at each time step", residual_figure(explanation))
    elif explanation.weights:
        drawings["weights"] = ("the weight of each modality at each time step", residual_figure(explanation))
    internals = [
        PageFigure(title, inline_svg(figure, name=f"{name}-internal-{number}", alt=f"{alt}, {sample}"))
        for number, (title, (alt, figure)) in enumerate(drawings.items(), 1)
    ]
    return SampleCard(
        example.id,
        example.correct,
        predicted,
        true_class,
        [(explanation.classes[k], float(explanation.probabilities[k])) for k in listed],
        list(explanation.contributions.items()),
        example.absent,
        inputs,
        internals,
    )


def study_figure(study: StudyFiles, number: int) -> PageFigure:
    """Read one plot of a study.

    Raises:
        ValueError: the file is missing.
    """
    plot = study.results.plots[number]
    path = study.folder / plot.file
    if not path.is_file():
        raise ValueError(f"{study.folder / 'results.json'} names the plot {plot.file}, which is missing")
    url = data_url(path.read_bytes(), MEDIA_TYPES[path.suffix])
    return PageFigure(plot.title, Markup('<img src="{}" alt="{}">').format(url, plot.title))
