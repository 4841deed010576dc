"""Count the operations of a run's model."""

from __future__ import annotations

from pathlib import Path

from torch.utils.data import DataLoader, Subset

from scmrl.config.data_access import DataAccess
from scmrl.console.progress import Progress
from scmrl.energy.counting import ModelOperations, count_operations
from scmrl.engine.evaluate import without_augmentation
from scmrl.run_folder.open import open_run
from snn_datasets import collate
from snn_datasets.base.dataset import Split


def measure_energy(
    folder: Path, split: Split, samples: int, batch_size: int, progress: Progress, access: DataAccess | None = None
) -> tuple[str, ModelOperations]:
    """Return the name of a run's dataset, and its model's operations on samples evenly spaced over a split.

    Raises:
        ValueError: the dataset has changed since the run was trained.
        FileNotFoundError: the folder holds no model, or the dataset is missing.
    """
    run = open_run(folder, access)
    splits = run.data(progress)
    dataset = without_augmentation(getattr(splits, split))
    count = min(samples, len(dataset))
    subset = Subset(dataset, [index * len(dataset) // count for index in range(count)])
    with progress.phase(f"counting on {split}", count, "samples") as phase:
        loader = DataLoader(subset, batch_size=batch_size, collate_fn=collate)
        return splits.info.name, count_operations(run.model, loader, run.device, phase.update)
