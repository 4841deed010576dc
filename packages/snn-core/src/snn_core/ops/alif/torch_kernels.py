"""The adaptive neuron in few passes over memory, in plain PyTorch: any device, any dtype, no compiler.

As in `ops/lif/torch_kernels.py`: the working buffer holds the gap `e = A - h` to the raised threshold, a neuron spikes
where it is at most 0, and "keep the potential unless the neuron spiked" is one operation on the gap. Only the gap of
every element and time step is saved; its signs give the adaptation again where the backward needs it.

Where samples have `lengths` [B], neuron n belongs to sample n // (N / B). After the last step of a sample its neurons
keep their states, and their gap is infinite: no spike, and a surrogate of 0.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from snn_core.ops.alif.constants import ALIFConstants
from snn_core.ops.common.call import NeuronCall
from snn_core.ops.common.tiles import flat, flat_state, steps_of, tiles
from snn_core.surrogate import surrogate_gradient


def forward(
    x: Tensor,
    v_init: Tensor | None,
    b_init: Tensor | None,
    c: ALIFConstants,
    call: NeuronCall,
    spikes: Tensor,
    gap: Tensor | None,
    v_last: Tensor | None,
    b_last: Tensor | None,
    *,
    lengths: Tensor | None = None,
) -> None:
    """Run currents x [T, ...] from potentials v_init and adaptations b_init [...], None at rest.

    Writes spikes [T, ...] and, unless they are None, v_last and b_last [...] and the gap that the backward needs
    [T, ...]; all but x and the spikes have the dtype of the arithmetic.
    """
    v_init, b_init = flat_state(v_init, x), flat_state(b_init, x)
    x, spikes, gap = flat(x), flat(spikes), None if gap is None else flat(gap)
    for tile in tiles(x):
        part = x[:, tile]
        e = torch.empty_like(part, dtype=v_init.dtype) if gap is None else gap[:, tile]
        if part.dtype == e.dtype:
            torch.mul(part, -c.gain, out=e)
        else:
            e.copy_(part).mul_(-c.gain)
        steps = None if lengths is None else steps_of(lengths, x.shape[1], tile)
        minus_v, b = -v_init[tile], b_init[tile].clone()
        minus_h, level, fired = (torch.empty_like(b) for _ in range(3))
        for t, step in enumerate(e.unbind(0)):
            before = None if steps is None else (minus_v.clone(), b.clone())
            torch.add(step, minus_v, alpha=c.decay, out=minus_h)
            torch.mul(b, c.beta, out=level).add_(c.threshold)
            torch.add(minus_h, level, out=step)
            torch.le(step, 0.0, out=fired)
            if call.soft_reset:
                torch.add(minus_h, fired, alpha=c.threshold, out=minus_v)
            else:
                torch.ops.aten.threshold_backward.grad_input(minus_h, step, 0.0, grad_input=minus_v)
            b.mul_(c.rho).add_(fired)
            if steps is not None and before is not None:
                ended = steps <= t
                torch.where(ended, before[0], minus_v, out=minus_v)
                torch.where(ended, before[1], b, out=b)
                step.masked_fill_(ended, math.inf)
        torch.le(e, 0.0, out=spikes[:, tile])
        if v_last is not None:
            torch.neg(minus_v, out=v_last.view(-1)[tile])
        if b_last is not None:
            b_last.view(-1)[tile] = b


def backward(
    grad_spikes: Tensor | None,
    grad_v_last: Tensor | None,
    grad_b_last: Tensor | None,
    gap: Tensor,
    v_init: Tensor | None,
    b_init: Tensor | None,
    c: ALIFConstants,
    call: NeuronCall,
    grad_x: Tensor,
    grad_v: Tensor | None,
    grad_b: Tensor | None,
    grad_constants: Tensor | None,
    *,
    lengths: Tensor | None = None,
) -> None:
    """Gradients of spikes [T, ...], last potential and adaptation [...] -> those of currents and first states.

    `grad_constants` [5], in float64, is added to: gradients of decay, gain, threshold, beta and rho. All but grad_x may
    be None.
    """
    bump = surrogate_gradient(call.surrogate)
    grad_spikes = None if grad_spikes is None else flat(grad_spikes)
    grad_v_last = None if grad_v_last is None else grad_v_last.reshape(-1)
    grad_b_last = None if grad_b_last is None else grad_b_last.reshape(-1)
    v_init, b_init = flat_state(v_init, grad_x), flat_state(b_init, grad_x)
    gap, grad_x = flat(gap), flat(grad_x)
    T, N = gap.shape
    for tile in tiles(gap):
        e = gap[:, tile]
        slopes = bump(-e, call.slope)
        ended = None
        if lengths is not None:
            ended = steps_of(lengths, N, tile) <= torch.arange(T, device=gap.device)[:, None]
            slopes = slopes.masked_fill(ended, 0.0)
        before, h = None, None
        if grad_constants is not None or not (call.detach_reset or call.soft_reset):
            before = _adaptation(e, b_init[tile], c)
            # After the end of a sample any finite potential avoids inf * 0 = NaN.
            h = before * c.beta + c.threshold - (e if ended is None else e.masked_fill(ended, c.threshold))
        zero = torch.zeros_like(e[0])
        carry_v = zero if grad_v_last is None else grad_v_last[tile].to(e.dtype)
        carry_b = zero if grad_b_last is None else grad_b_last[tile].to(e.dtype)
        # Gradients of h - A through the spike, of h, of v and of b after each step.
        through, grad_h = torch.empty_like(e), torch.empty_like(e)
        after_v, after_b = (None, None) if grad_constants is None else (torch.empty_like(e), torch.empty_like(e))
        for t in range(T - 1, -1, -1):
            if after_v is not None and after_b is not None:
                after_v[t], after_b[t] = carry_v, carry_b
            # A spike changes the output, the adaptation and, through the reset, the potential.
            reach = carry_b if grad_spikes is None else carry_b + grad_spikes[t, tile].to(e.dtype)
            if not call.detach_reset:
                reach = reach - carry_v * (c.threshold if h is None or call.soft_reset else h[t])
            torch.mul(reach, slopes[t], out=through[t])
            unreset = carry_v if call.soft_reset else torch.ops.aten.threshold_backward(carry_v, e[t], 0.0)
            torch.add(through[t], unreset, out=grad_h[t])
            if ended is not None:
                grad_h[t].masked_fill_(ended[t], 0.0)
            previous_v = zero if call.detach_membrane else grad_h[t] * c.decay
            previous_b = (carry_b * c.rho).sub_(through[t], alpha=c.beta)
            carry_v = previous_v if ended is None else torch.where(ended[t], carry_v, previous_v)
            carry_b = previous_b if ended is None else torch.where(ended[t], carry_b, previous_b)
        if grad_constants is not None:
            assert before is not None
            assert h is not None
            assert after_v is not None
            assert after_b is not None
            fired = e <= 0
            after = torch.where(fired, h - c.threshold, h) if call.soft_reset else h.masked_fill(fired, 0.0)
            v = torch.cat([v_init[None, tile], after[:-1]])
            if ended is not None:
                after_v, after_b = after_v.masked_fill(ended, 0.0), after_b.masked_fill(ended, 0.0)
            grad_constants[0] += _dot(grad_h, v)
            grad_constants[1] += _dot(grad_h, h - c.decay * v) / c.gain
            grad_constants[2] -= through.sum(dtype=torch.float64)
            if call.soft_reset:
                grad_constants[2] -= _dot(after_v, fired)
            grad_constants[3] -= _dot(through, before)
            grad_constants[4] += _dot(after_b, before)
        torch.mul(grad_h, c.gain, out=grad_h)
        grad_x[:, tile] = grad_h
        if grad_v is not None:
            grad_v.view(-1)[tile] = carry_v
        if grad_b is not None:
            grad_b.view(-1)[tile] = carry_b


def _adaptation(gap: Tensor, b_init: Tensor, c: ALIFConstants) -> Tensor:
    """Return the adaptation before every step [T, tile]; after the end of a sample nothing reads it."""
    before = torch.empty_like(gap)
    before[0] = b_init
    for t in range(len(gap) - 1):
        torch.mul(before[t], c.rho, out=before[t + 1]).add_(gap[t] <= 0)
    return before


def _dot(a: Tensor, b: Tensor) -> Tensor:
    return (a * b).sum(dtype=torch.float64)
