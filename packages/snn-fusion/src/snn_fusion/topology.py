"""Which modality reads which: ordered pairs (target, source)."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import permutations

Topology = str | Sequence[tuple[str, str]]
"""`all`, `ring`, `star:<hub>`, or a sequence of pairs (target, source)."""


def pairs(topology: Topology, modalities: Sequence[str]) -> tuple[tuple[str, str], ...]:
    """Return the ordered pairs (target, source) of a topology.

    `all`: each modality reads every other one, N (N - 1) pairs. `ring`: each reads the next one, the last the first, N
    pairs. `star:<hub>`: the hub reads all others and they read the hub, 2 (N - 1) pairs. For two modalities the three
    are equal; for one there are no pairs.

    Args:
        topology: one of these, or a sequence of (target, source).
        modalities: their names.

    Returns:
        the pairs sorted by the order of the modalities, first by target, then by source.

    Raises:
        ValueError: a duplicate modality or pair, an unknown topology, hub or modality, or a modality that reads itself.
    """
    known = ", ".join(modalities)
    if len(set(modalities)) < len(modalities):
        raise ValueError(f"modality names must be unique, but they are {known}")
    selected = _expand(topology, modalities) if isinstance(topology, str) else [_pair(pair) for pair in topology]
    for target, source in selected:
        for name in (target, source):
            if name not in modalities:
                raise ValueError(f"the pair {(target, source)} names {name!r}, but the modalities are {known}")
        if target == source:
            raise ValueError(f"{target!r} cannot read itself: a pair is (target, source) of two different modalities")
        if selected.count((target, source)) > 1:
            raise ValueError(f"the pair {(target, source)} is listed more than once; list each pair once")
    return tuple(pair for pair in permutations(modalities, 2) if pair in selected)


def _expand(topology: str, modalities: Sequence[str]) -> list[tuple[str, str]]:
    if topology == "all":
        return list(permutations(modalities, 2))
    if topology == "ring":
        following = [*modalities[1:], *modalities[:1]]
        return [(target, source) for target, source in zip(modalities, following, strict=True) if target != source]
    kind, colon, hub = topology.partition(":")
    if kind != "star" or not colon:
        raise ValueError(f"topology is all, ring, star:<hub> or a list of (target, source), but it is {topology!r}")
    if hub not in modalities:
        raise ValueError(f"the hub of {topology!r} must be one of the modalities {', '.join(modalities)}")
    return [pair for other in modalities if other != hub for pair in ((hub, other), (other, hub))]


def _pair(pair: Sequence[str]) -> tuple[str, str]:
    if isinstance(pair, str) or len(pair) != 2:
        raise ValueError(f"a topology's pair is (target, source), but one is {pair!r}")
    return pair[0], pair[1]
