"""The spike as a function with a surrogate gradient."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from snn_core.surrogate import SurrogateGradient


class _Spike(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, d: Tensor, surrogate: SurrogateGradient, slope: float) -> Tensor:
        ctx.save_for_backward(d)
        ctx.surrogate, ctx.slope = surrogate, slope
        return (d >= 0).to(d.dtype)

    @staticmethod
    def backward(ctx: Any, *grads: Any) -> tuple[Tensor, None, None]:
        (d,) = ctx.saved_tensors
        return grads[0] * ctx.surrogate(d, ctx.slope), None, None


def spike(d: Tensor, surrogate: SurrogateGradient, slope: float) -> Tensor:
    """Return 1 where `d >= 0`, else 0, with the surrogate as gradient. Shape and dtype of `d`."""
    return _Spike.apply(d, surrogate, slope)  # pyright: ignore[reportReturnType, reportUnknownMemberType, reportUnknownVariableType]
