"""Locate, list and prune the cache folder. Does not import torch, so that commands answer at once."""

from __future__ import annotations

import json
import os
import shutil
import time
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from filelock import FileLock, Timeout


def cache_folder(folder: Path | None = None) -> Path:
    """Return `folder`, or by default $SNN_DATASETS_CACHE, or snn-datasets in the user's cache folder."""
    if folder is not None:
        return folder.expanduser()
    override = os.environ.get("SNN_DATASETS_CACHE")
    if override:
        return Path(override).expanduser()
    user_cache = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(user_cache) / "snn-datasets"


@dataclass(frozen=True)
class CacheEntry:
    """One store in a cache folder."""

    folder: Path
    dataset: str
    modality: str
    samples: int
    bytes: int
    created: datetime
    used: datetime
    """Time when a dataset last opened it."""


def entries(folder: Path) -> list[CacheEntry]:
    """List the stores in a cache folder, most recently used first."""
    stores: list[CacheEntry] = []
    for path in folder.glob("*/*/about.json"):
        if path.parent.suffix == ".part":
            continue
        try:
            about = json.loads(path.read_text(encoding="utf-8"))
            used = datetime.fromtimestamp(path.parent.stat().st_mtime, UTC)
            created = datetime.fromisoformat(about["created"])
            stores.append(
                CacheEntry(
                    path.parent, about["dataset"], about["modality"], about["samples"], about["bytes"], created, used
                )
            )
        except (OSError, ValueError, KeyError, TypeError, RecursionError):
            continue  # removed in the meantime, or not a store
    return sorted(stores, key=lambda entry: entry.used, reverse=True)


def prune(folder: Path, *, unused_days: float, dataset: str | None = None) -> list[CacheEntry]:
    """Remove stores unused for `unused_days` and what killed writers left behind; return the removed stores.

    A process that has already read from a store can keep reading it; one that has not will find no file.

    Raises:
        OSError: a store cannot be removed. Stores before it are already removed.
    """
    limit = time.time() - unused_days * 86400
    old = [entry for entry in entries(folder) if entry.used.timestamp() <= limit and dataset in (None, entry.dataset)]
    for entry in old:
        # Rename first, so that no process finds half a store under the final name.
        doomed = entry.folder.with_name(f"{entry.folder.name}.pruned.part")
        try:
            entry.folder.rename(doomed)
        except OSError as error:
            raise OSError(
                f"cannot remove the cache {entry.folder}: {(error.strerror or str(error)).lower()}; ask its owner to "
                "remove it"
            ) from error
        shutil.rmtree(doomed, ignore_errors=True)
    for unfinished in folder.glob("*/*.part"):
        lock = FileLock(f"{unfinished.parent / unfinished.name.rsplit('.', 2)[0]}.lock")
        try:
            with lock.acquire(timeout=0):
                shutil.rmtree(unfinished, ignore_errors=True)
        except (Timeout, OSError):
            continue  # another process is writing it, or we may not remove it
    return old
