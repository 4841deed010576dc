"""The page that shows an explained run, as Markdown."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from scmrl.console.tables import escape_markdown
from scmrl.explain.explanation import Explanation
from scmrl.explain.folder import Picture
from snn_fusion import CMCI, FusionModel, NoFusion, WeightAttention

READING_FEATURES = (
    "Every mark is a sample, colored by its class; crosses are samples that the model gets wrong. Left, what the "
    "encoder of a sense gives, averaged over time steps and tokens; right, the same sense after it has read the others "
    "and passed the readout's layers. t-SNE keeps neighbors together; distances between groups and their sizes mean "
    "nothing. Below each map, how many of the ten nearest samples are of the same class, by distances in all "
    "dimensions: where that grows from left to right, classes come together."
)


@dataclass(frozen=True, eq=False)
class Shown:
    """A sample of the page."""

    id: str
    folder: str
    """Of its pictures, from the page."""
    explained: Explanation
    absent: tuple[str, ...]
    pictures: Sequence[Picture]

    @property
    def answer(self) -> str:
        """The most probable class."""
        return self.explained.classes[self.explained.answer]

    @property
    def label(self) -> str:
        """The true class."""
        assert self.explained.label is not None  # samples of a split have one
        return self.explained.classes[self.explained.label]

    @property
    def right(self) -> bool:
        """Whether the answer is the true class."""
        return self.explained.answer == self.explained.label

    @property
    def probability(self) -> str:
        """Of the answer."""
        return f"{self.explained.probabilities.max():.1%}"

    @property
    def contributions(self) -> str:
        """Of each modality that the sample has."""
        return ", ".join(f"{name} {100 * value:+.1f}" for name, value in self.explained.contribution.items())

    @property
    def line(self) -> str:
        """The sample in a line for a terminal."""
        verdict = "right" if self.right else f"wrong, it is {self.label}"
        return f"{self.id}: {self.answer} {self.probability} ({verdict}); {self.contributions} points"


def about(model: FusionModel) -> str:
    """What a reader has to know of the model's fusion method; "" where everything is there to be shown."""
    instead = "There are no attention maps between senses; what counts is found by blanking parts of the input."
    if isinstance(model.fusion, WeightAttention):
        return f"This method multiplies each sense by one weight a time step and reads no places. {instead}"
    if isinstance(model.fusion, CMCI):
        return f"This method adds all senses up to one joint representation and reads no places. {instead}"
    if isinstance(model.fusion, NoFusion):
        return f"The senses of this model do not read each other, they meet in the readout only. {instead}"
    return ""


def page(title: str, notes: Sequence[str], samples: Sequence[Shown]) -> str:
    """The whole page."""
    lines = [f"# {escape_markdown(title)}", ""]
    lines += [f"> {escape_markdown(note)}\n" for note in notes]
    lines += ["| sample | answer | probability | true class | contributions (points of probability) |"]
    lines += ["| --- | --- | ---: | --- | --- |"]
    for shown in samples:
        cells = (shown.id, shown.answer, shown.probability, shown.label, shown.contributions)
        lines += ["| " + " | ".join(map(escape_markdown, cells)) + " |"]
    lines += ["", "Contributions start at chance, 1 / (number of classes), and add up to the answer's probability.", ""]
    lines += ["How to read a kind of picture is said below the first of that kind.", ""]
    explained: set[str] = set()
    for shown in samples:
        verdict = "right" if shown.right else f"wrong, it is {shown.label}"
        lines += [f"## {escape_markdown(shown.id)}: {escape_markdown(shown.answer)} ({escape_markdown(verdict)})", ""]
        if shown.absent:
            lines += [f"This sample has no {escape_markdown(', '.join(shown.absent))}.", ""]
        for picture in shown.pictures:
            lines += [
                f"### {escape_markdown(picture.title)}",
                "",
                f"![{escape_markdown(picture.title)}]({shown.folder}/{picture.file})",
            ]
            lines.append("")
            if picture.reading not in explained:
                explained.add(picture.reading)
                lines += [escape_markdown(picture.reading), ""]
            if picture.note:
                lines += [escape_markdown(picture.note), ""]
    lines += ["## All samples before and after fusion", "", "![samples before and after fusion](features.png)", ""]
    return "\n".join([*lines, READING_FEATURES, ""])
