"""The JSON files of a run folder: summary, evaluation, environment and energy."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator


class Stored(BaseModel):
    """Base of the models; unknown fields are ignored."""

    model_config = ConfigDict(frozen=True, extra="ignore", allow_inf_nan=False)


class Score(Stored):
    """A score with its interval, in [0, 1]."""

    value: float
    low: float
    high: float


class ClassRow(Stored):
    """The scores of one class."""

    name: str = Field(alias="class")
    precision: float
    recall: float
    f1: float
    samples: int


class Subset(Stored):
    """The scores with a subset of the modalities."""

    modalities: tuple[str, ...]
    without: tuple[str, ...]
    accuracy: Score
    macro_f1: Score
    calibration_error: Score
    blank: int
    """Samples without any of these modalities."""


class Bootstrap(Stored):
    """How the intervals were computed."""

    resamples: int
    seed: int
    level: float


class EvaluationFile(Stored):
    """evaluation.json, as `scmrl evaluate` writes it."""

    format_version: Literal[1]
    data: str
    split: str
    n: int
    selection: str
    mark: str
    """Remark for every table; "" if the split was not used in training or selection."""
    notes: tuple[str, ...]
    bootstrap: Bootstrap
    loss: float
    accuracy: Score
    macro_f1: Score
    calibration_error: Score
    classes: tuple[ClassRow, ...]
    confusion: tuple[tuple[int, ...], ...]
    subsets: tuple[Subset, ...]
    rates: dict[str, float]

    @model_validator(mode="after")
    def _square(self) -> Self:
        _check_square(self.confusion, len(self.classes))
        return self


class SplitScore(Stored):
    """Scores of a split, from training."""

    accuracy: float
    loss: float
    n: int


class TestScore(SplitScore):
    """Scores of the test split, from training."""

    confusion: tuple[tuple[int, ...], ...]


class BranchRates(Stored):
    """Firing rates of the cross-modal branch, and its silent layers at the last step."""

    first_step: dict[str, float]
    last_step: dict[str, float]
    silent: tuple[str, ...]


class Rates(BranchRates):
    """Firing rates of all layers at the first and the last training step, and layers out of range at the last."""

    saturated: tuple[str, ...]


class SummaryFile(Stored):
    """summary.json, which a finished run writes."""

    data: str
    modalities: tuple[str, ...]
    classes: tuple[str, ...]
    selection: str
    validation: SplitScore
    test: TestScore
    best_epoch: int | None
    epochs: int
    seconds: float
    rates: Rates
    branch: BranchRates

    @model_validator(mode="after")
    def _square(self) -> Self:
        _check_square(self.test.confusion, len(self.classes))
        return self


class EnvironmentFile(Stored):
    """environment.json: versions, command, seeds, hardware."""

    started: str
    command: tuple[str, ...]
    seed: int
    data_seed: int
    python: str
    versions: dict[str, str]
    commit: str | None
    system: str
    processor: str
    cores: int | None
    threads: int
    device: str
    gpu: str | None


class Price(Stored):
    """Energy of an operation, in picojoules."""

    mac: float
    ac: float


class Cost(Stored):
    """Operations per sample and their energy in joules."""

    mac: float
    """Multiply-accumulate operations."""
    ac: float
    """Accumulate operations."""
    energy_j: float


class EnergyLayer(Cost):
    """Operations of one layer, by the strict convention and by that of the papers."""

    layer: str
    inputs: Literal["spikes", "whole", "real"]
    rate: float
    dense: float
    paper: Cost


class NeuronLayer(Cost):
    """Operations of one layer of neurons."""

    layer: str
    updates: float
    rate: float


class DenseCost(Cost):
    """Operations of the same network without spikes."""

    time_steps: int


class Totals(Stored):
    """Operations of the model per sample, by several conventions."""

    paper: Cost
    strict: Cost
    neurons: Cost
    strict_with_neurons: Cost
    dense_twin: DenseCost
    dense_twin_same_steps: DenseCost


class EnergyFile(Stored):
    """energy.json, as `scmrl energy` writes it."""

    format_version: Literal[1]
    data: str
    split: str
    samples: int
    time_steps: int
    table: str
    picojoules: Price
    source: str
    layers: tuple[EnergyLayer, ...]
    neurons: tuple[NeuronLayer, ...]
    totals: Totals
    notes: tuple[str, ...]


def _check_square(confusion: Sequence[Sequence[int]], classes: int) -> None:
    if len(confusion) != classes or any(len(row) != classes for row in confusion):
        raise ValueError(f"the confusion matrix must have a row and a column for each of the {classes} classes")
