"""What describes the batch norm of a fused call."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

from torch import Tensor, nn

BatchNorm = nn.BatchNorm1d | nn.BatchNorm2d


@dataclass(frozen=True)
class InputNorm:
    """A batch norm before a neuron, to be fused with it, and the pooling after it."""

    module: BatchNorm
    """Normalizes tokens [T, ..., C] (BatchNorm1d) or maps [T, ..., C, H, W] (BatchNorm2d); has weight and bias."""
    time_steps: int | None = None
    """Number of steps for which an input without a time axis is repeated; None for an input with one."""
    pool: nn.MaxPool2d | None = None
    """Max-pooling of the spikes of maps."""


class Layout(NamedTuple):
    """Memory layout of the input, and the epsilon of the norm."""

    inner: int
    """Number of consecutive elements per channel."""
    eps: float
    """Added to the variance."""
    repeats: int
    """Number of steps for which a static input is repeated; 0 if its first axis is time."""


class Statistics(NamedTuple):
    """Mean and biased variance, each [C]."""

    mean: Tensor
    var: Tensor
