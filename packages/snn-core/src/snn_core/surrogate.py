"""Surrogate gradients: they replace the derivative of the spike, a Heaviside step, in the backward pass.

A neuron spikes when its distance to threshold `d = h - v_threshold` reaches 0. That step has no useful derivative, so
the backward pass uses a bump around 0 instead (Neftci et al. 2019, arXiv:1901.09948). Each function maps `d` of any
shape and a `slope` to the bump; a larger slope makes it narrower and higher. All are even in `d` and integrate to 1.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor

SurrogateGradient = Callable[[Tensor, float], Tensor]
"""`(d, slope) -> derivative`, elementwise, same shape and dtype as `d`."""


def sigmoid(d: Tensor, slope: float) -> Tensor:
    """Derivative of `sigmoid(slope * d)`; S-CMRL (arXiv:2502.12488) uses it with slope 4."""
    s = torch.sigmoid(d * slope)
    return (1 - s).mul_(s).mul_(slope)


def atan(d: Tensor, slope: float) -> Tensor:
    """Derivative of `atan(pi / 2 * slope * d) / pi` (Fang et al. 2021, arXiv:2007.05785)."""
    return (d * (math.pi / 2 * slope)).square_().add_(1).reciprocal_().mul_(slope / 2)


def triangle(d: Tensor, slope: float) -> Tensor:
    """`slope * max(0, 1 - slope * |d|)` (Bellec et al. 2018, arXiv:1803.09574)."""
    return (d * slope).abs_().neg_().add_(1).clamp_(min=0).mul_(slope)


def rectangle(d: Tensor, slope: float) -> Tensor:
    """`slope` where `|d| < 1 / (2 slope)`, else 0 (Wu et al. 2018, arXiv:1706.02609)."""
    return (d.abs() < 0.5 / slope).to(d.dtype).mul_(slope)


def fast_sigmoid(d: Tensor, slope: float) -> Tensor:
    """`slope / 2 / (1 + slope * |d|)^2`, as in SuperSpike (Zenke & Ganguli 2018, arXiv:1705.11146)."""
    return (d * slope).abs_().add_(1).square_().reciprocal_().mul_(slope / 2)


def erf(d: Tensor, slope: float) -> Tensor:
    """Derivative of `erf(slope * d) / 2`, a Gaussian."""
    return (d * slope).square_().neg_().exp_().mul_(slope / math.sqrt(math.pi))


SURROGATES: dict[str, SurrogateGradient] = {
    "sigmoid": sigmoid,
    "atan": atan,
    "triangle": triangle,
    "rectangle": rectangle,
    "fast_sigmoid": fast_sigmoid,
    "erf": erf,
}


def surrogate_gradient(surrogate: str | SurrogateGradient) -> SurrogateGradient:
    """Return the surrogate of this name; a function is returned unchanged.

    Raises:
        ValueError: the name is not one of `SURROGATES`.
    """
    if callable(surrogate):
        return surrogate
    if surrogate not in SURROGATES:
        raise ValueError(f"unknown surrogate {surrogate!r}; choose one of {', '.join(SURROGATES)}, or pass a function")
    return SURROGATES[surrogate]
