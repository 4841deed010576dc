"""Exponential moving average (EMA) of a model's weights."""

from __future__ import annotations

from collections.abc import Generator
from contextlib import contextmanager

import torch
from torch import Tensor, nn


def begin(net: nn.Module) -> dict[str, Tensor]:
    """Start the average as a copy of the parameters. Buffers, such as running statistics, are not averaged."""
    return {name: parameter.detach().clone() for name, parameter in net.named_parameters()}


@torch.no_grad()
def update(averaged: dict[str, Tensor], net: nn.Module, *, decay: float) -> None:
    """Move the average toward the weights: average = decay * average + (1 - decay) * weights."""
    for name, parameter in net.named_parameters():
        averaged[name].lerp_(parameter.detach(), 1 - decay)


@contextmanager
def in_place(averaged: dict[str, Tensor], net: nn.Module) -> Generator[None, None, None]:
    """Within the block the model has the averaged weights; without an average it is unchanged."""
    original = begin(net) if averaged else {}
    _copy_into(averaged, net)
    try:
        yield
    finally:
        _copy_into(original, net)


@torch.no_grad()
def _copy_into(values: dict[str, Tensor], net: nn.Module) -> None:
    if values:
        for name, parameter in net.named_parameters():
            parameter.copy_(values[name])
