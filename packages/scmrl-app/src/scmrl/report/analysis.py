"""Compute what a report needs and the run folder lacks: evaluation, energy, fusion scales, explained samples.

Slow results are written into the run folder, where the next report reads them. What cannot be computed because data or
files are missing is listed with the reason.
"""

# PyTorch leaves some of its methods untyped.
# pyright: reportUnknownMemberType=false
from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import torch

from scmrl.console.progress import Progress
from scmrl.energy.figure import write_figure
from scmrl.energy.measure import measure_energy
from scmrl.energy.output import make_tables, to_json, to_markdown
from scmrl.energy.prices import TABLES
from scmrl.engine.evaluate import evaluate as run_evaluation
from scmrl.engine.evaluate import predict_batch
from scmrl.explain.explanation import Explanation, explain_sample
from scmrl.report.folders import RunFiles, read_file
from scmrl.results.evaluation import evaluation_file, markdown, tables
from scmrl.results.run import EnergyFile, EvaluationFile
from scmrl.run_folder.files import write_json, write_text
from scmrl.run_folder.open import open_data, open_run
from snn_datasets import DatasetSplits, collate
from snn_fusion import FusionModel, residual_fractions

MODEL_FILES = ("spec.json", "model.safetensors")
MAX_CANDIDATES = 256
"""Test samples, evenly spaced in the split, from which the explained examples are selected."""
BATCH = 32
"""Samples per batch."""
ENERGY_SAMPLES, ENERGY_BATCH = 64, 16
"""Defaults of `scmrl energy`."""
RESAMPLES = 1000
"""Bootstrap resamples; the default of `scmrl evaluate`."""

R = TypeVar("R")


@dataclass(frozen=True)
class Omission:
    """Content that the report lacks, and the reason."""

    content: str
    reason: str


@dataclass(frozen=True, eq=False)
class Example:
    """One test sample with its explanation."""

    id: str
    absent: tuple[str, ...]
    """Modalities that it lacks."""
    explanation: Explanation

    @property
    def correct(self) -> bool:
        """Whether the prediction is the true class."""
        return self.explanation.label == self.explanation.prediction


@dataclass(frozen=True, eq=False)
class RunAnalysis:
    """Everything that the report shows of a run beyond its own files."""

    evaluation: EvaluationFile | None
    energy: EnergyFile | None
    parameters: int | None
    alphas: Mapping[tuple[str, str], float]
    """Scale of the residual of each (target, source)."""
    shares: Mapping[str, Mapping[str, float]]
    """By target, the share of its tokens that comes from each modality, itself included; mean over test samples."""
    examples: Sequence[Example]
    omissions: Sequence[Omission]


def analyze_run(run: RunFiles, *, examples: int, progress: Progress) -> RunAnalysis:
    """Compute everything about a run that its folder does not hold yet.

    Args:
        run: the run.
        examples: samples to explain; most of them misclassified ones.
        progress: the display.

    Raises:
        ValueError: the model files are damaged.
    """
    omissions: list[Omission] = []

    def attempt(content: str, compute: Callable[[], R]) -> R | None:
        """Return the result, or None with an omission if files, data or packages are missing."""
        try:
            return compute()
        except (OSError, ValueError, ImportError) as error:
            omissions.append(Omission(content, " ".join(str(error).split())))
            return None

    model = None
    if missing := [name for name in MODEL_FILES if not (run.folder / name).is_file()]:
        omissions.append(Omission("the number of parameters, the scales alpha", f"{run.folder} holds no {missing[0]}"))
    else:
        model = load_model(run.folder)
    evaluation = run.evaluation or attempt(
        "intervals, calibration, scores without a modality", lambda: save_evaluation(run, progress)
    )
    energy = run.energy or attempt("energy", lambda: save_energy(run, progress))
    samples = model and attempt("explained samples", lambda: explain_examples(run, model, examples, progress))
    return RunAnalysis(
        evaluation,
        energy,
        sum(each.numel() for each in model.parameters()) if model else None,
        model.fusion.alphas if model else {},
        samples.shares if samples else {},
        samples.examples if samples else [],
        omissions,
    )


def load_model(folder: Path) -> FusionModel:
    """Load a run's model.

    Raises:
        ValueError: its files are damaged or do not match each other.
    """
    return open_run(folder).model


def save_evaluation(run: RunFiles, progress: Progress) -> EvaluationFile:
    """Evaluate a run on its test split and write evaluation.json and evaluation.md, like `scmrl evaluate`."""
    evaluation = run_evaluation(run.folder, "test", progress, run.access)
    file = evaluation_file(evaluation, run.experiment, "test", resamples=RESAMPLES, seed=0)
    write_json(run.folder / "evaluation.json", file.model_dump(mode="json", by_alias=True))
    write_text(run.folder / "evaluation.md", markdown(file.data, file.notes, tables(file)))
    return file


