"""Where prepared recordings are kept between runs, under a fingerprint of everything that decides them."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, TypeVar

from filelock import FileLock
from torch.utils.data import DataLoader, Dataset

from snn_datasets.dataset import Progress
from snn_datasets.modality import Modality
from snn_datasets.reader import Source
from snn_datasets.store import Absent, Prepared, Store, size_of, write_store

S = TypeVar("S")
Prepare = Callable[[S], Prepared | Absent | Exception]
"""Reads and prepares one sample; an error is returned, not raised, so that it keeps its type across processes."""

FORMAT = 2
"""Of the store's files; part of every fingerprint."""
PROBES = 16
"""Samples prepared to estimate the size of a store."""
SPARE_BYTES = 100 * 2**20
"""Left free on the disk."""


@dataclass(frozen=True)
class CacheOptions:
    """How a cache is kept; see `FileDataSpec` for the fields."""

    folder: Path
    limit_gb: float
    hash_files: bool = False
    workers: int = 0


def fingerprint(
    modality: Modality, ids: Sequence[str], sources: Sequence[Source | None], seed: int, *, hash_files: bool
) -> str:
    """What decides the prepared samples: reader, stages, their code, every file, and the seed if a stage draws.

    A file is told by its path, size and time of change, or by its content.
    """
    states: dict[Path, str] = {}
    digest = hashlib.sha256()
    stages = [modality.reader.fingerprint(), *(stage.fingerprint() for stage in modality.prepare)]
    drawn = seed if any(stage.draws for stage in modality.prepare) else None
    digest.update(json.dumps([FORMAT, drawn, stages], sort_keys=True).encode())
    for id_, source in zip(ids, sources, strict=True):
        if source is None:
            digest.update(json.dumps([id_, None]).encode())
            continue
        if source.path not in states:
            states[source.path] = _state_of(source.path, hash_files=hash_files)
        digest.update(json.dumps([id_, str(source.path), source.part, states[source.path]]).encode())
    return digest.hexdigest()[:24]


def _state_of(path: Path, *, hash_files: bool) -> str:
    try:
        if hash_files:
            with path.open("rb") as file:
                return hashlib.file_digest(file, "sha256").hexdigest()
        status = path.stat()
    except OSError:
        return "absent"
    return f"{status.st_size} {status.st_mtime_ns}"


def open_or_fill(
    options: CacheOptions,
    *,
    dataset: str,
    name: str,
    mark: str,
    samples: Sequence[S],
    prepare: Prepare[S],
    progress: Progress | None,
) -> Store:
    """The store under fingerprint `mark`; filled by `prepare(sample)` of every sample if it is not there yet.

    Only one process fills it; others wait for it. One that is killed leaves nothing that is mistaken for a store.

    Raises:
        ValueError: it would take more room than the options allow.
        OSError: it would not fit on the disk, or cannot be written.
        Whatever `prepare` returns as an exception.
    """
    folder = options.folder / dataset / f"{name}-{mark}"
    if not folder.is_dir():
        folder.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(f"{folder}.lock"):
            if not folder.is_dir():  # another process may have filled it while this one waited
                _remove_unfinished(folder)
                _refuse_too_large(options, dataset, name, samples, prepare)
                about = {
                    "dataset": dataset,
                    "modality": name,
                    "created": datetime.now(UTC).isoformat(timespec="seconds"),
                }
                write_store(folder, _prepared(samples, prepare, options.workers, progress), about)
    os.utime(folder)  # so that pruning can tell what is in use
    return Store(folder)


def _prepared(
    samples: Sequence[S], prepare: Prepare[S], workers: int, progress: Progress | None
) -> Iterator[Prepared | Absent]:
    for done, prepared in enumerate(_each(samples, prepare, workers), start=1):
        if isinstance(prepared, Exception):
            raise prepared
        if progress is not None:
            progress(done, len(samples))
        yield prepared


def _each(samples: Sequence[S], prepare: Prepare[S], workers: int) -> Iterable[Prepared | Absent | Exception]:
    """`prepare` of every sample, in order, in this process or in several."""
    if workers == 0:
        return map(prepare, samples)
    loader: DataLoader[Any] = DataLoader(_Mapped(samples, prepare), batch_size=None, num_workers=workers)
    return loader


class _Mapped(Dataset[Any]):
    def __init__(self, samples: Sequence[Any], prepare: Prepare[Any]) -> None:
        self.samples, self.prepare = samples, prepare

    def __len__(self) -> int:
        return len(self.samples)

    def __getitem__(self, index: int) -> Prepared | Absent | Exception:
        return self.prepare(self.samples[index])


def _refuse_too_large(
    options: CacheOptions, dataset: str, name: str, samples: Sequence[S], prepare: Prepare[S]
) -> None:
    """Prepare a few samples, spread over all, and tell from them how large the store will be."""
    step = max(1, len(samples) // PROBES)
    probes = [prepare(sample) for sample in samples[::step][:PROBES]]
    sizes = [size_of(probe) for probe in probes if not isinstance(probe, Exception)]
    if not sizes:
        return
    needed = sum(sizes) / len(sizes) * len(samples)
    what = f"the cache of {name!r} of {dataset} would take about {needed / 1e9:.3g} GB for {len(samples)} samples"
    if needed > options.limit_gb * 1e9:
        raise ValueError(
            f"{what}, more than cache_limit_gb = {options.limit_gb:g}; raise it, prepare smaller inputs, or set cache "
            "to off"
        )
    free = shutil.disk_usage(options.folder).free - SPARE_BYTES
    if needed > free:
        raise OSError(
            f"{what}, but only {max(free, 0) / 1e9:.3g} GB are free in {options.folder}; free some "
            "(`scmrl data cache prune`), name another cache_folder, or set cache to off"
        )


def _remove_unfinished(folder: Path) -> None:
    """Remove what a killed writer of this store left; nobody writes it now, since the lock is held."""
    for left in folder.parent.glob(f"{folder.name}.*.part"):
        shutil.rmtree(left, ignore_errors=True)
