"""A dataset of one's own files, listed in a CSV manifest."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from pathlib import Path

import torch
from torch import Tensor

from snn_datasets.audio import LogMelSpectrogram, read_rate, read_waveform
from snn_datasets.corruption import Corruption
from snn_datasets.dataset import DatasetInfo, DatasetSplits, ModalityInfo, Progress
from snn_datasets.images import count_channels, read_image
from snn_datasets.in_memory import InMemoryDataset
from snn_datasets.manifest_table import Row, Split, Table, read_table
from snn_datasets.single_thread import single_thread
from snn_datasets.splits import carve_by_group, carve_by_sample

Reader = Callable[[Path, str], Tensor]
"""From a file and its sample's id to an input."""


@single_thread()
def build_manifest(
    *,
    root: Path,
    manifest: Path,
    modalities: Sequence[str],
    image_size: int,
    sample_rate: int | None,
    mel_bands: int,
    window_ms: float,
    hop_ms: float,
    dynamic_range_db: float,
    val_fraction: float,
    seed: int,
    memory_limit_gb: float,
    corruption: Corruption,
    progress: Progress | None = None,
) -> DatasetSplits:
    """Check the manifest, then read every file of it once; see `ManifestSpec` for the arguments."""
    root = root.expanduser()
    table = read_table(root / manifest.expanduser(), root=root, modalities=modalities)
    classes = _classes(table)
    splits = _splits(table, val_fraction=val_fraction, seed=seed)

    # In file order, before validation is carved out: neither the seed nor the fraction changes how files are read.
    first = next(row for row in table.rows if row.split == "train")
    shapes: dict[str, tuple[int, ...]] = {}
    readers: dict[str, Reader] = {}
    for modality, kind in table.kinds.items():
        file = first.files[modality]
        try:
            if kind == "image":
                channels = count_channels(file)
                readers[modality] = _image_reader(corruption, size=image_size, channels=channels)
            else:
                channels, rate = 1, sample_rate or read_rate(file)
                spectrogram = LogMelSpectrogram(
                    sample_rate=rate,
                    size=image_size,
                    mel_bands=mel_bands,
                    window_ms=window_ms,
                    hop_ms=hop_ms,
                    dynamic_range_db=dynamic_range_db,
                )
                readers[modality] = _audio_reader(corruption, spectrogram, rate=rate)
        except ValueError as error:
            raise ValueError(f"{table.place(first, modality)}: {error}") from error
        shapes[modality] = (channels, image_size, image_size)
    _refuse_too_large(table, shapes, memory_limit_gb)

    done = 0
    datasets: dict[Split, InMemoryDataset] = {}
    for split, rows in splits.items():
        inputs = {modality: torch.empty(len(rows), *shape) for modality, shape in shapes.items()}
        for index, row in enumerate(rows):
            for modality, read in readers.items():
                try:
                    inputs[modality][index] = read(row.files[modality], row.id)
                except ValueError as error:
                    raise ValueError(f"{table.place(row, modality)}: {error}") from error
            done += 1
            if progress is not None:
                progress(done, len(table.rows))
        labels = [classes.index(row.label) for row in rows]
        datasets[split] = InMemoryDataset(inputs, labels=labels, ids=[row.id for row in rows])
    info = DatasetInfo(
        name=root.resolve().name or "manifest",
        classes=classes,
        modalities={
            name: ModalityInfo(kind="image" if table.kinds[name] == "image" else "waveform", shape=shape)
            for name, shape in shapes.items()
        },
    )
    return DatasetSplits(info=info, train=datasets["train"], val=datasets["val"], test=datasets["test"])


def _classes(table: Table) -> tuple[str, ...]:
    """Return the labels of the training rows, as numbers in their order when all are integers."""
    labels = {row.label for row in table.rows if row.split == "train"}
    for split in ("train", "test"):
        if not any(row.split == split for row in table.rows):
            raise ValueError(
                f"{table.path}, column 'split': no row is marked {split!r} "
                f"(found {', '.join(sorted({row.split for row in table.rows}))}); mark some rows {split!r}"
            )
    for row in table.rows:
        if row.label not in labels:
            raise ValueError(
                f"{table.path}, row {row.number}, column 'label', value {row.label!r}: the {row.split} split has a "
                "class that no training row has; add training rows of it or remove this row"
            )
    if all(re.fullmatch(r"[+-]?[0-9]+", label) for label in labels):
        return tuple(sorted(labels, key=lambda label: (int(label), label)))
    return tuple(sorted(labels))


def _splits(table: Table, *, val_fraction: float, seed: int) -> dict[Split, list[Row]]:
    """Deal the rows to the splits, in file order, making a val split when the manifest has none."""
    splits: dict[Split, list[Row]] = {"train": [], "val": [], "test": []}
    for row in table.rows:
        splits[row.split].append(row)
    if splits["val"]:
        return splits
    train = splits["train"]
    labels = [row.label for row in train]
    groups = [row.group for row in train if row.group is not None]
    try:
        if groups:
            chosen_groups = carve_by_group(groups, labels, fraction=val_fraction, seed=seed)
            chosen = {row.id for row in train if row.group in chosen_groups}
        else:
            chosen = carve_by_sample([row.id for row in train], labels, fraction=val_fraction, seed=seed)
    except ValueError as error:
        raise ValueError(f"{table.path} has no row with split 'val', and {error}") from error
    splits["val"] = [row for row in train if row.id in chosen]
    splits["train"] = [row for row in train if row.id not in chosen]
    return splits


def _refuse_too_large(table: Table, shapes: dict[str, tuple[int, ...]], limit_gb: float) -> None:
    floats = sum(channels * height * width for channels, height, width in shapes.values())
    size_gb = len(table.rows) * floats * torch.float32.itemsize / 1e9
    if size_gb > limit_gb:
        inputs = ", ".join(f"{modality} {shape}" for modality, shape in shapes.items())
        raise ValueError(
            f"{table.path}: {len(table.rows)} samples of {inputs} take {size_gb:.3g} GB of memory, more than "
            f" memory_limit_gb={limit_gb:g}; choose a smaller image_size or fewer "
            "modalities, or raise memory_limit_gb"
        )


def _image_reader(corruption: Corruption, *, size: int, channels: int) -> Reader:
    return lambda file, sample: read_image(
        file, size=size, channels=channels, corrupt=lambda pixels: corruption.image(pixels, sample)
    )


def _audio_reader(corruption: Corruption, spectrogram: LogMelSpectrogram, *, rate: int) -> Reader:
    return lambda file, sample: spectrogram(corruption.waveform(read_waveform(file, sample_rate=rate), sample))
