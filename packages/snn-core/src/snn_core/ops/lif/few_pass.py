"""The same neuron in few passes over memory, in plain PyTorch: any device, no compiler.

Forward works in place on one buffer and keeps only `d = h - v_threshold` for the backward (4 bytes an element and time
step in float32): its sign is the spike and the surrogate is a function of it alone. Where the membrane is detached
between steps the backward has no recurrence and is one sweep over the whole sequence.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from snn_core.surrogate import SurrogateGradient, sigmoid


class FewPassLIF(torch.autograd.Function):
    """Arguments and results as in `reference.lif_reference`; x and v_init share one floating dtype."""

    @staticmethod
    def forward(
        ctx: Any,
        x: Tensor,
        v_init: Tensor,
        tau: float,
        v_threshold: float,
        v_reset: float | None,
        decay_input: bool,
        detach_reset: bool,
        detach_membrane: bool,
        surrogate: SurrogateGradient,
        slope: float,
    ) -> tuple[Tensor, Tensor]:
        """Currents [T, ...] -> spikes [T, ...] and the last potential [...]."""
        d = torch.empty(x.shape, dtype=x.dtype, device=x.device)
        v, v_rest = v_init, v_reset or 0.0
        for current, h in zip(x.unbind(0), d.unbind(0), strict=True):
            if decay_input:
                torch.sub(current, v - v_rest if v_rest else v, out=h)
                torch.add(v, h, alpha=1 / tau, out=h)
            else:
                torch.add(v, v - v_rest if v_rest else v, alpha=-1 / tau, out=h)
                h.add_(current)
            fired = h >= v_threshold
            v = torch.where(fired, h - v_threshold, h) if v_reset is None else h.masked_fill(fired, v_reset)
            h.sub_(v_threshold)
        ctx.save_for_backward(d)
        ctx.settings = (tau, v_threshold, v_reset, decay_input, detach_reset, detach_membrane, surrogate, slope)
        ctx.set_materialize_grads(False)
        return (d >= 0).to(x.dtype), v

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grads: Any) -> tuple[Tensor | None, ...]:  # pyright: ignore[reportIncompatibleMethodOverride]
        """Gradients of spikes and last potential -> gradients of x and v_init."""
        grad_spikes, grad_v_last = grads
        (d,) = ctx.saved_tensors
        tau, v_threshold, v_reset, decay_input, detach_reset, detach_membrane, surrogate, slope = ctx.settings
        to_x = 1 / tau if decay_input else 1.0
        if detach_membrane and grad_v_last is None:
            return (_through_spike(grad_spikes, d, surrogate, slope).mul_(to_x), None, *[None] * 8)

        bump = surrogate(d, slope)
        grad_x = torch.empty_like(d)
        carry = torch.zeros_like(d[0]) if grad_v_last is None else grad_v_last
        for t in range(d.shape[0] - 1, -1, -1):
            fired = d[t] >= 0
            grad_h = carry if v_reset is None else carry.masked_fill(fired, 0)
            if not detach_reset:
                jump = -v_threshold if v_reset is None else v_reset - (d[t] + v_threshold)
                grad_h = grad_h + carry * bump[t] * jump
            if grad_spikes is not None:
                grad_h = torch.addcmul(grad_h, grad_spikes[t], bump[t])
            torch.mul(grad_h, to_x, out=grad_x[t])
            carry = torch.zeros_like(grad_h) if detach_membrane else grad_h * (1 - 1 / tau)
        return (grad_x, None if detach_membrane else carry, *[None] * 8)


def _through_spike(grad_spikes: Tensor, d: Tensor, surrogate: SurrogateGradient, slope: float) -> Tensor:
    if surrogate is sigmoid:
        # grad * s * (1 - s) in one pass over memory.
        return torch.ops.aten.sigmoid_backward(grad_spikes, torch.sigmoid(d * slope)).mul_(slope)
    return surrogate(d, slope).mul_(grad_spikes)
