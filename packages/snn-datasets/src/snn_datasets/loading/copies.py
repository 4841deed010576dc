"""Find files with the same content in two splits. Does not import torch."""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from snn_datasets.base.dataset import Split

K = TypeVar("K")

HEAD_BYTES = 2**16
"""Bytes compared first, so that files of the same size are rarely read completely."""


@dataclass(frozen=True, slots=True)
class _File:
    path: Path
    splits: frozenset[Split]


def find_copies(files: Mapping[Split, Sequence[Path]]) -> list[tuple[Path, Path]]:
    """Return pairs of files with the same bytes in different splits, each with the first of its group.

    Files of different sizes are not read, and files of the same size only as far as needed. The same file in two
    splits is not a copy; empty files and files that cannot be opened are ignored.
    """
    by_identity: dict[tuple[int, int], _File] = {}
    sizes: dict[tuple[int, int], int] = {}
    for split, paths in files.items():
        for path in paths:
            try:
                status = path.stat()
            except OSError:
                continue
            identity = status.st_dev, status.st_ino
            known = by_identity.get(identity, _File(path, frozenset[Split]()))
            by_identity[identity] = _File(known.path, known.splits.union([split]))
            sizes[identity] = status.st_size
    pairs: list[tuple[Path, Path]] = []
    for size, alike in _grouped((sizes[identity], file) for identity, file in by_identity.items()):
        if size == 0:
            continue
        for _, same_head in _grouped((_digest(file.path, HEAD_BYTES), file) for file in alike):
            for _, same in _grouped((_digest(file.path, None), file) for file in same_head):
                pairs += [(same[0].path, other.path) for other in same[1:] if other.splits != same[0].splits]
    return pairs


def _grouped(keyed: Iterable[tuple[K, _File]]) -> list[tuple[K, list[_File]]]:
    """Group files by key, keeping groups of at least two files and two splits."""
    groups: defaultdict[K, list[_File]] = defaultdict(list)
    for key, file in keyed:
        groups[key].append(file)
    return [
        (key, group)
        for key, group in groups.items()
        if len(group) > 1 and len(frozenset[Split]().union(*(file.splits for file in group))) > 1
    ]


def _digest(path: Path, most: int | None) -> bytes:
    """Hash a file or its first bytes; return its name if it cannot be opened."""
    try:
        with path.open("rb") as file:
            return (
                hashlib.file_digest(file, "sha256").digest()
                if most is None
                else hashlib.sha256(file.read(most)).digest()
            )
    except OSError:
        return str(path).encode()
