"""Render the index.md of an explanation folder."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from scmrl.console.tables import escape_markdown
from scmrl.explain.explanation import Explanation
from scmrl.explain.folder import FigureEntry
from snn_fusion import CMCI, FusionModel, NoFusion, WeightAttention

FEATURES_LEGEND = (
    "Every mark is a sample, colored by its class; crosses are misclassified samples. Left: the output of a modality's "
    "encoder, averaged over time steps and tokens. Right: the same modality after fusion and the readout's layers. "
    "t-SNE preserves neighborhoods; distances between groups and their sizes have no meaning. Below each map: the "
    "share of the ten nearest samples that have the same class, by distances in all dimensions. If it grows from left "
    "to right, fusion improves the separation of the classes."
)


@dataclass(frozen=True, eq=False)
class ExplainedSample:
    """One section of the page."""

    id: str
    folder: str
    """Of its figures, relative to the page."""
    explanation: Explanation
    absent: tuple[str, ...]
    figures: Sequence[FigureEntry]

    @property
    def prediction(self) -> str:
        """The predicted class."""
        return self.explanation.classes[self.explanation.prediction]

    @property
    def label(self) -> str:
        """The true class."""
        assert self.explanation.label is not None  # samples of a split have a label
        return self.explanation.classes[self.explanation.label]

    @property
    def correct(self) -> bool:
        """Whether the prediction is the true class."""
        return self.explanation.prediction == self.explanation.label

    @property
    def probability(self) -> str:
        """Probability of the prediction."""
        return f"{self.explanation.probabilities.max():.1%}"

    @property
    def contributions(self) -> str:
        """Contributions of the present modalities in percentage points."""
        return ", ".join(f"{name} {100 * value:+.1f}" for name, value in self.explanation.contributions.items())

    @property
    def verdict(self) -> str:
        """Whether the prediction is correct, and if not, the true class."""
        return "correct" if self.correct else f"wrong, true class {self.label}"

    @property
    def line(self) -> str:
        """One line for a terminal."""
        return f"{self.id}: {self.prediction} {self.probability} ({self.verdict}); {self.contributions} points"


def method_note(model: FusionModel) -> str:
    """Explain why a fusion method has no attention maps; "" if it has them."""
    instead = "There are no attention maps between modalities; saliency is from occlusion."
    if isinstance(model.fusion, WeightAttention):
        return f"This method multiplies each modality by one weight per time step. {instead}"
    if isinstance(model.fusion, CMCI):
        return f"This method sums all modalities into one joint representation. {instead}"
    if isinstance(model.fusion, NoFusion):
        return f"The modalities of this model are combined in the readout only. {instead}"
    return ""


def render_markdown(title: str, notes: Sequence[str], samples: Sequence[ExplainedSample]) -> str:
    """Render the whole page."""
    lines = [f"# {escape_markdown(title)}", ""]
    lines += [f"> {escape_markdown(note)}\n" for note in notes]
    lines += ["| sample | prediction | probability | true class | contributions (percentage points) |"]
    lines += ["| --- | --- | ---: | --- | --- |"]
    for sample in samples:
        cells = (sample.id, sample.prediction, sample.probability, sample.label, sample.contributions)
        lines += ["| " + " | ".join(map(escape_markdown, cells)) + " |"]
    lines += ["", "Chance, 1 / (number of classes), plus all contributions is the probability of the prediction.", ""]
    lines += ["How to read a figure is explained below the first one of its kind.", ""]
    explained: set[str] = set()
    for sample in samples:
        title = escape_markdown(f"{sample.id}: {sample.prediction} ({sample.verdict})")
        lines += [f"## {title}", ""]
        if sample.absent:
            lines += [f"This sample has no {escape_markdown(', '.join(sample.absent))}.", ""]
        for figure in sample.figures:
            title = escape_markdown(figure.title)
            lines += [f"### {title}", "", f"![{title}]({sample.folder}/{figure.file})", ""]
            if figure.legend not in explained:
                explained.add(figure.legend)
                lines += [escape_markdown(figure.legend), ""]
            if figure.note:
                lines += [escape_markdown(figure.note), ""]
    lines += ["## All samples before and after fusion", "", "![samples before and after fusion](features.png)", ""]
    return "\n".join([*lines, FEATURES_LEGEND, ""])
