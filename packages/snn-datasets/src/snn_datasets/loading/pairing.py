"""Pair recordings made separately into multimodal samples, such as a written and a spoken seven."""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from snn_datasets.base.dataset import SPLITS, Split
from snn_datasets.base.reader import Source
from snn_datasets.loading.splits import carve_by_group

if TYPE_CHECKING:
    from snn_datasets.loading.recorded import Row


@dataclass(frozen=True, slots=True)
class Item:
    """One recording of one modality, before pairing."""

    id: str
    """Unique within its modality, and the same on every machine."""
    label: int
    """Class index."""
    source: Source
    """File, and part of it."""
    group: str
    """Speaker, writer or symbol that it comes from. A group is never in two splits."""


def pair_by_label(
    pools: Mapping[str, Sequence[Item]], *, per_class: int | None = None, seed: int = 0
) -> list[tuple[Item, ...]]:
    """Pair recordings of the same class, one per modality, for one split.

    Call it once per split with the recordings of that split only, so that no recording is in two splits. Pairs depend
    on the seed, the names of the modalities and the ids, not on the order of recordings. Every recording is used once
    before any is repeated; repeats get other partners.

    Args:
        pools: modality -> its recordings in this split.
        per_class: samples per class; None means the largest number of recordings that any modality has of the class.
        seed: determines the pairs.

    Returns:
        One tuple per sample in the order of `pools`, class by class.

    Raises:
        ValueError: a modality lacks a class that another has, or has an id twice.
    """
    if not pools or (per_class is not None and per_class < 1):
        raise ValueError(f"per_class is {per_class} for {len(pools)} modalities; both must be at least 1")
    by_modality: dict[str, dict[int, list[Item]]] = {}
    for name, items in pools.items():
        if len({item.id for item in items}) < len(items):
            raise ValueError(f"two recordings of {name!r} have the same id; ids determine pairs and must be unique")
        by_class: defaultdict[int, list[Item]] = defaultdict(list)
        for item in items:
            by_class[item.label].append(item)
        by_modality[name] = dict(by_class)
    pairs: list[tuple[Item, ...]] = []
    for label in sorted({label for by_class in by_modality.values() for label in by_class}):
        lacking = [name for name, by_class in by_modality.items() if label not in by_class]
        if lacking:
            raise ValueError(
                f"{lacking[0]!r} has no recording of class {label} in this split, so recordings of the other "
                "modalities have no partner; drop the class, or move a group to this split"
            )
        count = per_class or max(len(by_class[label]) for by_class in by_modality.values())
        columns = (_draw(by_class[label], count, f"{seed} {name}") for name, by_class in by_modality.items())
        pairs += zip(*columns, strict=True)
    return pairs


def paired_rows(
    items: Mapping[str, Mapping[Split, Sequence[Item]]], *, per_class: Mapping[Split, int | None], seed: int
) -> dict[Split, list[Row]]:
    """Pair the recordings of each split, as `pair_by_label` does, into rows.

    Args:
        items: modality -> split -> its recordings.
        per_class: split -> samples per class.
        seed: determines the pairs.
    """
    from snn_datasets.loading.recorded import Row

    rows: dict[Split, list[Row]] = {}
    for split in SPLITS:
        pools = {name: by_split[split] for name, by_split in items.items()}
        rows[split] = [
            Row(
                f"{split}-{pair[0].label}-{number:05d}",
                pair[0].label,
                {name: item.source for name, item in zip(items, pair, strict=True)},
            )
            for number, pair in enumerate(pair_by_label(pools, per_class=per_class[split], seed=seed))
        ]
    return rows


def rows_of_modality(name: str, items: Mapping[Split, Sequence[Item]]) -> dict[Split, list[Row]]:
    """Return the recordings of a dataset with one modality as rows."""
    from snn_datasets.loading.recorded import Row

    return {
        split: [Row(item.id, item.label, {name: item.source}) for item in split_items]
        for split, split_items in items.items()
    }


def carve_items(items: Sequence[Item], *, fraction: float, seed: int) -> tuple[list[Item], list[Item]]:
    """Divide training recordings into those for training and, in whole groups, those for validation.

    Raises:
        ValueError: no group can be taken out of training.
    """
    labels = [str(item.label) for item in items]
    val_groups = carve_by_group([item.group for item in items], labels, fraction=fraction, seed=seed)
    return (
        [item for item in items if item.group not in val_groups],
        [item for item in items if item.group in val_groups],
    )


def _draw(items: Sequence[Item], count: int, key: str) -> list[Item]:
    """Draw `count` items from repeated shuffles, so that each is used once before any is repeated."""
    items_drawn: list[Item] = []
    for turn in range(-(-count // len(items))):
        items_drawn += sorted(items, key=lambda item: hashlib.sha256(f"{key} {turn} {item.id}".encode()).digest())
    return items_drawn[:count]
