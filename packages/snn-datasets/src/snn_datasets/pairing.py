"""Making many-sense samples of recordings that were made apart, such as a written and a spoken seven."""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from snn_datasets.reader import Source


@dataclass(frozen=True, slots=True)
class Item:
    """One recording of one sense, before it is paired."""

    id: str
    """Unique within its sense, and the same on every machine."""
    label: int
    """Index into the classes."""
    source: Source
    """Where it lies."""
    group: str
    """Whose it is: speaker, writer or symbol. A group is never in two splits."""


def pair_by_label(
    pools: Mapping[str, Sequence[Item]], *, per_class: int | None = None, seed: int = 0, tile: bool = True
) -> list[tuple[Item, ...]]:
    """Join recordings of the same class, one of each sense, for ONE split.

    Give it the recordings of one split and nothing of the others: then no recording is in two splits. Who is paired
    with whom is decided by the seed, the names of the senses and the ids, never by the order of the recordings.
    Every recording is used once before any is used again, each time with other partners.

    Args:
        pools: sense -> its recordings in this split.
        per_class: samples of each class; None means as many as the sense with most recordings of the class has (with
            tile) or the one with fewest (without).
        seed: decides the pairs.
        tile: whether recordings may be used more than once.

    Returns:
        One tuple a sample, in the order of `pools`, class by class.

    Raises:
        ValueError: a sense has no recording of a class that another has, an id twice, or too few without tile.
    """
    if not pools or (per_class is not None and per_class < 1):
        raise ValueError(f"per_class is {per_class} for {len(pools)} senses; it takes at least one of both")
    by_class: dict[str, dict[int, list[Item]]] = {}
    for name, items in pools.items():
        if len({item.id for item in items}) < len(items):
            raise ValueError(f"two recordings of {name!r} have the same id; ids decide the pairs, so make them unique")
        of_class: defaultdict[int, list[Item]] = defaultdict(list)
        for item in items:
            of_class[item.label].append(item)
        by_class[name] = dict(of_class)
    pairs: list[tuple[Item, ...]] = []
    for label in sorted({label for of_class in by_class.values() for label in of_class}):
        lacking = [name for name, of_class in by_class.items() if label not in of_class]
        if lacking:
            raise ValueError(
                f"{lacking[0]!r} has no recording of class {label} in this split, so there is nothing to pair those "
                "of the other senses with; leave the class out, or move a group to this split"
            )
        sizes = [len(of_class[label]) for of_class in by_class.values()]
        count = per_class or (max(sizes) if tile else min(sizes))
        if not tile and count > min(sizes):
            raise ValueError(
                f"class {label} has only {min(sizes)} recordings of one sense, so {count} samples repeat some; ask for "
                "fewer, or allow it"
            )
        columns = (_drawn(of_class[label], count, f"{seed} {name}") for name, of_class in by_class.items())
        pairs += zip(*columns, strict=True)
    return pairs


def _drawn(items: Sequence[Item], count: int, key: str) -> list[Item]:
    """So many of the items, all in a random order, then all of them in another, ..."""
    drawn: list[Item] = []
    for turn in range(-(-count // len(items))):
        drawn += sorted(items, key=lambda item: hashlib.sha256(f"{key} {turn} {item.id}".encode()).digest())
    return drawn[:count]
