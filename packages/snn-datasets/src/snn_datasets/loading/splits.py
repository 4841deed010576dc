"""Carve validation samples out of training samples.

The choice depends on the seed and on names, not on the order of rows: names are ranked by a hash of name and seed, so
sorting a manifest or adding rows of other groups does not reshuffle it.
"""

from __future__ import annotations

import hashlib
import math
from collections import Counter, defaultdict
from collections.abc import Sequence

from snn_datasets.base.dataset import Split


def carve_by_sample(ids: Sequence[str], labels: Sequence[str], *, fraction: float, seed: int) -> set[str]:
    """Select about `fraction` of the ids, stratified by class, and never a whole class.

    Shape: N ids and N labels -> ids of the validation samples, at least one
    """
    members: defaultdict[str, list[str]] = defaultdict(list)
    for id_, label in zip(ids, labels, strict=True):
        members[label].append(id_)
    total = max(1, round(fraction * len(ids)))
    target = {label: fraction * len(ids_of_class) for label, ids_of_class in members.items()}
    quotas = {label: math.floor(count) for label, count in target.items()}
    # Remaining samples go to the classes with the largest remainder, larger classes first.
    by_remainder = sorted(members, key=lambda label: (quotas[label] - target[label], -len(members[label]), label))
    remaining = total - sum(quotas.values())
    for label in by_remainder:
        if remaining > 0 and quotas[label] + 1 < len(members[label]):
            quotas[label] += 1
            remaining -= 1
    selected = {id_ for label, ids_of_class in members.items() for id_ in _rank(ids_of_class, seed)[: quotas[label]]}
    if not selected:
        raise ValueError(
            f"no validation sample can be carved out of {len(ids)} training rows, because every class has only one; "
            "add rows, or mark some with split 'val'"
        )
    return selected


def carve_by_group(groups: Sequence[str], labels: Sequence[str], *, fraction: float, seed: int) -> set[str]:
    """Select whole groups with about `fraction` of the samples in total, and never a whole class.

    Shape: N group names and N labels -> names of the validation groups, at least one
    """
    sizes = Counter(groups)
    if len(sizes) == 1:
        raise ValueError(
            f"all {len(groups)} training rows belong to one group, {groups[0]!r}, so no group can be carved out for "
            "validation; mark some rows with split 'val', or remove the group column to carve by sample"
        )
    content: defaultdict[str, Counter[str]] = defaultdict(Counter)
    for group, label in zip(groups, labels, strict=True):
        content[group][label] += 1
    target = fraction * len(groups)
    remaining = Counter(labels)
    selected: set[str] = set()
    size = 0

    def leaves_every_class(group: str) -> bool:
        return all(remaining[label] > count for label, count in content[group].items())

    order = _rank(sizes, seed)
    for group in order:
        closer = abs(size + sizes[group] - target) < abs(size - target)
        if closer and leaves_every_class(group):
            selected.add(group)
            size += sizes[group]
            remaining.subtract(content[group])
    if not selected:
        # Every group is more than twice the target size; the smallest is closest.
        candidates = [group for group in order if leaves_every_class(group)]
        if not candidates:
            raise ValueError(
                f"each of the {len(sizes)} training groups is the only one with some class, so none can be carved out "
                "for validation; mark some rows with split 'val', or remove the group column to carve by sample"
            )
        selected.add(min(candidates, key=lambda group: sizes[group]))
    return selected


def _rank(names: Sequence[str] | Counter[str], seed: int) -> list[str]:
    return sorted(names, key=lambda name: hashlib.sha256(f"{seed} {name}".encode()).digest())


def split_of(group: str, *, val: float, test: float, seed: int = 0) -> Split:
    """Return the split of a group (a speaker, a writer, a recording) from its name alone.

    Other groups and their order have no influence, so added samples move no group. The fractions hold on average: with
    few groups they may be missed widely, or a split may be empty.

    Raises:
        ValueError: a fraction is negative, or they leave nothing for training.
    """
    if min(val, test) < 0 or val + test >= 1:
        raise ValueError(f"val {val} and test {test} are fractions of all groups; their sum must be below 1")
    digest = hashlib.sha256(f"{seed} {group}".encode()).digest()
    position = int.from_bytes(digest[:7], "big") / 2**56
    return "test" if position < test else "val" if position < test + val else "train"
