"""The one way to open a run: its model, verified, and its data, compared with what it was trained on."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import cast

import torch

from scmrl.data_access import DataAccess
from scmrl.engine.fingerprint import changes, fingerprint, order_of, stamp
from scmrl.engine.inputs import Inputs, describe_modality, load_inputs
from scmrl.engine.parallel import pick_device
from scmrl.engine.run_folder import differences, read_experiment
from scmrl.experiment import Experiment
from scmrl.progress import Progress
from snn_datasets import DatasetSplits, Modality, RecordedDataset
from snn_datasets.dataset import SPLITS, DataSpec, FileDataSpec, Split
from snn_datasets.recorded import Row, build_splits
from snn_fusion import FusionModel, from_pretrained


@dataclass(frozen=True)
class OpenRun:
    """A run whose files were verified, and whose model is ready to be asked."""

    folder: Path
    experiment: Experiment
    inputs: Inputs
    model: FusionModel
    """In evaluation mode, on the device."""
    device: torch.device
    access: DataAccess

    def data(self, progress: Progress) -> DatasetSplits:
        """The data of the run, as it was trained on them.

        Raises:
            ValueError: they have changed, and that is not accepted.
            FileNotFoundError: they are not there.
        """
        return _verified_data(self.experiment, self.inputs, self.folder, self.access, progress)


def open_run(folder: Path, access: DataAccess | None = None) -> OpenRun:
    """Verify the files of a run and load its model. Nothing in the folder is executed.

    Raises:
        ValueError: no run, a damaged one, or one whose parts do not belong together.
        FileNotFoundError: no model in the folder.
    """
    access = access or DataAccess()
    experiment = read_experiment(folder, access)
    inputs = load_inputs(folder)
    device = pick_device("auto")
    model = from_pretrained(folder, require_checksums=True).to(device)
    classes = model.readout.head.out_features
    if set(inputs.infos) != set(model.modalities) or len(inputs.classes) != classes:
        raise ValueError(
            f"{folder}: inputs.json tells of {', '.join(inputs.infos)} and {len(inputs.classes)} classes, the "
            f"model of {', '.join(model.modalities)} and {classes}; they are not of the same run"
        )
    return OpenRun(folder, experiment, inputs, model, device, access)


def open_data(folder: Path, progress: Progress, access: DataAccess | None = None) -> DatasetSplits:
    """The data of a run without its model, as `OpenRun.data` gives them."""
    access = access or DataAccess()
    experiment = read_experiment(folder, access)
    return _verified_data(experiment, load_inputs(folder), folder, access, progress)


def restore_data(splits: DatasetSplits, spec: DataSpec, folder: Path, progress: Progress) -> DatasetSplits:
    """The data of a run that is resumed, prepared as before the interruption.

    Raises:
        ValueError: they are not the same data in the same order.
    """
    inputs = load_inputs(folder)
    compared, faults, _ = _compared(splits, inputs, spec, progress)
    if not faults and order_of(compared) != inputs.order:
        faults = ["the training samples are in another order"]
    if faults:
        raise ValueError(
            f"the data of {folder} are not those that its training began with: {'; '.join(faults)}; put them back as "
            "they were to resume it, or start anew with another --out"
        )
    return compared


def _verified_data(
    experiment: Experiment, inputs: Inputs, folder: Path, access: DataAccess, progress: Progress
) -> DatasetSplits:
    spec = experiment.data
    root: object = getattr(spec, "root", None)
    if isinstance(root, Path) and not root.exists():
        where = "are not at" if access.root is not None else "are no longer at"
        raise FileNotFoundError(f"the data of {folder} {where} {root}; say where they are with --data.root DIR")
    with progress.phase("preparing data", 1, "samples") as reading:
        splits = spec.build(reading.update)
    compared, faults, acceptable = _compared(splits, inputs, spec, progress)
    if not faults:
        return compared
    message = f"the data of {folder} are not what it was trained on: {'; '.join(faults)}"
    if not acceptable:
        raise ValueError(f"{message}; put them back as they were, or say where those are with --data.root DIR")
    if not access.accept_changes:
        raise ValueError(
            f"{message}; put them back as they were, say where those are with --data.root DIR, or go on all the same "
            "with --accept-changed-data"
        )
    note = f"The data have changed since the training, which was accepted: {'; '.join(faults)}."
    progress.warn(note)
    return replace(compared, info=replace(compared.info, notes=(*compared.info.notes, note)))


def _compared(
    splits: DatasetSplits, inputs: Inputs, spec: DataSpec, progress: Progress
) -> tuple[DatasetSplits, list[str], bool]:
    """The data with classes and preparation of the training, what has changed, and whether that can be accepted."""
    faults = _structure(splits, inputs)
    if faults:
        return splits, faults, False
    mark = stamp(splits)
    if mark is None or mark != inputs.stamp:
        faults = changes(inputs.fingerprint, fingerprint(splits))
    if splits.info.classes != inputs.classes and not faults:
        faults = [f"classes were {_listed(inputs.classes)} and are {_listed(splits.info.classes)}"]
    return _prepared_as(splits, inputs, spec, progress), faults, True


def _structure(splits: DatasetSplits, inputs: Inputs) -> list[str]:
    """Differences with which no answer of the model makes sense."""
    faults: list[str] = []
    if set(splits.info.modalities) != set(inputs.infos):
        faults.append(f"modalities were {_listed(inputs.infos)} and are {_listed(splits.info.modalities)}")
    if unknown := [name for name in splits.info.classes if name not in inputs.classes]:
        gone = [name for name in inputs.classes if name not in splits.info.classes]
        faults.append(
            f"classes were {_listed(inputs.classes)} and are {_listed(splits.info.classes)} ({_listed(unknown)} "
            + (f"instead of {_listed(gone)})" if gone else "is new)")
        )
    if not faults and not inputs.modalities:
        for name, was in inputs.infos.items():
            now = splits.info.modalities[name]
            if (was.shape, was.time_steps) != (now.shape, now.time_steps):
                faults.append(
                    f"{name} was {list(was.shape)} in {was.time_steps or 'no'} time steps and is {list(now.shape)} in "
                    f"{now.time_steps or 'no'}"
                )
    return faults


def _prepared_as(splits: DatasetSplits, inputs: Inputs, spec: DataSpec, progress: Progress) -> DatasetSplits:
    """The same rows with the classes, readers and stages of the training."""
    today = splits.train.modalities if isinstance(splits.train, RecordedDataset) else {}
    changed = {
        name: list(differences(describe_modality(stored), describe_modality(today[name])))
        for name, stored in inputs.modalities.items()
        if describe_modality(stored) != describe_modality(today[name]) or stored.info != today[name].info
    }
    if not changed and splits.info.classes == inputs.classes:
        return splits
    if not all(type(getattr(splits, split)) is RecordedDataset for split in SPLITS):
        raise ValueError(
            f"{splits.info.name} would be prepared in another way than in training ({_listed(changed) or 'classes'}), "
            "and its own kind of dataset cannot be changed back; install the version that the run was trained with"
        )
    for name, details in changed.items():
        what = "; ".join(f"{field} was {old} and would be {new}" for field, old, new in details[:2])
        progress.warn(f"{name} is prepared as in training, not as the files suggest today ({what})")
    index = [inputs.classes.index(name) for name in splits.info.classes]
    rows: Mapping[Split, Sequence[Row]] = {
        split: [replace(row, label=index[row.label]) for row in cast(RecordedDataset, getattr(splits, split)).rows]
        for split in SPLITS
    }
    modalities: dict[str, Modality] = {
        name: replace(stored, augment=today[name].augment) for name, stored in inputs.modalities.items()
    }
    info = replace(splits.info, classes=inputs.classes, modalities=inputs.infos)
    assert isinstance(spec, FileDataSpec)
    return build_splits(spec, info=info, rows=rows, modalities=modalities)


def _listed(names: object) -> str:
    """Names from files on one line, the first of many."""
    from scmrl.printable import printable

    every = [printable(name) for name in cast("Sequence[str]", names)]
    return ", ".join(every[:20]) + (f", ... ({len(every)})" if len(every) > 20 else "")
