"""Where prepared recordings are kept between runs, under a fingerprint of everything that decides them."""

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

from snn_datasets.dataset import Progress
from snn_datasets.modality import Modality
from snn_datasets.reader import Source
from snn_datasets.store import (
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
"""Reads and prepares one sample; an error is returned, not raised, so that it keeps its type across processes."""

FORMAT = 3
"""Of the store's files; part of every fingerprint."""
PROBES = 16
"""Samples prepared to estimate the size of a store."""
SPARE_BYTES = 100 * 2**20
"""Left free on the disk."""
VERIFIED_BYTES = 64 * 2**20
"""A store of up to this size is verified whole when it is opened, in about 0.1 s; a larger one sample by sample,
when each is read."""

_log = logging.getLogger("snn_datasets")


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

    Only one process fills it; others wait for it. One that is killed leaves nothing that is mistaken for a store. A
    store that is damaged is filled again, and a log line names it. One that is whole is used as it is, also where it
    cannot be written: on a read-only file system, or another user's.

    Raises:
        ValueError: it would take more room than the options allow, or is damaged and cannot be removed.
        OSError: it would not fit on the disk, or cannot be read or written.
        Whatever `prepare` returns as an exception.
    """
    folder = options.folder / dataset / f"{name}-{mark}"
    store = _opened(folder)
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
        store = _opened(folder)  # another process may have filled it while this one waited
        if isinstance(store, Store):
            return store
        if store is not None:
            _log.warning("%s; its samples are prepared again", store)
            _remove(folder, store)
        _remove_unfinished(folder)
        _refuse_too_large(options, dataset, name, samples, prepare)
        about = {"dataset": dataset, "modality": name, "created": datetime.now(UTC).isoformat(timespec="seconds")}
        write_store(folder, _prepared(samples, prepare, options.workers, progress), about)
        return Store(folder)
    finally:
        lock.release()


def _opened(folder: Path) -> Store | DamagedStoreError | None:
    """The store of a folder, verified; why it is none; or None where there is no folder."""
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
            f"the cache {folder} cannot be read: {(error.strerror or str(error)).lower()}; have its owner allow it, "
            "name another cache_folder, or set cache to off"
        ) from error
    with suppress(OSError):  # read-only, or another user's
        os.utime(folder)  # so that pruning can tell what is in use
    return store


def _remove(folder: Path, reason: DamagedStoreError) -> None:
    """Remove a damaged store; nobody else fills it now, since the lock is held."""
    try:
        # Renamed first: nobody may find half a store under its name.
        doomed = folder.with_name(f"{folder.name}.damaged.part")
        shutil.rmtree(doomed, ignore_errors=True)
        folder.rename(doomed)
    except OSError as error:
        raise _irreplaceable(folder, reason, error) from error
    shutil.rmtree(doomed, ignore_errors=True)


def _irreplaceable(folder: Path, damage: DamagedStoreError, cause: BaseException | None) -> ValueError:
    reason = cause.strerror if isinstance(cause, OSError) and cause.strerror else str(cause)
    return ValueError(
        f"{damage}; it cannot be replaced ({reason.lower()}), so have its owner run `rm -r {shlex.quote(str(folder))}`"
        ", name another cache_folder, or set cache to off"
    )


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
