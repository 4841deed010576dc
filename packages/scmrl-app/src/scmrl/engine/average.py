"""An exponential moving average of a model's weights, which often does better than the last ones."""

from __future__ import annotations

from collections.abc import Generator
from contextlib import contextmanager

import torch
from torch import Tensor, nn


def begin(net: nn.Module) -> dict[str, Tensor]:
    """The average before the first step: the weights themselves. Buffers, such as running statistics, are no part."""
    return {name: parameter.detach().clone() for name, parameter in net.named_parameters()}


@torch.no_grad()
def update(averaged: dict[str, Tensor], net: nn.Module, *, decay: float) -> None:
    """Move the average toward the weights: average = decay * average + (1 - decay) * weights."""
    for name, parameter in net.named_parameters():
        averaged[name].lerp_(parameter.detach(), 1 - decay)


@contextmanager
def in_place(averaged: dict[str, Tensor], net: nn.Module) -> Generator[None, None, None]:
    """Within the block the model has the averaged weights; without an average, its own."""
    kept = begin(net) if averaged else {}
    _put(averaged, net)
    try:
        yield
    finally:
        _put(kept, net)


@torch.no_grad()
def _put(values: dict[str, Tensor], net: nn.Module) -> None:
    if values:
        for name, parameter in net.named_parameters():
            parameter.copy_(values[name])
