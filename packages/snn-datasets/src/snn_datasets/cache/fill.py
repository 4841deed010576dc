"""Cache prepared recordings on disk, keyed by a fingerprint of everything that determines them."""

from __future__ import annotations

import hashlib
import json
import logging
import os
import shlex
import shutil
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, TypeVar

from filelock import FileLock
from torch.utils.data import DataLoader, Dataset

from snn_datasets.base.dataset import ReportProgress
from snn_datasets.base.modality import Modality
from snn_datasets.base.reader import Source
from snn_datasets.cache.store import (
    Absent,
    DamagedStoreError,
    Prepared,
    Store,
    StoreWriteError,
    size_of,
    write_store,
    writing,
)

S = TypeVar("S")
Prepare = Callable[[S], Prepared | Absent | Exception]
"""Read and prepare one sample. Errors are returned, not raised, so that they keep their type across processes."""

FORMAT = 4
"""Version of the store's file format; part of every fingerprint."""
PROBES = 16
"""Samples prepared to estimate the size of a store."""
SPARE_BYTES = 100 * 2**20
"""Disk space that a cache leaves free."""
VERIFIED_BYTES = 64 * 2**20
"""Stores up to this size are verified completely on opening (about 0.1 s); in larger ones each sample is verified when
it is read."""

_log = logging.getLogger("snn_datasets")


@dataclass(frozen=True)
class CacheOptions:
    """Settings of the cache; `FileDataSpec` documents the fields."""

    folder: Path
    limit_gb: float
    hash_files: bool = False
    workers: int = 0


def cache_key(
    modality: Modality, ids: Sequence[str], sources: Sequence[Source | None], seed: int, *, hash_files: bool
) -> str:
    """Hash everything that determines the prepared samples: reader, stages, code, files, and the seed if a stage draws.

    A file is identified by path, size and modification time, or by its content with `hash_files`.
    """
    states: dict[Path, str] = {}
    digest = hashlib.sha256()
    stages = [modality.reader.fingerprint(), *(stage.fingerprint() for stage in modality.cached)]
    effective_seed = seed if any(stage.draws for stage in modality.cached) else None
    digest.update(json.dumps([FORMAT, effective_seed, stages], sort_keys=True).encode())
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
    key: str,
    samples: Sequence[S],
    prepare: Prepare[S],
    progress: ReportProgress | None,
) -> Store:
    """Open the store with fingerprint `key`; if there is none, fill it with `prepare(sample)` of every sample.

    One process fills the store while others wait. A killed process leaves nothing that could pass for a complete
    store. A damaged store is logged and filled again. An intact store needs no write access, so it also works on a
    read-only file system or in another user's folder.

    Raises:
        ValueError: the store would exceed the size limit, or is damaged and cannot be removed.
        OSError: the store does not fit on the disk, or cannot be read or written.
        Exception: whatever `prepare` returns as an exception.
    """
    folder = options.folder / dataset / f"{name}-{key}"
    store = _open(folder)
    if isinstance(store, Store):
        return store
    try:
        with writing(options.folder):
            folder.parent.mkdir(parents=True, exist_ok=True)
            lock = FileLock(f"{folder}.lock")
            lock.acquire()
    except StoreWriteError as error:
        if store is not None:
            raise _irreplaceable(folder, store, error.__cause__) from error
        raise
    try:
        store = _open(folder)  # another process may have filled it while this one waited
        if isinstance(store, Store):
            return store
        if store is not None:
            _log.warning("%s; preparing its samples again", store)
            _remove(folder, store)
        _remove_unfinished(folder)
        _check_size(options, dataset, name, samples, prepare)
        about = {"dataset": dataset, "modality": name, "created": datetime.now(UTC).isoformat(timespec="seconds")}
        write_store(folder, _prepare_all(samples, prepare, options.workers, progress), about)
        return Store(folder)
    finally:
        lock.release()


