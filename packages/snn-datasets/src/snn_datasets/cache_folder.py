"""The folder of all caches: where it is, what is in it, and tidying it. Imports no torch, so it answers at once."""

from __future__ import annotations

import json
import os
import shutil
import time
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from filelock import FileLock, Timeout


def default_folder() -> Path:
    """$SNN_DATASETS_CACHE, or snn-datasets in the user's cache folder."""
    named = os.environ.get("SNN_DATASETS_CACHE")
    if named:
        return Path(named).expanduser()
    above = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(above) / "snn-datasets"


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
    """When a dataset last opened it."""


def entries(folder: Path) -> list[CacheEntry]:
    """Every store of a cache folder, the one used last first."""
    found: list[CacheEntry] = []
    for about in folder.glob("*/*/about.json"):
        if about.parent.suffix == ".part":
            continue
        try:
            said = json.loads(about.read_text(encoding="utf-8"))
            used = datetime.fromtimestamp(about.parent.stat().st_mtime, UTC)
            created = datetime.fromisoformat(said["created"])
            found.append(
                CacheEntry(
                    about.parent, said["dataset"], said["modality"], said["samples"], said["bytes"], created, used
                )
            )
        except (OSError, ValueError, KeyError, TypeError, RecursionError):
            continue  # removed meanwhile, or not ours
    return sorted(found, key=lambda entry: entry.used, reverse=True)


def prune(folder: Path, *, unused_days: float, dataset: str | None = None) -> list[CacheEntry]:
    """Remove stores that no dataset opened for so many days, and what killed writers left; tell which.

    A process that has read from one goes on reading it; one that has not begun will find no file.

    Raises:
        OSError: a store cannot be removed; those before it are gone.
    """
    limit = time.time() - unused_days * 86400
    old = [entry for entry in entries(folder) if entry.used.timestamp() <= limit and dataset in (None, entry.dataset)]
    for entry in old:
        # Renamed first: nobody may find half a store under its name.
        doomed = entry.folder.with_name(f"{entry.folder.name}.pruned.part")
        try:
            entry.folder.rename(doomed)
        except OSError as error:
            raise OSError(
                f"the cache {entry.folder} cannot be removed: {(error.strerror or str(error)).lower()}; have its owner "
                "remove it"
            ) from error
        shutil.rmtree(doomed, ignore_errors=True)
    for left in folder.glob("*/*.part"):
        lock = FileLock(f"{left.parent / left.name.rsplit('.', 2)[0]}.lock")
        try:
            with lock.acquire(timeout=0):
                shutil.rmtree(left, ignore_errors=True)
        except (Timeout, OSError):
            continue  # somebody is writing it, or it is not ours to remove
    return old
