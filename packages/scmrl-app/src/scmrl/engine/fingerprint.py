"""What the samples of a run were, in a few numbers, so that other data are not taken for them.

Of data that are read from files: which samples there are, their labels, and what the files hold. A file is read whole
up to 64 KiB; of a larger one its size and both ends count. Of data that a program makes: samples, labels, and two
statistics of the values of each modality, which allow for rounding that differs between machines.
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
from snn_datasets.dataset import SPLITS
from snn_datasets.reader import Source

END = 2**15
"""Bytes read at either end of a large file."""
MOST_SAMPLES = 4096
"""Of a split whose values are measured, evenly spaced."""
TOLERANCE = 1e-3
"""Difference of a statistic, relative to the size of the values, that is no change."""


def fingerprint(splits: DatasetSplits) -> dict[str, Any]:
    """The fingerprint of all splits, as JSON."""
    contents: dict[Source, str] = {}
    classes = splits.info.classes
    return {split: _of_split(getattr(splits, split), classes, contents) for split in SPLITS}


def stamp(splits: DatasetSplits) -> str | None:
    """Paths, sizes and times of change of all files: what is cheap to compare. None for data without files."""
    digest, seen = hashlib.sha256(), set[Path]()
    for split in SPLITS:
        dataset = getattr(splits, split)
        if not isinstance(dataset, RecordedDataset):
            return None
        for row in sorted(dataset.rows, key=lambda row: row.id):
            digest.update(json.dumps([split, row.id, splits.info.classes[row.label]]).encode())
            for name in sorted(row.sources):
                source = row.sources[name]
                digest.update(json.dumps([name, None if source is None else [str(source.path), source.part]]).encode())
                if source is not None and source.path not in seen:
                    seen.add(source.path)
                    try:
                        status = source.path.stat()
                        digest.update(f"{status.st_size} {status.st_mtime_ns}".encode())
                    except OSError:
                        digest.update(b"absent")
    return digest.hexdigest()


def changes(before: dict[str, Any], now: dict[str, Any]) -> list[str]:
    """What differs between two fingerprints, in words."""
    differences: list[str] = []
    for split in SPLITS:
        old, new = before[split], now[split]
        if old["samples"] != new["samples"]:
            differences.append(f"the {split} split had {old['samples']:,} samples and has {new['samples']:,}")
            continue
        if old["labels"] != new["labels"]:
            differences.append(f"the {split} split has other samples or labels")
            continue
        for name in sorted(old["modalities"].keys() & new["modalities"].keys()):
            was, is_ = old["modalities"][name], new["modalities"][name]
            if _differs(was, is_):
                what = "files with another content" if isinstance(was, str) else "other values"
                differences.append(f"{name} has {what} in the {split} split")
    return differences


def order_of(splits: DatasetSplits) -> str:
    """The order of training samples, which decides what a resumed run is shown next."""
    return _digest([[*_ids(splits.train)], list(splits.train.labels)])


def _differs(was: str | Sequence[float], is_: str | Sequence[float]) -> bool:
    if isinstance(was, str) or isinstance(is_, str):
        return was != is_
    return any(abs(a - b) > TOLERANCE * max(1.0, abs(a)) for a, b in zip(was, is_, strict=True))


def _of_split(dataset: SampleDataset, classes: Sequence[str], contents: dict[Source, str]) -> dict[str, Any]:
    named = sorted(zip(_ids(dataset), (classes[label] for label in dataset.labels), strict=True))
    modalities: dict[str, Any]
    if isinstance(dataset, RecordedDataset):
        rows = sorted(dataset.rows, key=lambda row: row.id)
        modalities = {
            name: _digest([_content(row.sources[name], contents) for row in rows]) for name in dataset.modalities
        }
    else:
        modalities = _statistics(dataset)
    return {"samples": len(dataset), "labels": _digest(named), "modalities": modalities}


def _ids(dataset: SampleDataset) -> list[str]:
    ids = cast("Sequence[str] | None", getattr(dataset, "ids", None))
    return list(ids) if ids is not None else [f"{number:09d}" for number in range(len(dataset))]


def _content(source: Source | None, contents: dict[Source, str]) -> str:
    """What a recording's file holds."""
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
    """By modality: the root of the mean square of the values, and their product with fixed random signs.

    The product is divided by the root of the number of values, so that it is of the size of one value.
    """
    count = min(len(dataset), MOST_SAMPLES)
    values: dict[str, list[np.ndarray[Any, np.dtype[np.float64]]]] = {}
    for number in range(count):
        for name, value in dataset[number * len(dataset) // count].inputs.items():
            values.setdefault(name, []).append(value.double().reshape(-1).nan_to_num(0.0, 1e9, -1e9).numpy())
    statistics: dict[str, list[float]] = {}
    for name, parts in values.items():
        every = np.concatenate(parts)
        signs = 2.0 * np.random.RandomState(0).randint(0, 2, len(every)) - 1.0
        size = math.sqrt(float(np.mean(every * every)))
        product = float(every @ signs) / math.sqrt(len(every))
        statistics[name] = [size, product / size if size else 0.0]
    return statistics


def _digest(value: object) -> str:
    return hashlib.sha256(json.dumps(value).encode()).hexdigest()
