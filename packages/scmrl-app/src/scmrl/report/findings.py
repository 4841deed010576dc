"""What a report has to find out from a run's model: scores that were not taken yet, energy, scales, single samples.

What takes long is left in the run's folder, where the next report finds it. What cannot be found out, since data or
files are gone, is told instead.
"""

# PyTorch leaves the types of some of its own methods open.
# pyright: reportUnknownMemberType=false
from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import torch

from scmrl.commands.evaluate import contents, markdown, tables
from scmrl.console.progress import Progress
from scmrl.energy.figure import write_figure
from scmrl.energy.measure import measure_energy
from scmrl.energy.output import make_tables, to_json, to_markdown
from scmrl.energy.prices import TABLES
from scmrl.engine.evaluate import evaluate as run_evaluation
from scmrl.engine.evaluate import predict_batch
from scmrl.explain.explanation import Explanation, explain
from scmrl.report.folders import RunFiles, read_file
from scmrl.report.stored import Energy, Evaluation
from scmrl.run_folder.files import write_json, write_text
from scmrl.run_folder.open import open_data, open_run
from snn_datasets import DatasetSplits, collate
from snn_fusion import FusionModel, residual_share

MODEL_FILES = ("spec.json", "model.safetensors")
LOOKED_AT = 256
"""Test samples, spread evenly over the split, among which examples are looked for."""
BATCH = 32
"""Samples that are looked at at once."""
ENERGY_SAMPLES, ENERGY_BATCH = 64, 16
"""What `scmrl energy` takes when nothing else is asked for."""
RESAMPLES = 1000
"""For intervals; what `scmrl evaluate` takes when nothing else is asked for."""

R = TypeVar("R")


@dataclass(frozen=True)
class Missing:
    """What a report does not show, and why."""

    what: str
    why: str


@dataclass(frozen=True, eq=False)
class Example:
    """One test sample and what the model did with it."""

    id: str
    absent: tuple[str, ...]
    """Modalities that it lacks."""
    explanation: Explanation

    @property
    def right(self) -> bool:
        """Whether the model says what is true."""
        return self.explanation.label == self.explanation.answer


@dataclass(frozen=True, eq=False)
class Findings:
    """What was found out about a run."""

    evaluation: Evaluation | None
    energy: Energy | None
    parameters: int | None
    alphas: Mapping[tuple[str, str], float]
    """Scale of what (target, source) read."""
    shares: Mapping[str, Mapping[str, float]]
    """By target how much of its tokens comes from each modality, itself among them; over the samples looked at."""
    examples: Sequence[Example]
    missing: Sequence[Missing]


def find_out(run: RunFiles, *, examples: int, progress: Progress) -> Findings:
    """Ask a run's model for all that its folder does not hold yet.

    Args:
        run: the run.
        examples: samples to explain; most of them are some that went wrong.
        progress: the display.

    Raises:
        ValueError: the files of the model are damaged.
    """
    missing: list[Missing] = []

    def attempt(what: str, make: Callable[[], R]) -> R | None:
        """What is made, or None; what files, data or packages lack is noted down."""
        try:
            return make()
        except (OSError, ValueError, ImportError) as error:
            missing.append(Missing(what, " ".join(str(error).split())))
            return None

    model = None
    if lacking := [name for name in MODEL_FILES if not (run.folder / name).is_file()]:
        missing.append(Missing("the number of parameters, the scales alpha", f"{run.folder} holds no {lacking[0]}"))
    else:
        model = load_model(run.folder)
    evaluation = run.evaluation or attempt(
        "intervals, calibration, scores without a modality", lambda: evaluated(run, progress)
    )
    energy = run.energy or attempt("energy", lambda: measured(run, progress))
    samples = model and attempt("explained samples", lambda: explained(run, model, examples, progress))
    return Findings(
        evaluation,
        energy,
        sum(each.numel() for each in model.parameters()) if model else None,
        model.fusion.alphas if model else {},
        samples.shares if samples else {},
        samples.examples if samples else [],
        missing,
    )


def load_model(folder: Path) -> FusionModel:
    """A run's model.

    Raises:
        ValueError: its files are damaged, or do not fit each other.
    """
    return open_run(folder).model


def evaluated(run: RunFiles, progress: Progress) -> Evaluation:
    """Evaluate a run on its test split and leave evaluation.json and evaluation.md, as `scmrl evaluate` does."""
    evaluation = run_evaluation(run.folder, "test", progress, run.access)
    content = contents(evaluation, run.experiment, "test", resamples=RESAMPLES, seed=0)
    write_json(run.folder / "evaluation.json", content)
    write_text(run.folder / "evaluation.md", markdown(content, tables(content)))
    return read_file(run.folder / "evaluation.json", Evaluation)


