"""From a run's folder to the account of its model."""

from __future__ import annotations

from pathlib import Path

from torch.utils.data import DataLoader, Subset

from scmrl.data_access import DataAccess
from scmrl.energy.account import Account, account
from scmrl.engine.evaluate import Split, without_augmentation
from scmrl.engine.open_run import open_run
from scmrl.progress import Progress
from snn_datasets import collate


def measure(
    folder: Path, split: Split, samples: int, batch_size: int, progress: Progress, access: DataAccess | None = None
) -> tuple[str, Account]:
    """The name of a run's dataset, and what its model computes for samples evenly spaced over a split.

    Raises:
        ValueError: the dataset is no longer the one that the run was trained on.
        FileNotFoundError: the folder holds no model, or the dataset is not there.
    """
    run = open_run(folder, access)
    splits = run.data(progress)
    dataset = without_augmentation(getattr(splits, split))
    taken = min(samples, len(dataset))
    chosen = Subset(dataset, [place * len(dataset) // taken for place in range(taken)])
    with progress.phase(f"counting on {split}", taken, "samples") as phase:
        loader = DataLoader(chosen, batch_size=batch_size, collate_fn=collate)
        return splits.info.name, account(run.model, loader, run.device, phase.update)