def _open(folder: Path) -> Store | DamagedStoreError | None:
    """Open and verify the store in a folder; return the error if it is damaged, None if there is no folder."""
    try:
        if not folder.is_dir():
            return None
        store = Store(folder)
        if store.bytes <= VERIFIED_BYTES:
            store.verify()
    except DamagedStoreError as error:
        return error
    except OSError as error:
        raise OSError(
            f"cannot read the cache {folder}: {(error.strerror or str(error)).lower()}; ask its owner for access, "
            "choose another cache_folder, or set cache to off"
        ) from error
    with suppress(OSError):  # read-only, or another user's
        os.utime(folder)  # pruning reads the time of last use
    return store


def _remove(folder: Path, reason: DamagedStoreError) -> None:
    """Remove a damaged store. The caller holds the lock, so no other process is filling it."""
    try:
        # Rename first, so that no process finds half a store under the final name.
        doomed = folder.with_name(f"{folder.name}.damaged.part")
        shutil.rmtree(doomed, ignore_errors=True)
        folder.rename(doomed)
    except OSError as error:
        raise _irreplaceable(folder, reason, error) from error
    shutil.rmtree(doomed, ignore_errors=True)


def _irreplaceable(folder: Path, damage: DamagedStoreError, cause: BaseException | None) -> ValueError:
    reason = cause.strerror if isinstance(cause, OSError) and cause.strerror else str(cause)
    return ValueError(
        f"{damage}; it cannot be replaced ({reason.lower()}): ask its owner to run `rm -r {shlex.quote(str(folder))}`"
        ", choose another cache_folder, or set cache to off"
    )


def _prepare_all(
    samples: Sequence[S], prepare: Prepare[S], workers: int, progress: ReportProgress | None
) -> Iterator[Prepared | Absent]:
    for done, prepared in enumerate(_map(samples, prepare, workers), start=1):
        if isinstance(prepared, Exception):
            raise prepared
        if progress is not None:
            progress(done, len(samples))
        yield prepared


def _map(samples: Sequence[S], prepare: Prepare[S], workers: int) -> Iterable[Prepared | Absent | Exception]:
    """Apply `prepare` to every sample in order, in this process or in `workers` processes."""
    if workers == 0:
        return map(prepare, samples)
    loader: DataLoader[Any] = DataLoader(_MapDataset(samples, prepare), batch_size=None, num_workers=workers)
    return loader


class _MapDataset(Dataset[Any]):
    def __init__(self, samples: Sequence[Any], prepare: Prepare[Any]) -> None:
        self.samples, self.prepare = samples, prepare

    def __len__(self) -> int:
        return len(self.samples)

    def __getitem__(self, index: int) -> Prepared | Absent | Exception:
        return self.prepare(self.samples[index])


def _check_size(options: CacheOptions, dataset: str, name: str, samples: Sequence[S], prepare: Prepare[S]) -> None:
    """Estimate the size of the store from a few samples spread over all; raise if it exceeds the limit or the disk."""
    step = max(1, len(samples) // PROBES)
    probes = [prepare(sample) for sample in samples[::step][:PROBES]]
    sizes = [size_of(probe) for probe in probes if not isinstance(probe, Exception)]
    if not sizes:
        return
    needed = sum(sizes) / len(sizes) * len(samples)
    estimate = f"the cache of {name!r} of {dataset} needs about {needed / 1e9:.3g} GB for {len(samples)} samples"
    if needed > options.limit_gb * 1e9:
        raise ValueError(
            f"{estimate}, more than cache_limit_gb = {options.limit_gb:g}; raise the limit, prepare smaller inputs, or "
            "set cache to off"
        )
    free = shutil.disk_usage(options.folder).free - SPARE_BYTES
    if needed > free:
        raise OSError(
            f"{estimate}, but only {max(free, 0) / 1e9:.3g} GB are free in {options.folder}; free some space "
            "(`scmrl data cache prune`), choose another cache_folder, or set cache to off"
        )


def _remove_unfinished(folder: Path) -> None:
    """Remove what a killed writer of this store left behind. The caller holds the lock, so no process is writing it."""
    for unfinished in folder.parent.glob(f"{folder.name}.*.part"):
        shutil.rmtree(unfinished, ignore_errors=True)
