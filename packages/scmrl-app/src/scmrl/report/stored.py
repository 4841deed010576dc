"""Models of the files in run and study folders that a report reads."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

PLOT_SUFFIXES = (".svg", ".png")


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


class Bootstrap(Stored):
    """How the intervals were computed."""

    resamples: int
    level: float


class Evaluation(Stored):
    """evaluation.json, as `scmrl evaluate` writes it."""

    format_version: Literal[1]
    data: str
    split: str
    n: int
    mark: str
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
    """Accuracy of the validation split, from training."""

    accuracy: float
    n: int


class TestScore(Stored):
    """Scores of the test split, from training."""

    accuracy: float
    loss: float
    n: int
    confusion: tuple[tuple[int, ...], ...]


class Rates(Stored):
    """Firing rates of all layers during training."""

    first_step: dict[str, float]
    last_step: dict[str, float]


class Summary(Stored):
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

    @model_validator(mode="after")
    def _square(self) -> Self:
        _check_square(self.test.confusion, len(self.classes))
        return self


class Environment(Stored):
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


class Totals(Stored):
    """Operations of the model per sample, by several conventions."""

    paper: Cost
    strict: Cost
    neurons: Cost
    strict_with_neurons: Cost
    dense_twin: Cost
    dense_twin_same_steps: Cost


class Energy(Stored):
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


class StudyTable(Stored):
    """A table of a study with formatted cells."""

    title: str
    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]

    @model_validator(mode="after")
    def _rectangular(self) -> Self:
        for number, row in enumerate(self.rows, 1):
            if len(row) != len(self.columns):
                raise ValueError(f"row {number} has {len(row)} cells, but there are {len(self.columns)} columns")
        return self


class StudyPlot(Stored):
    """A plot in the folder of results.json."""

    title: str
    file: str

    @model_validator(mode="after")
    def _in_same_folder(self) -> Self:
        # A results.json from elsewhere must not embed other files of the reader.
        if Path(self.file).name != self.file or Path(self.file).suffix not in PLOT_SUFFIXES:
            raise ValueError(
                f"{self.file!r} must be a file in the same folder that ends in {' or '.join(PLOT_SUFFIXES)}"
            )
        return self


class Results(Stored):
    """results.json of a study."""

    format_version: Literal[1]
    kind: str
    title: str
    notes: tuple[str, ...]
    tables: tuple[StudyTable, ...]
    plots: tuple[StudyPlot, ...]


def _check_square(confusion: Sequence[Sequence[int]], classes: int) -> None:
    if len(confusion) != classes or any(len(row) != classes for row in confusion):
        raise ValueError(f"the confusion matrix must have a row and a column for each of the {classes} classes")
