"""Fingerprints of a run's samples, to detect changed data.

For data from files: sample ids, labels and file contents. A file of up to 64 KiB is hashed whole; of a larger one, its
size and both ends. For generated data: sample ids, labels and two statistics of the values of each modality, compared
with a tolerance because rounding differs between machines.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any, cast

import numpy as np

from snn_datasets import DatasetSplits, RecordedDataset, SampleDataset
from snn_datasets.base.dataset import SPLITS
from snn_datasets.base.reader import Source

END = 2**15
"""Bytes hashed at either end of a large file."""
MOST_SAMPLES = 4096
"""Most samples of a split that are measured, evenly spaced."""
TOLERANCE = 1e-3
"""Tolerance of a statistic, relative to the magnitude of the values."""


def fingerprint(splits: DatasetSplits) -> dict[str, Any]:
    """Compute the fingerprint of all splits, as JSON."""
    contents: dict[Source, str] = {}
    classes = splits.info.classes
    return {split: _split_fingerprint(getattr(splits, split), classes, contents) for split in SPLITS}


def stamp(splits: DatasetSplits) -> str | None:
    """Hash paths, sizes and modification times of all files, which is cheap. None for data without files."""
    digest, hashed = hashlib.sha256(), set[Path]()
    for split in SPLITS:
        dataset = getattr(splits, split)
        if not isinstance(dataset, RecordedDataset):
            return None
        for row in sorted(dataset.rows, key=lambda row: row.id):
            digest.update(json.dumps([split, row.id, splits.info.classes[row.label]]).encode())
            for name in sorted(row.sources):
                source = row.sources[name]
                digest.update(json.dumps([name, None if source is None else [str(source.path), source.part]]).encode())
                if source is not None and source.path not in hashed:
                    hashed.add(source.path)
                    try:
                        status = source.path.stat()
                        digest.update(f"{status.st_size} {status.st_mtime_ns}".encode())
                    except OSError:
                        digest.update(b"absent")
    return digest.hexdigest()


def fingerprint_changes(before: dict[str, Any], after: dict[str, Any]) -> list[str]:
    """Describe the differences between two fingerprints."""
    differences: list[str] = []
    for split in SPLITS:
        old, new = before[split], after[split]
        if old["samples"] != new["samples"]:
            differences.append(f"the {split} split had {old['samples']:,} samples and has {new['samples']:,}")
            continue
        if old["labels"] != new["labels"]:
            differences.append(f"the {split} split has different samples or labels")
            continue
        for name in sorted(old["modalities"].keys() & new["modalities"].keys()):
            old_value, new_value = old["modalities"][name], new["modalities"][name]
            if _differs(old_value, new_value):
                change = "files with different content" if isinstance(old_value, str) else "different values"
                differences.append(f"{name} has {change} in the {split} split")
    return differences


def sample_order(splits: DatasetSplits) -> str:
    """Hash the order of training samples, which determines the batches of a resumed run."""
    return _digest([[*_ids(splits.train)], list(splits.train.labels)])


def _differs(old: str | Sequence[float], new: str | Sequence[float]) -> bool:
    if isinstance(old, str) or isinstance(new, str):
        return old != new
    return any(abs(a - b) > TOLERANCE * max(1.0, abs(a)) for a, b in zip(old, new, strict=True))


def _split_fingerprint(dataset: SampleDataset, classes: Sequence[str], contents: dict[Source, str]) -> dict[str, Any]:
    labels = sorted(zip(_ids(dataset), (classes[label] for label in dataset.labels), strict=True))
    modalities: dict[str, Any]
    if isinstance(dataset, RecordedDataset):
        rows = sorted(dataset.rows, key=lambda row: row.id)
        modalities = {
            name: _digest([_file_hash(row.sources[name], contents) for row in rows]) for name in dataset.modalities
        }
    else:
        modalities = _statistics(dataset)
    return {"samples": len(dataset), "labels": _digest(labels), "modalities": modalities}


def _ids(dataset: SampleDataset) -> list[str]:
    ids = cast("Sequence[str] | None", getattr(dataset, "ids", None))
    return list(ids) if ids is not None else [f"{number:09d}" for number in range(len(dataset))]


def _file_hash(source: Source | None, contents: dict[Source, str]) -> str:
    """Hash the file of a recording; `contents` caches the hashes of files."""
    if source is None:
        return ""
    whole = Source(source.path)
    if whole not in contents:
        try:
            size = source.path.stat().st_size
            with source.path.open("rb") as file:
                data = file.read(2 * END if size <= 2 * END else END)
                if size > 2 * END:
                    file.seek(-END, 2)
                    data += file.read(END)
            contents[whole] = f"{size} {hashlib.sha256(data).hexdigest()}"
        except OSError:
            contents[whole] = "absent"
    return _digest([contents[whole], source.part])


def _statistics(dataset: SampleDataset) -> dict[str, list[float]]:
    """By modality: the RMS of the values, and their dot product with fixed random signs.

    The dot product is divided by the root of the number of values, so that it has the magnitude of one value.
    """
    count = min(len(dataset), MOST_SAMPLES)
    values: dict[str, list[np.ndarray[Any, np.dtype[np.float64]]]] = {}
    for number in range(count):
        for name, value in dataset[number * len(dataset) // count].inputs.items():
            values.setdefault(name, []).append(value.double().reshape(-1).nan_to_num(0.0, 1e9, -1e9).numpy())
    statistics: dict[str, list[float]] = {}
    for name, parts in values.items():
        flat = np.concatenate(parts)
        signs = 2.0 * np.random.RandomState(0).randint(0, 2, len(flat)) - 1.0
        rms = math.sqrt(float(np.mean(flat * flat)))
        product = float(flat @ signs) / math.sqrt(len(flat))
        statistics[name] = [rms, product / rms if rms else 0.0]
    return statistics


def _digest(value: object) -> str:
    return hashlib.sha256(json.dumps(value).encode()).hexdigest()
