"""What a page tells of a run and of a study, section by section; the templates only put it into words and tables."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
from markupsafe import Markup

from scmrl.commands.evaluate import mark_of
from scmrl.console.tables import DataTable, first_and_last
from scmrl.energy.output import make_tables as make_energy_tables
from scmrl.engine.diagnostics import SATURATED, SILENT
from scmrl.engine.metrics import ConfusedPair, class_scores, confused_pairs
from scmrl.report.alone import AloneRun, missing_alone
from scmrl.report.drawings import Drawing, confusion_picture, learning_curves
from scmrl.report.findings import Findings
from scmrl.report.folders import RunFiles, StudyFiles
from scmrl.report.layer_names import layer_name
from scmrl.report.model_picture import ModelShape, caption, model_picture, read_shape
from scmrl.report.pictures import Picture, Shown
from scmrl.report.settings import Setting, unusual
from scmrl.report.stored import ClassRow
from scmrl.report.verdict import verdict
from snn_datasets.base.card import DatasetCard
from snn_fusion.specs.files import to_yaml

WIDEST = 40
"""Classes up to which a confusion matrix is a table."""
MOST_CLASSES = 60
"""Classes up to which each has a row of scores."""
MOST_MISTAKES = 10
PARTS = {"encoders": "encoders", "fusion": "cross-modal fusion", "readout": "readout"}
"""What the parts of a model are called."""


@dataclass(frozen=True)
class EnergyFigure:
    """Energy of a sample, by one convention."""

    convention: str
    joules: float
    of_dense: float | None
    """As a share of what the same network without spikes takes for one time step; None where that computes nothing."""


@dataclass(frozen=True)
class LayerRate:
    """Firing rates of a layer: at the first and the last step of training, and over the evaluated split."""

    layer: str
    first: float | None
    last: float | None
    now: float | None

    @property
    def newest(self) -> float:
        """The latest rate there is."""
        return next(rate for rate in (self.now, self.last, self.first) if rate is not None)

    @property
    def remark(self) -> str:
        """What asks for attention, or ""."""
        return "silent" if self.newest < SILENT else "saturated" if self.newest > SATURATED else ""


@dataclass(frozen=True)
class RunSection:
    """A run as the page tells it."""

    id: str
    name: str
    files: RunFiles
    found: Findings
    examples: Sequence[Shown]
    left_out: int
    """Examples for which there was no room."""
    alone: Sequence[AloneRun] = ()
    """Comparable runs on one modality each."""

    @cached_property
    def verdict(self) -> str:
        """The run in one sentence."""
        return verdict(self.accuracy, self.confusion, self.found.evaluation, split=self.split, alone=self.alone)

    @cached_property
    def shape(self) -> ModelShape | None:
        """The model as its spec tells it; None where there is no spec that can be read."""
        try:
            return read_shape(self.files.folder / "spec.json", self.found.alphas)
        except (ValueError, OSError):
            return None

    @property
    def picture(self) -> Markup:
        """The model as a picture."""
        assert self.shape is not None
        return model_picture(self.shape)

    @property
    def picture_caption(self) -> str:
        """What to know beside the picture."""
        assert self.shape is not None
        return caption(self.shape)

    @property
    def never_alone(self) -> list[str]:
        """Modalities of several that no comparable run was trained on alone."""
        modalities = self.files.summary.modalities
        return missing_alone(modalities, self.alone) if len(modalities) > 1 else []

    @property
    def contents(self) -> list[tuple[str, str]]:
        """Anchors and headings of what it tells."""
        there = {
            "model": ("Model", self.shape is not None),
            "alone": ("Modalities alone", bool(self.alone)),
            "missing": (
                "Missing modalities",
                len(self.found.evaluation.subsets) > 1 if self.found.evaluation else False,
            ),
            "classes": ("Scores by class", True),
            "confusion": ("Confusion matrix", True),
            "energy": ("Energy", self.found.energy is not None),
            "branch": ("Cross-modal fusion", bool(self.found.alphas)),
            "rates": ("Firing rates", True),
            "learning": ("Learning curves", True),
            "samples": ("Explained samples", bool(self.examples or self.left_out)),
            "data": ("Dataset", True),
            "settings": ("Settings", True),
        }
        return [(anchor, heading) for anchor, (heading, shown) in there.items() if shown]

    @property
    def missing(self) -> dict[str, list[str]]:
        """What the page lacks, by the reason."""
        reasons: dict[str, list[str]] = {}
        for each in self.found.missing:
            reasons.setdefault(each.why, []).append(each.what)
        return reasons

    @property
    def card(self) -> DatasetCard:
        """What the run was trained on."""
        return self.files.experiment.data.card()

    @property
    def settings(self) -> list[Setting]:
        """Settings that are not the defaults."""
        return unusual(self.files.experiment)

    @property
    def yaml(self) -> str:
        """All settings."""
        return to_yaml(self.files.experiment)

    @property
    def notes(self) -> list[str]:
        """What one has to know before reading numbers on the data."""
        found = self.found.evaluation.notes if self.found.evaluation is not None else ()
        return list(dict.fromkeys([*self.card.notes, *found]))

    @property
    def command(self) -> str:
        """The command line that started it."""
        assert self.files.environment is not None
        return shlex.join(self.files.environment.command)

    @property
    def energies(self) -> list[EnergyFigure]:
        """Energy of a sample by both conventions, which are never told one without the other."""
        energy = self.found.energy
        if energy is None:
            return []
        twin = energy.totals.dense_twin.energy_j
        return [
            EnergyFigure(name, cost.energy_j, cost.energy_j / twin if twin else None)
            for name, cost in (("papers' convention", energy.totals.paper), ("strict count", energy.totals.strict))
        ]

    @property
    def energy(self) -> list[DataTable]:
        """Operations and energy of one inference, as tables; of all layers together first."""
        energy = self.found.energy
        if energy is None:
            return []
        mark = mark_of(energy.split, self.files.summary.selection)
        blocks = make_energy_tables(energy.model_dump())
        return [replace(each, title=f"{each.title} ({mark})") if mark else each for each in blocks]

    @property
    def split(self) -> str:
        """The split that the scores are of."""
        return self.found.evaluation.split if self.found.evaluation is not None else "test"

    @property
    def mark(self) -> str:
        """What the tables of scores are marked with, or ""."""
        evaluation = self.found.evaluation
        return evaluation.mark if evaluation is not None else self.test_mark

    @property
    def test_mark(self) -> str:
        """What everything that was seen on the test split is marked with, or ""."""
        return mark_of("test", self.files.summary.selection)

    @property
    def selects_on_test(self) -> bool:
        """Whether what training calls validation is the test split."""
        return self.files.summary.selection == "published"

    @property
    def n(self) -> int:
        """Samples that the scores are of."""
        return self.found.evaluation.n if self.found.evaluation is not None else self.files.summary.test.n

    @property
    def accuracy(self) -> float:
        """Share of those samples that went right."""
        evaluation = self.found.evaluation
        return evaluation.accuracy.value if evaluation is not None else self.files.summary.test.accuracy

    @property
    def confusion(self) -> Sequence[Sequence[int]]:
        """Counts by true class (rows) and predicted class (columns)."""
        evaluation = self.found.evaluation
        return evaluation.confusion if evaluation is not None else self.files.summary.test.confusion

    @cached_property
    def classes(self) -> Sequence[ClassRow]:
        """How every class fares."""
        if self.found.evaluation is not None:
            return self.found.evaluation.classes
        scores = class_scores(np.array(self.confusion, dtype=np.int64))
        return [
            ClassRow.model_validate(
                {"class": name, "precision": s.precision, "recall": s.recall, "f1": s.f1, "samples": s.support}
            )
            for name, s in zip(self.files.summary.classes, scores, strict=True)
        ]

    @cached_property
    def answers(self) -> list[int]:
        """How often each class was the answer."""
        return np.array(self.confusion, dtype=np.int64).sum(0).tolist()

    @cached_property
    def shown_classes(self) -> list[int]:
        """Indices of the classes that have a row: all, or of very many those with the lowest and the highest F1."""
        every = list(range(len(self.classes)))
        if len(every) <= MOST_CLASSES:
            return every
        ranked = sorted(every, key=lambda at: self.classes[at].f1)
        return [ranked[at] for at in first_and_last(len(ranked), MOST_CLASSES)]

    @cached_property
    def macro_f1(self) -> float:
        """Mean F1 over the classes that occur, among labels or predictions."""
        if self.found.evaluation is not None:
            return self.found.evaluation.macro_f1.value
        counts = np.array(self.confusion)
        occur = counts.sum(0) + counts.sum(1) > 0
        return float(np.mean([row.f1 for row, there in zip(self.classes, occur, strict=True) if there]))

    @cached_property
    def confusion_picture(self) -> str:
        """The matrix as a picture, where it is too large for a table; else ""."""
        return confusion_picture(self.confusion) if len(self.classes) > WIDEST else ""

    @cached_property
    def mistakes(self) -> list[ConfusedPair]:
        """The most frequent ones."""
        return confused_pairs(self.confusion, limit=MOST_MISTAKES)

    @cached_property
    def curves(self) -> list[Drawing]:
        """Loss and accuracy by epoch."""
        if not self.files.history:
            return []
        beside = "test (selects the epoch, as published)" if self.selects_on_test else "validation"
        return learning_curves(self.files.history, self.files.summary.best_epoch, beside=beside, name=self.id)

    @property
    def rates(self) -> dict[str, list[LayerRate]]:
        """Firing rates by part of the model."""
        first, last = self.files.summary.rates.first_step, self.files.summary.rates.last_step
        now = self.found.evaluation.rates if self.found.evaluation is not None else {}
        parts: dict[str, list[LayerRate]] = {}
        for layer in {**first, **last, **now}:
            part, _, rest = layer.partition(".")
            row = LayerRate(layer_name(layer) if rest else layer, first.get(layer), last.get(layer), now.get(layer))
            parts.setdefault(PARTS.get(part, part), []).append(row)
        return parts


@dataclass(frozen=True)
class StudySection:
    """A study as the page tells it."""

    id: str
    name: str
    files: StudyFiles
    plots: Sequence[Picture]
    left_out: Sequence[str]
    """Files of plots for which there was no room."""
