"""Find the files of a dataset, and describe the expected layout if there are none."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path

from snn_datasets.base.card import DatasetCard
from snn_datasets.base.dataset import SPLITS, Split
from snn_datasets.base.reader import ReadError, placeholder


def absolute_path(root: Path) -> Path:
    """Make a folder absolute, so that caches and worker processes find the same files from any working directory."""
    return Path(os.path.abspath(root.expanduser()))


def find_files(root: Path, pattern: str, card: DatasetCard) -> list[Path]:
    """List files under an absolute root that match a glob, sorted by name, without hidden ones.

    Raises:
        FileNotFoundError: no file matches; the message names sources and the expected layout.
    """
    paths = sorted(path for path in root.glob(pattern) if not path.name.startswith(".") and path.is_file())
    if not paths:
        raise FileNotFoundError(
            f"no {pattern} under {root}; fetch {card.title} from {' or '.join(card.sources)} into this layout\n"
            f"{card.layout()}"
        )
    return paths


def find_file(root: Path, name: str, card: DatasetCard) -> Path:
    """Return a file under an absolute root; raise what `find_files` raises."""
    return find_files(root, name, card)[0]


def read_text(path: Path) -> str:
    """Read a small text file of a dataset: a list, a table, labels.

    Raises:
        FileNotFoundError: the file does not exist.
        ReadError: the file is empty, a Git-LFS pointer, a web page, or not UTF-8.
    """
    problem = placeholder(path)
    if problem:
        raise ReadError(f"{path} {problem}")
    try:
        return path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise ReadError(f"{path} is not UTF-8 text: {error}; fetch it again") from error


def require_samples(rows: Mapping[Split, Sequence[object]], advice: str, *, needed: Sequence[Split] = SPLITS) -> None:
    """Check that no split is empty.

    Raises:
        ValueError: one of `needed` is empty.
    """
    for split in needed:
        if not rows[split]:
            counts = ", ".join(f"{len(rows[each])} {each}" for each in SPLITS)
            raise ValueError(f"the split {split!r} has no samples ({counts}); {advice}")
