"""The derivative that stands in for the Heaviside step's in the backward pass.

A neuron fires when its distance to threshold `d = h - v_threshold` reaches 0. That step has no useful derivative, so
the backward pass uses a smooth bump around 0 instead (Neftci et al. 2019, arXiv:1901.09948). Each function here maps
`d` of any shape and a `slope` to that bump; larger slopes make it narrower and higher. All are even (d and -d give
the same) and, but for the scale of a user's own, have an integral of 1.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor

SurrogateGradient = Callable[[Tensor, float], Tensor]
"""`(d, slope) -> derivative`, elementwise, same shape and dtype as `d`."""


def sigmoid(d: Tensor, slope: float) -> Tensor:
    """Derivative of `sigmoid(slope * d)`; the choice of S-CMRL (arXiv:2502.12488) with slope 4."""
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
    """The function behind a name, or the user's own function as it is.

    Raises:
        ValueError: the name is not one of `SURROGATES`.
    """
    if callable(surrogate):
        return surrogate
    if surrogate not in SURROGATES:
        raise ValueError(f"no surrogate is called {surrogate!r}; known: {', '.join(SURROGATES)}, or give a function")
    return SURROGATES[surrogate]