def measured(run: RunFiles, progress: Progress) -> Energy:
    """Count operations on test samples and leave energy.json, energy.md and the picture, as `scmrl energy` does."""
    data, operations = measure_energy(run.folder, "test", ENERGY_SAMPLES, ENERGY_BATCH, progress, run.access)
    content = to_json(operations, next(iter(TABLES.values())), data=data, split="test")
    write_json(run.folder / "energy.json", content)
    write_text(run.folder / "energy.md", to_markdown(content, make_tables(content)))
    write_figure(content, run.folder)
    return read_file(run.folder / "energy.json", Energy)


@dataclass(frozen=True, eq=False)
class Samples:
    """What was seen on test samples."""

    shares: dict[str, dict[str, float]]
    examples: list[Example]


def explained(run: RunFiles, model: FusionModel, examples: int, progress: Progress) -> Samples:
    """Look at test samples, and explain some of them.

    Raises:
        ValueError: the dataset is no longer the one that the run was trained on.
        OSError: it is not there.
    """
    splits = open_data(run.folder, progress, run.access)
    device = next(model.parameters()).device
    shares, looks = look(model, splits, progress)
    chosen = choose(looks, examples)
    found: list[Example] = []
    with progress.phase("explaining", len(chosen), "samples") as phase:
        for each in chosen:
            sample = splits.test[each.place]
            batch = collate([sample])
            inputs = {name: x.to(device) for name, x in batch["inputs"].items() if name not in sample.absent}
            explanation = explain(model, inputs, splits.info, label=sample.label)
            found.append(Example(sample.id, tuple(sorted(sample.absent)), explanation))
            phase.advance()
    return Samples(shares, found)


@dataclass(frozen=True)
class Look:
    """What the model says of one sample."""

    place: int
    """In the split."""
    label: int
    answer: int
    confidence: float
    """Probability of the answer."""


@torch.no_grad()
def look(
    model: FusionModel, splits: DatasetSplits, progress: Progress
) -> tuple[dict[str, dict[str, float]], list[Look]]:
    """Where the model's tokens come from, and what it says, on test samples that are spread evenly over the split.

    Returns:
        by target the share of each modality in its tokens, itself among them; and a look at each sample that has a
        modality.
    """
    device = next(model.parameters()).device
    places = range(0, len(splits.test), -(-len(splits.test) // LOOKED_AT))
    totals: dict[str, dict[str, float]] = {}
    weights: dict[str, int] = {}
    looks: list[Look] = []
    with progress.phase("looking at samples", len(places), "samples") as phase:
        for first in range(0, len(places), BATCH):
            chosen = places[first : first + BATCH]
            batch = collate([splits.test[place] for place in chosen])
            _, probabilities, blank = predict_batch(model, batch, device)
            confidence, answer = probabilities.max(1)
            looks += [
                Look(place, int(batch["labels"][row]), int(answer[row]), float(confidence[row]))
                for row, place in enumerate(chosen)
                if not blank[row]
            ]
            if not blank.any():
                inputs = {name: x.to(device) for name, x in batch["inputs"].items()}
                present = {name: mask.to(device) for name, mask in batch["present"].items()}
                for target, parts in residual_share(model, inputs, present).items():
                    weights[target] = weights.get(target, 0) + len(chosen)
                    total = totals.setdefault(target, {})
                    for source, share in parts.items():
                        total[source] = total.get(source, 0.0) + share * len(chosen)
            phase.advance(len(chosen))
    shares = {
        target: {source: share / weights[target] for source, share in total.items()} for target, total in totals.items()
    }
    return shares, looks


def choose(looks: Sequence[Look], wanted: int) -> list[Look]:
    """The mistakes that the model was surest of, each of another class as far as there are such, then what is right.

    One place is kept for a sample that went right, where there is one.
    """
    sure = sorted(looks, key=lambda each: (-each.confidence, each.place))
    right = [each for each in sure if each.answer == each.label]
    wrong = [each for each in sure if each.answer != each.label]
    firsts = list({each.label: each for each in reversed(wrong)}.values())[::-1]
    firsts.sort(key=wrong.index)
    ordered = firsts + [each for each in wrong if each not in firsts]
    mistakes = ordered[: max(0, wanted - 1) if right else wanted]
    return mistakes + right[: wanted - len(mistakes)]