def save_energy(run: RunFiles, progress: Progress) -> EnergyFile:
    """Count operations on test samples and write energy.json, energy.md and the figure, like `scmrl energy`."""
    data, operations = measure_energy(run.folder, "test", ENERGY_SAMPLES, ENERGY_BATCH, progress, run.access)
    content = to_json(operations, next(iter(TABLES.values())), data=data, split="test")
    write_json(run.folder / "energy.json", content)
    write_text(run.folder / "energy.md", to_markdown(content, make_tables(content)))
    write_figure(content, run.folder)
    return read_file(run.folder / "energy.json", EnergyFile)


@dataclass(frozen=True, eq=False)
class SampleAnalysis:
    """Token shares over many test samples, and explanations of some of them."""

    shares: dict[str, dict[str, float]]
    examples: list[Example]


def explain_examples(run: RunFiles, model: FusionModel, examples: int, progress: Progress) -> SampleAnalysis:
    """Predict test samples and explain some of them.

    Raises:
        ValueError: the dataset is no longer the one that the run was trained on.
        OSError: the dataset is missing.
    """
    splits = open_data(run.folder, progress, run.access)
    shares, predictions = predict_samples(model, splits, progress)
    selected = select_examples(predictions, examples)
    explained: list[Example] = []
    with progress.phase("explaining", len(selected), "samples") as phase:
        for each in selected:
            sample = splits.test[each.index]
            explanation = explain_sample(model, sample, splits.info)
            explained.append(Example(sample.id, tuple(sorted(sample.absent)), explanation))
            phase.advance()
    return SampleAnalysis(shares, explained)


@dataclass(frozen=True)
class SamplePrediction:
    """The prediction for one sample."""

    index: int
    """Of the sample in the split."""
    label: int
    predicted: int
    confidence: float
    """Probability of the predicted class."""


@torch.no_grad()
def predict_samples(
    model: FusionModel, splits: DatasetSplits, progress: Progress
) -> tuple[dict[str, dict[str, float]], list[SamplePrediction]]:
    """Predict evenly spaced test samples and measure which modalities their tokens come from.

    Returns:
        by target the share of each modality in its tokens, itself included; and the prediction for each sample that has
        at least one modality.
    """
    device = next(model.parameters()).device
    indices = range(0, len(splits.test), -(-len(splits.test) // MAX_CANDIDATES))
    totals: dict[str, dict[str, float]] = {}
    weights: dict[str, int] = {}
    predictions: list[SamplePrediction] = []
    with progress.phase("predicting samples", len(indices), "samples") as phase:
        for first in range(0, len(indices), BATCH):
            selected = indices[first : first + BATCH]
            batch = collate([splits.test[index] for index in selected])
            _, probabilities, blank = predict_batch(model, batch, device)
            confidence, predicted = probabilities.max(1)
            predictions += [
                SamplePrediction(index, int(batch["labels"][row]), int(predicted[row]), float(confidence[row]))
                for row, index in enumerate(selected)
                if not blank[row]
            ]
            if not blank.any():
                inputs = {name: x.to(device) for name, x in batch["inputs"].items()}
                present = {name: mask.to(device) for name, mask in batch["present"].items()}
                for target, parts in residual_fractions(model, inputs, present).items():
                    weights[target] = weights.get(target, 0) + len(selected)
                    total = totals.setdefault(target, {})
                    for source, share in parts.items():
                        total[source] = total.get(source, 0.0) + share * len(selected)
            phase.advance(len(selected))
    shares = {
        target: {source: share / weights[target] for source, share in total.items()} for target, total in totals.items()
    }
    return shares, predictions


def select_examples(predictions: Sequence[SamplePrediction], count: int) -> list[SamplePrediction]:
    """Select the most confident mistakes, one per true class first, then correct predictions.

    One of the examples is a correct prediction if there is any.
    """
    ranked = sorted(predictions, key=lambda each: (-each.confidence, each.index))
    correct = [each for each in ranked if each.predicted == each.label]
    wrong = [each for each in ranked if each.predicted != each.label]
    firsts = list({each.label: each for each in reversed(wrong)}.values())[::-1]
    firsts.sort(key=wrong.index)
    ordered = firsts + [each for each in wrong if each not in firsts]
    mistakes = ordered[: max(0, count - 1) if correct else count]
    return mistakes + correct[: count - len(mistakes)]
