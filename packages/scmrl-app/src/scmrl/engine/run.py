"""A run: settings, data, progress and results of one training."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from scmrl.config.experiment import Experiment, Schedule
from scmrl.engine.checkpoints.checkpoint import Position
from scmrl.engine.evaluate import SplitPredictions
from snn_datasets import DatasetSplits
from snn_fusion import ModelSpec


@dataclass
class Run:
    """A finished run; `report.summary` writes it to files."""

    experiment: Experiment
    schedule: Schedule
    folder: Path
    spec: ModelSpec
    splits: DatasetSplits
    position: Position
    validation: SplitPredictions | None = None
    """Predictions of the selected model on the validation split."""
    test: SplitPredictions | None = None
    """Predictions of the selected model on the test split."""
    is_rank0: bool = True
    """Whether this process writes files and prints."""
    seconds: float = 0.0
    """Duration, including the parts before a resume."""

    @property
    def classes(self) -> tuple[str, ...]:
        """Class names by label."""
        return self.splits.info.classes
