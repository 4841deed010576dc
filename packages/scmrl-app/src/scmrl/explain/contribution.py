"""The contribution of each modality to a prediction: its Shapley value.

Let p(S) be the probability of the predicted class when only the modalities in S are present, and p() = 1 / K. The
contribution of modality m is the mean, over all orders in which modalities can be added, of the gain from adding m:

    contribution[m] = mean over orders of p(before m, and m) - p(before m).

Contributions sum to p(all) - 1 / K; a modality that changes nothing contributes 0 (Shapley 1953, "A value for n-person
games"). Up to six modalities all orders are used. Beyond, 120 fixed random orders and their reverses are used, so that
the sum still holds and the values are estimates.
"""

# PyTorch leaves some of its methods untyped.
# pyright: reportUnknownMemberType=false
from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from itertools import permutations

import torch
from torch import Tensor

from scmrl.explain.inference import class_probabilities, repeat_sample, run_model
from snn_fusion import FusionModel

MAX_EXACT = 6
"""Number of modalities up to which all orders are used."""
RANDOM_ORDERS = 120
"""Orders drawn for more modalities; the reverse of each is used, too."""
BATCH = 64
"""Subsets per batch."""


@torch.no_grad()
def shapley_values(model: FusionModel, inputs: Mapping[str, Tensor], predicted: int) -> dict[str, float]:
    """Return the contribution of each modality to the probability of class `predicted`.

    Args:
        model: in evaluation mode.
        inputs: by modality, a batch of one; missing modalities are absent and have no contribution.
        predicted: class index.
    """
    names = tuple(inputs)
    orders = list(permutations(names)) if len(names) <= MAX_EXACT else _random_orders(names)
    subsets = list(dict.fromkeys(frozenset(order[:size]) for order in orders for size in range(1, len(order) + 1)))
    probability = dict(zip(subsets, _subset_probabilities(model, inputs, subsets, predicted), strict=True))
    probability[frozenset()] = 1 / model.readout.head.out_features
    total = dict.fromkeys(names, 0.0)
    for order in orders:
        for position, name in enumerate(order):
            before = frozenset(order[:position])
            total[name] += probability[before | {name}] - probability[before]
    return {name: value / len(orders) for name, value in total.items()}


def _subset_probabilities(
    model: FusionModel, inputs: Mapping[str, Tensor], subsets: Sequence[frozenset[str]], predicted: int
) -> list[float]:
    """Return the probability of the class with each subset of modalities, computed in batches."""
    probabilities: list[float] = []
    for start in range(0, len(subsets), BATCH):
        chunk = subsets[start : start + BATCH]
        batch = {name: repeat_sample(model, name, x, len(chunk)) for name, x in inputs.items()}
        present = {name: torch.tensor([name in s for s in chunk], device=x.device) for name, x in inputs.items()}
        probabilities += class_probabilities(run_model(model, batch, present).logits)[:, predicted].tolist()
    return probabilities


def _random_orders(names: Sequence[str]) -> list[tuple[str, ...]]:
    generator = random.Random(0)
    orders = [tuple(generator.sample(names, len(names))) for _ in range(RANDOM_ORDERS)]
    return orders + [order[::-1] for order in orders]
