"""Open a run: load its model, verified, and its data, compared with those of the training."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import cast

import torch

from scmrl.config.data_access import DataAccess
from scmrl.config.experiment import Experiment
from scmrl.console.progress import Progress
from scmrl.run_folder.device import pick_device
from scmrl.run_folder.files import differences, read_experiment
from scmrl.run_folder.fingerprint import fingerprint, fingerprint_changes, sample_order, stamp
from scmrl.run_folder.inputs import Inputs, describe_modality, load_inputs
from snn_datasets import DatasetSplits, Modality, RecordedDataset
from snn_datasets.base.dataset import SPLITS, DataSpec, FileDataSpec, Split
from snn_datasets.loading.recorded import Row, build_splits
from snn_fusion import FusionModel, from_pretrained


@dataclass(frozen=True)
class OpenRun:
    """A verified run with its model loaded."""

    folder: Path
    experiment: Experiment
    inputs: Inputs
    model: FusionModel
    """In evaluation mode, on the device."""
    device: torch.device
    access: DataAccess

    def data(self, progress: Progress) -> DatasetSplits:
        """Load the run's data, prepared as in its training.

        Raises:
            ValueError: they have changed, and changes are not accepted.
            FileNotFoundError: they are missing.
        """
        return _verified_data(self.experiment, self.inputs, self.folder, self.access, progress)


def open_run(folder: Path, access: DataAccess | None = None) -> OpenRun:
    """Verify the files of a run and load its model. Nothing in the folder is executed.

    Raises:
        ValueError: not a run, a damaged one, or one whose files do not belong together.
        FileNotFoundError: the folder has no model.
    """
    access = access or DataAccess()
    experiment = read_experiment(folder, access)
    inputs = load_inputs(folder)
    device = pick_device("auto")
    model = from_pretrained(folder, require_checksums=True).to(device)
    classes = model.readout.head.out_features
    if set(inputs.infos) != set(model.modalities) or len(inputs.classes) != classes:
        raise ValueError(
            f"{folder}: inputs.json has {', '.join(inputs.infos)} and {len(inputs.classes)} classes, the model has "
            f"{', '.join(model.modalities)} and {classes}; they are not from the same run"
        )
    return OpenRun(folder, experiment, inputs, model, device, access)


def open_data(folder: Path, progress: Progress, access: DataAccess | None = None) -> DatasetSplits:
    """Load the data of a run without its model, as `OpenRun.data` does."""
    access = access or DataAccess()
    experiment = read_experiment(folder, access)
    return _verified_data(experiment, load_inputs(folder), folder, access, progress)


def restore_data(splits: DatasetSplits, spec: DataSpec, folder: Path, progress: Progress) -> DatasetSplits:
    """Prepare the data of a resumed run as before the interruption.

    Raises:
        ValueError: they are not the same data in the same order.
    """
    inputs = load_inputs(folder)
    compared, faults, _ = _compared(splits, inputs, spec, progress)
    if not faults and sample_order(compared) != inputs.order:
        faults = ["the training samples are in another order"]
    if faults:
        raise ValueError(
            f"the data of {folder} have changed since its training began: {'; '.join(faults)}; restore them to resume "
            "it, or start a new run with another --out"
        )
    return compared


def _verified_data(
    experiment: Experiment, inputs: Inputs, folder: Path, access: DataAccess, progress: Progress
) -> DatasetSplits:
    spec = experiment.data
    root: object = getattr(spec, "root", None)
    if isinstance(root, Path) and not root.exists():
        verb = "are not at" if access.root is not None else "are no longer at"
        raise FileNotFoundError(f"the data of {folder} {verb} {root}; give their folder with --data.root DIR")
    with progress.phase("preparing data", 1, "samples") as reading:
        splits = spec.build(reading.update)
    compared, faults, acceptable = _compared(splits, inputs, spec, progress)
    if not faults:
        return compared
    message = f"the data of {folder} are not those of its training: {'; '.join(faults)}"
    if not acceptable:
        raise ValueError(f"{message}; restore them, or give the folder of the original data with --data.root DIR")
    if not access.accept_changes:
        raise ValueError(
            f"{message}; restore them, give the folder of the original data with --data.root DIR, or continue anyway "
            "with --accept-changed-data"
        )
    note = f"The data have changed since the training, and the change was accepted: {'; '.join(faults)}."
    progress.warn(note)
    return replace(compared, info=replace(compared.info, notes=(*compared.info.notes, note)))


def _compared(
    splits: DatasetSplits, inputs: Inputs, spec: DataSpec, progress: Progress
) -> tuple[DatasetSplits, list[str], bool]:
    """Return the data prepared as in training, what has changed, and whether that change can be accepted."""
    faults = _structural_changes(splits, inputs)
    if faults:
        return splits, faults, False
    current_stamp = stamp(splits)
    if current_stamp is None or current_stamp != inputs.stamp:
        faults = fingerprint_changes(inputs.fingerprint, fingerprint(splits))
    if splits.info.classes != inputs.classes and not faults:
        faults = [f"classes were {_listed(inputs.classes)} and are {_listed(splits.info.classes)}"]
    return _prepare_as_trained(splits, inputs, spec, progress), faults, True


def _structural_changes(splits: DatasetSplits, inputs: Inputs) -> list[str]:
    """Changes that make every prediction of the model meaningless."""
    faults: list[str] = []
    if set(splits.info.modalities) != set(inputs.infos):
        faults.append(f"modalities were {_listed(inputs.infos)} and are {_listed(splits.info.modalities)}")
    if unknown := [name for name in splits.info.classes if name not in inputs.classes]:
        removed = [name for name in inputs.classes if name not in splits.info.classes]
        faults.append(
            f"classes were {_listed(inputs.classes)} and are {_listed(splits.info.classes)} ({_listed(unknown)} "
            + (f"instead of {_listed(removed)})" if removed else "is new)")
        )
    if not faults and not inputs.modalities:
        for name, old in inputs.infos.items():
            new = splits.info.modalities[name]
            if (old.shape, old.time_steps) != (new.shape, new.time_steps):
                faults.append(
                    f"{name} was {list(old.shape)} in {old.time_steps or 'no'} time steps and is {list(new.shape)} in "
                    f"{new.time_steps or 'no'}"
                )
    return faults


def _prepare_as_trained(splits: DatasetSplits, inputs: Inputs, spec: DataSpec, progress: Progress) -> DatasetSplits:
    """Return the same rows with the classes, readers and stages of the training."""
    current = splits.train.modalities if isinstance(splits.train, RecordedDataset) else {}
    changed = {
        name: list(differences(describe_modality(stored), describe_modality(current[name])))
        for name, stored in inputs.modalities.items()
        if describe_modality(stored) != describe_modality(current[name]) or stored.info != current[name].info
    }
    if not changed and splits.info.classes == inputs.classes:
        return splits
    if not all(type(getattr(splits, split)) is RecordedDataset for split in SPLITS):
        raise ValueError(
            f"{splits.info.name} would be prepared differently than in training ({_listed(changed) or 'classes'}), "
            "and its dataset class cannot restore that; install the version that the run was trained with"
        )
    for name, details in changed.items():
        changes = "; ".join(f"{field} was {old} and would be {new}" for field, old, new in details[:2])
        progress.warn(f"{name} is prepared as in training, not as its files suggest now ({changes})")
    index = [inputs.classes.index(name) for name in splits.info.classes]
    rows: Mapping[Split, Sequence[Row]] = {
        split: [replace(row, label=index[row.label]) for row in cast(RecordedDataset, getattr(splits, split)).rows]
        for split in SPLITS
    }
    modalities: dict[str, Modality] = {
        name: replace(stored, augment=current[name].augment) for name, stored in inputs.modalities.items()
    }
    assert isinstance(spec, FileDataSpec)
    return build_splits(
        spec,
        classes=inputs.classes,
        rows=rows,
        modalities=modalities,
        notes=splits.info.notes,
        name=splits.info.name,
    )


def _listed(names: object) -> str:
    """Join up to 20 names from files on one line."""
    from scmrl.console.printable import printable

    texts = [printable(name) for name in cast("Sequence[str]", names)]
    return ", ".join(texts[:20]) + (f", ... ({len(texts)})" if len(texts) > 20 else "")
