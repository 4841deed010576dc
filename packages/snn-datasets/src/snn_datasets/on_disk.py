"""Finding the files of a dataset, and saying how they should lie where there are none."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path

from snn_datasets.card import DatasetCard
from snn_datasets.dataset import SPLITS, Split
from snn_datasets.reader import ReadError, placeholder


def absolute_path(root: Path) -> Path:
    """The folder in full, so that caches and worker processes find the same files wherever they are started."""
    return Path(os.path.abspath(root.expanduser()))


def find_files(root: Path, pattern: str, card: DatasetCard) -> list[Path]:
    """Files under an absolute root that match a glob, sorted by name, without hidden ones.

    Raises:
        FileNotFoundError: there is none; the text says where the dataset is from and how it has to lie.
    """
    found = sorted(path for path in root.glob(pattern) if not path.name.startswith(".") and path.is_file())
    if not found:
        raise missing_files_error(root, pattern, card)
    return found


def read_text(path: Path) -> str:
    """The text of a small file that belongs to a dataset: a list, a table, labels.

    Raises:
        FileNotFoundError: there is no such file.
        ReadError: it is empty, a Git-LFS pointer or a web page, or no text in UTF-8.
    """
    problem = placeholder(path)
    if problem:
        raise ReadError(f"{path} {problem}")
    try:
        return path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise ReadError(f"{path} is no text in UTF-8: {error}; fetch it again") from error


def missing_files_error(root: Path, pattern: str, card: DatasetCard) -> FileNotFoundError:
    """The error for a dataset that is not where it should be."""
    return FileNotFoundError(
        f"no {pattern} under {root}; get {card.title} from {' or '.join(card.sources)}; it has to lie there as\n"
        f"{card.layout()}"
    )


def require_samples(rows: Mapping[Split, Sequence[object]], advice: str, *, needed: Sequence[Split] = SPLITS) -> None:
    """Refuse to build a dataset of which a split has no sample.

    Raises:
        ValueError: one is empty.
    """
    for split in needed:
        if not rows[split]:
            counts = ", ".join(f"{len(rows[each])} {each}" for each in SPLITS)
            raise ValueError(f"no sample is left for the split {split!r} ({counts}); {advice}")
