"""Carving validation samples out of training samples.

What is chosen depends on the seed and on names, never on the order of rows: each name is ranked by a hash of itself and
the seed, so sorting a manifest or adding rows for other groups does not reshuffle it.
"""

from __future__ import annotations

import hashlib
import math
from collections import Counter, defaultdict
from collections.abc import Sequence

from snn_datasets.dataset import Split


def carve_by_sample(ids: Sequence[str], labels: Sequence[str], *, fraction: float, seed: int) -> set[str]:
    """Choose about `fraction` of the ids, with the same share of every class, and never a whole class.

    Shape: N ids and N labels -> ids of the validation samples, at least one
    """
    members: defaultdict[str, list[str]] = defaultdict(list)
    for id_, label in zip(ids, labels, strict=True):
        members[label].append(id_)
    total = max(1, round(fraction * len(ids)))
    wanted = {label: fraction * len(of_class) for label, of_class in members.items()}
    quotas = {label: math.floor(share) for label, share in wanted.items()}
    # What rounding down left over goes to the classes it cut most, the larger class first.
    by_remainder = sorted(members, key=lambda label: (quotas[label] - wanted[label], -len(members[label]), label))
    left = total - sum(quotas.values())
    for label in by_remainder:
        if left > 0 and quotas[label] + 1 < len(members[label]):
            quotas[label] += 1
            left -= 1
    chosen = {id_ for label, of_class in members.items() for id_ in _ranked(of_class, seed)[: quotas[label]]}
    if not chosen:
        raise ValueError(
            f"no validation sample can be carved out of {len(ids)} training rows, because every class has only one; "
            "add rows, or mark some with split 'val'"
        )
    return chosen


def carve_by_group(groups: Sequence[str], labels: Sequence[str], *, fraction: float, seed: int) -> set[str]:
    """Choose whole groups that hold about `fraction` of the samples together, and never a whole class.

    Shape: N group names and N labels, sample by sample -> names of the validation groups, at least one
    """
    sizes = Counter(groups)
    if len(sizes) == 1:
        raise ValueError(
            f"all {len(groups)} training rows belong to one group, {groups[0]!r}, so no whole group can be carved out "
            "for validation; mark some rows with split 'val', or remove the group column to carve by sample"
        )
    content: defaultdict[str, Counter[str]] = defaultdict(Counter)
    for group, label in zip(groups, labels, strict=True):
        content[group][label] += 1
    target = fraction * len(groups)
    remaining = Counter(labels)
    chosen: set[str] = set()
    size = 0

    def leaves_every_class(group: str) -> bool:
        return all(remaining[label] > count for label, count in content[group].items())

    order = _ranked(sizes, seed)
    for group in order:
        closer = abs(size + sizes[group] - target) < abs(size - target)
        if closer and leaves_every_class(group):
            chosen.add(group)
            size += sizes[group]
            remaining.subtract(content[group])
    if not chosen:
        # Every group is more than twice as large as asked for; the smallest comes nearest.
        possible = [group for group in order if leaves_every_class(group)]
        if not possible:
            raise ValueError(
                f"each of the {len(sizes)} training groups is the only one with some class, so none can be carved out "
                "for validation; mark some rows with split 'val', or remove the group column to carve by sample"
            )
        chosen.add(min(possible, key=lambda group: sizes[group]))
    return chosen


def _ranked(names: Sequence[str] | Counter[str], seed: int) -> list[str]:
    return sorted(names, key=lambda name: hashlib.sha256(f"{seed} {name}".encode()).digest())


def split_of(group: str, *, val: float, test: float, seed: int = 0) -> Split:
    """The split of a group (a speaker, a writer, a recording), from its name alone.

    Neither the other groups nor their order matter, so added samples move nobody. The shares of groups are met on
    average: a few groups may miss them widely, or leave a split empty.

    Raises:
        ValueError: val and test are no shares that leave something for training.
    """
    if min(val, test) < 0 or val + test >= 1:
        raise ValueError(f"val {val} and test {test} are shares of all groups; together they have to stay below 1")
    digest = hashlib.sha256(f"{seed} {group}".encode()).digest()
    place = int.from_bytes(digest[:7], "big") / 2**56
    return "test" if place < test else "val" if place < test + val else "train"
