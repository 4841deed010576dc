"""The data of each section of the report, for the templates."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
from markupsafe import Markup

from scmrl.console.tables import DataTable, first_and_last
from scmrl.energy.output import make_tables as make_energy_tables
from scmrl.engine.diagnostics import SATURATED, SILENT
from scmrl.engine.metrics import ConfusedPair, class_scores, confused_pairs
from scmrl.plots.labels import layer_name
from scmrl.report.analysis import RunAnalysis
from scmrl.report.charts import LineChart, confusion_image, learning_curves
from scmrl.report.folders import RunFiles, StudyFiles
from scmrl.report.model_diagram import ModelOutline, caption, model_diagram, read_outline
from scmrl.report.page_figures import PageFigure, SampleCard
from scmrl.report.settings import ChangedSetting, non_default_settings
from scmrl.report.unimodal_runs import UnimodalRun, modalities_without_run
from scmrl.report.verdict import verdict
from scmrl.results.evaluation import mark_of
from scmrl.results.run import ClassRow
from snn_datasets.base.card import DatasetCard
from snn_fusion.specs.files import to_yaml

MAX_TABLE_CLASSES = 40
"""Number of classes up to which the confusion matrix is a table; beyond, it is an image."""
MAX_CLASSES = 60
"""Rows of class scores; of more classes, those with extreme F1 are listed."""
MAX_MISTAKES = 10
PARTS = {"encoders": "encoders", "fusion": "cross-modal fusion", "readout": "readout"}
"""Readable names of the parts of a model."""


@dataclass(frozen=True)
class EnergyEstimate:
    """Energy per sample by one convention."""

    convention: str
    joules: float
    dense_ratio: float | None
    """Relative to one time step of the same network without spikes; None if that network computes nothing."""


@dataclass(frozen=True)
class LayerRate:
    """Firing rates of a layer: at the first and last training step, and on the evaluated split."""

    layer: str
    first: float | None
    last: float | None
    evaluated: float | None

    @property
    def latest(self) -> float:
        """The latest known rate."""
        return next(rate for rate in (self.evaluated, self.last, self.first) if rate is not None)

    @property
    def state(self) -> str:
        """silent, saturated, or "" if the rate is normal."""
        return "silent" if self.latest < SILENT else "saturated" if self.latest > SATURATED else ""


@dataclass(frozen=True)
class RunSection:
    """The section of a run."""

    id: str
    name: str
    files: RunFiles
    analysis: RunAnalysis
    examples: Sequence[SampleCard]
    num_omitted: int
    """Examples that did not fit on the page."""
    unimodal: Sequence[UnimodalRun] = ()
    """Comparable runs on one modality each."""

    @cached_property
    def verdict(self) -> str:
        """The result in one sentence."""
        evaluation = self.analysis.evaluation
        return verdict(self.accuracy, self.confusion, evaluation, split=self.split, unimodal=self.unimodal)

    @cached_property
    def outline(self) -> ModelOutline | None:
        """The parts of the model; None if its spec cannot be read."""
        try:
            return read_outline(self.files.folder / "spec.json", self.analysis.alphas)
        except (ValueError, OSError):
            return None

    @property
    def diagram(self) -> Markup:
        """Diagram of the model."""
        assert self.outline is not None
        return model_diagram(self.outline)

    @property
    def diagram_caption(self) -> str:
        """Caption of the diagram."""
        assert self.outline is not None
        return caption(self.outline)

    @property
    def without_unimodal_run(self) -> list[str]:
        """Modalities of a multimodal run for which there is no comparable unimodal run."""
        modalities = self.files.summary.modalities
        return modalities_without_run(modalities, self.unimodal) if len(modalities) > 1 else []

    @property
    def contents(self) -> list[tuple[str, str]]:
        """Anchors and headings of the subsections."""
        subsections = {
            "model": ("Model", self.outline is not None),
            "unimodal": ("Unimodal runs", bool(self.unimodal)),
            "missing": (
                "Missing modalities",
                len(self.analysis.evaluation.subsets) > 1 if self.analysis.evaluation else False,
            ),
            "classes": ("Scores by class", True),
            "confusion": ("Confusion matrix", True),
            "energy": ("Energy", self.analysis.energy is not None),
            "branch": ("Cross-modal fusion", bool(self.analysis.alphas)),
            "rates": ("Firing rates", True),
            "learning": ("Learning curves", True),
            "samples": ("Explained samples", bool(self.examples or self.num_omitted)),
            "data": ("Dataset", True),
            "settings": ("Settings", True),
        }
        return [(anchor, heading) for anchor, (heading, exists) in subsections.items() if exists]

    @property
    def omissions(self) -> dict[str, list[str]]:
        """Content that the page lacks, by reason."""
        by_reason: dict[str, list[str]] = {}
        for each in self.analysis.omissions:
            by_reason.setdefault(each.reason, []).append(each.content)
        return by_reason

    @property
    def card(self) -> DatasetCard:
        """Description of the dataset."""
        return self.files.experiment.data.card

    @property
    def settings(self) -> list[ChangedSetting]:
        """Settings that are not the defaults."""
        return non_default_settings(self.files.experiment)

    @property
    def yaml(self) -> str:
        """All settings as YAML."""
        return to_yaml(self.files.experiment)

    @property
    def notes(self) -> list[str]:
        """Caveats about the data."""
        evaluation_notes = self.analysis.evaluation.notes if self.analysis.evaluation is not None else ()
        return list(dict.fromkeys([*self.card.notes, *evaluation_notes]))

    @property
    def command(self) -> str:
        """The command line of the training."""
        assert self.files.environment is not None
        return shlex.join(self.files.environment.command)

    @property
    def energy_estimates(self) -> list[EnergyEstimate]:
        """Energy per sample by both conventions; neither is reported without the other."""
        energy = self.analysis.energy
        if energy is None:
            return []
        dense = energy.totals.dense_twin.energy_j
        return [
            EnergyEstimate(name, cost.energy_j, cost.energy_j / dense if dense else None)
            for name, cost in (("papers' convention", energy.totals.paper), ("strict count", energy.totals.strict))
        ]

    @property
    def energy_tables(self) -> list[DataTable]:
        """Operations and energy of one inference; totals first."""
        energy = self.analysis.energy
        if energy is None:
            return []
        mark = mark_of(energy.split, self.files.summary.selection)
        blocks = make_energy_tables(energy.model_dump())
        return [replace(each, title=f"{each.title} ({mark})") if mark else each for each in blocks]

    @property
    def split(self) -> str:
        """The split of the scores."""
        return self.analysis.evaluation.split if self.analysis.evaluation is not None else "test"

    @property
    def mark(self) -> str:
        """Mark of the tables of scores, or ""."""
        evaluation = self.analysis.evaluation
        return evaluation.mark if evaluation is not None else self.test_mark

    @property
    def test_mark(self) -> str:
        """Mark of results on the test split, or ""."""
        return mark_of("test", self.files.summary.selection)

    @property
    def selects_on_test(self) -> bool:
        """Whether the test split selected the epoch, so that validation is the test split."""
        return self.files.summary.selection == "test"

    @property
    def n(self) -> int:
        """Number of samples in the split of the scores."""
        return self.analysis.evaluation.n if self.analysis.evaluation is not None else self.files.summary.test.n

    @property
    def accuracy(self) -> float:
        """Accuracy on the split of the scores."""
        evaluation = self.analysis.evaluation
        return evaluation.accuracy.value if evaluation is not None else self.files.summary.test.accuracy

    @property
    def confusion(self) -> Sequence[Sequence[int]]:
        """Counts by true class (rows) and predicted class (columns)."""
        evaluation = self.analysis.evaluation
        return evaluation.confusion if evaluation is not None else self.files.summary.test.confusion

    @cached_property
    def classes(self) -> Sequence[ClassRow]:
        """Scores of every class."""
        if self.analysis.evaluation is not None:
            return self.analysis.evaluation.classes
        scores = class_scores(np.array(self.confusion, dtype=np.int64))
        return [
            ClassRow.model_validate(
                {"class": name, "precision": s.precision, "recall": s.recall, "f1": s.f1, "samples": s.support}
            )
            for name, s in zip(self.files.summary.classes, scores, strict=True)
        ]

    @cached_property
    def prediction_counts(self) -> list[int]:
        """How often each class was predicted."""
        return np.array(self.confusion, dtype=np.int64).sum(0).tolist()

    @cached_property
    def listed_classes(self) -> list[int]:
        """Indices of the classes that are listed: all, or of very many those with the lowest and the highest F1."""
        indices = list(range(len(self.classes)))
        if len(indices) <= MAX_CLASSES:
            return indices
        ranked = sorted(indices, key=lambda k: self.classes[k].f1)
        return [ranked[rank] for rank in first_and_last(len(ranked), MAX_CLASSES)]

    @cached_property
    def macro_f1(self) -> float:
        """Mean F1 over the classes that occur among labels or predictions."""
        if self.analysis.evaluation is not None:
            return self.analysis.evaluation.macro_f1.value
        counts = np.array(self.confusion)
        occurs = counts.sum(0) + counts.sum(1) > 0
        return float(np.mean([row.f1 for row, counted in zip(self.classes, occurs, strict=True) if counted]))

    @cached_property
    def confusion_image(self) -> str:
        """Data URL of the confusion matrix if it is too large for a table, else ""."""
        return confusion_image(self.confusion) if len(self.classes) > MAX_TABLE_CLASSES else ""

    @cached_property
    def mistakes(self) -> list[ConfusedPair]:
        """The most frequent mistakes."""
        return confused_pairs(self.confusion, limit=MAX_MISTAKES)

    @cached_property
    def curves(self) -> list[LineChart]:
        """Learning curves: loss and accuracy by epoch."""
        if not self.files.history:
            return []
        validation = "test (selects the epoch, as published)" if self.selects_on_test else "validation"
        best_epoch = self.files.summary.best_epoch
        return learning_curves(self.files.history, best_epoch, validation=validation, name=self.id)

    @property
    def rates(self) -> dict[str, list[LayerRate]]:
        """Firing rates by part of the model."""
        first, last = self.files.summary.rates.first_step, self.files.summary.rates.last_step
        evaluated = self.analysis.evaluation.rates if self.analysis.evaluation is not None else {}
        parts: dict[str, list[LayerRate]] = {}
        for layer in {**first, **last, **evaluated}:
            part, _, rest = layer.partition(".")
            name = layer_name(layer) if rest else layer
            row = LayerRate(name, first.get(layer), last.get(layer), evaluated.get(layer))
            parts.setdefault(PARTS.get(part, part), []).append(row)
        return parts


@dataclass(frozen=True)
class StudySection:
    """The section of a study."""

    id: str
    name: str
    files: StudyFiles
    plots: Sequence[PageFigure]
    omitted: Sequence[str]
    """File names of plots that did not fit on the page."""
