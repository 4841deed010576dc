"""The derivative that stands in for the Heaviside step's in the backward pass.

A neuron fires when its distance to threshold `d = h - v_threshold` reaches 0. That step has no useful derivative, so
the backward pass uses a smooth bump around 0 instead (Neftci et al. 2019, arXiv:1901.09948). Each function here maps
`d` of any shape and a `slope` to that bump; larger slopes make it narrower and higher.
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
    return s * (1 - s) * slope


def atan(d: Tensor, slope: float) -> Tensor:
    """Derivative of `atan(pi / 2 * slope * d) / pi` (Fang et al. 2021, arXiv:2007.05785)."""
    return (slope / 2) / (1 + (d * (math.pi / 2 * slope)) ** 2)


SURROGATES: dict[str, SurrogateGradient] = {"sigmoid": sigmoid, "atan": atan}


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
