"""What each modality contributes to an answer: its Shapley value.

With p(S) the probability of the winning class when only the modalities in S are there, and p() = 1 / K for none,
modality m contributes the mean, over all orders in which modalities can be added one after the other, of what the
probability gains when m joins those before it:

    contribution[m] = mean over orders of p(before m, and m) - p(before m).

Contributions add up to p(all) - 1 / K, and modalities that change nothing contribute 0 (Shapley 1953, "A value for
n-person games"). Up to six modalities all orders are taken; beyond, 240 orders that are drawn once and for all, and
each with its reverse, so that the sum still holds and the values are estimates.
"""

# PyTorch leaves the types of some of its own methods open.
# pyright: reportUnknownMemberType=false
from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from itertools import permutations

import torch
from torch import Tensor

from scmrl.explain.asking import asked, chances, repeated
from snn_fusion import FusionModel

MOST_EXACT = 6
"""Modalities up to which every order is taken."""
DRAWN = 120
"""Orders that are drawn for more modalities; each is taken backwards, too."""
BATCH = 64
"""Subsets that the model is asked about at once."""


@torch.no_grad()
def contributions(model: FusionModel, inputs: Mapping[str, Tensor], winner: int) -> dict[str, float]:
    """The contribution of each modality to the probability of class `winner`, in points of probability.

    Args:
        model: in evaluation mode.
        inputs: a batch of one by modality; those that are left out are absent, and contribute nothing.
        winner: index of the class.
    """
    names = tuple(inputs)
    orders = list(permutations(names)) if len(names) <= MOST_EXACT else _drawn_orders(names)
    subsets = list(dict.fromkeys(frozenset(order[:size]) for order in orders for size in range(1, len(order) + 1)))
    chance = dict(zip(subsets, _with_subsets(model, inputs, subsets, winner), strict=True))
    chance[frozenset()] = 1 / model.readout.head.out_features
    total = dict.fromkeys(names, 0.0)
    for order in orders:
        for place, name in enumerate(order):
            before = frozenset(order[:place])
            total[name] += chance[before | {name}] - chance[before]
    return {name: value / len(orders) for name, value in total.items()}


def _with_subsets(
    model: FusionModel, inputs: Mapping[str, Tensor], subsets: Sequence[frozenset[str]], winner: int
) -> list[float]:
    """The class's probability with each of these subsets of modalities, all in as few batches as will do."""
    found: list[float] = []
    for start in range(0, len(subsets), BATCH):
        chunk = subsets[start : start + BATCH]
        batch = {name: repeated(model, name, x, len(chunk)) for name, x in inputs.items()}
        present = {name: torch.tensor([name in s for s in chunk], device=x.device) for name, x in inputs.items()}
        found += chances(asked(model, batch, present).logits)[:, winner].tolist()
    return found


def _drawn_orders(names: Sequence[str]) -> list[tuple[str, ...]]:
    draw = random.Random(0)
    orders = [tuple(draw.sample(names, len(names))) for _ in range(DRAWN)]
    return orders + [order[::-1] for order in orders]
