"""The adaptive neuron in few passes over memory, in plain PyTorch: any device, any dtype, no compiler.

As in `ops/lif/few_pass.py`: the working buffer holds the gap `e = A - h` to the risen threshold, a neuron fires where
that is not above 0, and "keep the potential unless the neuron fired" is one operation on the gap. Of every element and
time step the gap is all that is kept; where the backward needs adaptations, the gaps' signs give them again.

All functions work on flat arrays: currents [T, N], potentials and adaptations [N]. Where samples have `lengths` [B],
neuron n belongs to sample n // (N / B); after a sample's last step its neurons keep their state, and their gap counts
as infinite: no spike, and no surrogate either.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor

from snn_core.ops.alif.settings import Settings
from snn_core.ops.lif.few_pass import steps_of, tiles
from snn_core.surrogate import SurrogateGradient, surrogate_gradient


class Gradients(NamedTuple):
    """Where the backward writes to."""

    x: Tensor
    """Of the currents [T, N]."""
    v: Tensor
    """Of the first potential [N]."""
    b: Tensor
    """Of the first adaptation [N]."""
    constants: Tensor | None
    """Of decay, gain, threshold, beta and rho, [5] in float64: added to. None where they are not asked for."""


def forward(
    x: Tensor,
    v_init: Tensor,
    b_init: Tensor,
    s: Settings,
    spikes: Tensor,
    gap: Tensor | None,
    v_last: Tensor,
    b_last: Tensor,
    *,
    lengths: Tensor | None = None,
) -> None:
    """Run currents x [T, N] from potentials v_init and adaptations b_init [N].

    Writes spikes [T, N], v_last and b_last [N] and, unless it is None, the gap that the backward needs [T, N]; all but
    x and the spikes are in the dtype of the arithmetic.
    """
    for place in tiles(x):
        here = x[:, place]
        e = torch.empty_like(here, dtype=v_init.dtype) if gap is None else gap[:, place]
        if here.dtype == e.dtype:
            torch.mul(here, -s.gain, out=e)
        else:
            e.copy_(here).mul_(-s.gain)
        steps = None if lengths is None else steps_of(lengths, x.shape[1], place)
        minus_v, b = -v_init[place], b_init[place].clone()
        minus_h, level, fired = (torch.empty_like(b) for _ in range(3))
        for t, step in enumerate(e.unbind(0)):
            held = None if steps is None else (minus_v.clone(), b.clone())
            torch.add(step, minus_v, alpha=s.decay, out=minus_h)
            torch.mul(b, s.beta, out=level).add_(s.threshold)
            torch.add(minus_h, level, out=step)
            torch.le(step, 0.0, out=fired)
            if s.soft_reset:
                torch.add(minus_h, fired, alpha=s.threshold, out=minus_v)
            else:
                torch.ops.aten.threshold_backward.grad_input(minus_h, step, 0.0, grad_input=minus_v)
            b.mul_(s.rho).add_(fired)
            if steps is not None and held is not None:
                over = steps <= t
                torch.where(over, held[0], minus_v, out=minus_v)
                torch.where(over, held[1], b, out=b)
                step.masked_fill_(over, math.inf)
        torch.le(e, 0.0, out=spikes[:, place])
        torch.neg(minus_v, out=v_last[place])
        b_last[place] = b


def backward(
    grad_spikes: Tensor | None,
    grad_v_last: Tensor | None,
    grad_b_last: Tensor | None,
    gap: Tensor,
    v_init: Tensor,
    b_init: Tensor,
    s: Settings,
    grads: Gradients,
    bump: SurrogateGradient | None = None,
    *,
    lengths: Tensor | None = None,
) -> None:
    """Gradients of spikes [T, N], last potential and last adaptation [N] -> those named in `Gradients`.

    `bump` takes the place of the named surrogate.
    """
    bump = bump or surrogate_gradient(s.surrogate)
    T, N = gap.shape
    for place in tiles(gap):
        e = gap[:, place]
        slopes = bump(-e, s.slope)
        over = None
        if lengths is not None:
            over = steps_of(lengths, N, place) <= torch.arange(T, device=gap.device)[:, None]
            slopes = slopes.masked_fill(over, 0.0)
        before, h = None, None
        if grads.constants is not None or not (s.detach_reset or s.soft_reset):
            before = _adaptation(e, b_init[place], s)
            # Any finite potential will do after a sample's end: infinity times 0 is no number.
            h = before * s.beta + s.threshold - (e if over is None else e.masked_fill(over, s.threshold))
        zero = torch.zeros_like(e[0])
        carry_v = zero if grad_v_last is None else grad_v_last[place].to(e.dtype)
        carry_b = zero if grad_b_last is None else grad_b_last[place].to(e.dtype)
        # Gradients of h - A through the spike, of h, of v and of b after each step.
        through, grad_h = torch.empty_like(e), torch.empty_like(e)
        after_v, after_b = (None, None) if grads.constants is None else (torch.empty_like(e), torch.empty_like(e))
        for t in range(T - 1, -1, -1):
            if after_v is not None and after_b is not None:
                after_v[t], after_b[t] = carry_v, carry_b
            # A spike changes the output, the adaptation and, by what the reset takes away, the potential.
            reach = carry_b if grad_spikes is None else carry_b + grad_spikes[t, place].to(e.dtype)
            if not s.detach_reset:
                reach = reach - carry_v * (s.threshold if h is None or s.soft_reset else h[t])
            torch.mul(reach, slopes[t], out=through[t])
            kept = carry_v if s.soft_reset else torch.ops.aten.threshold_backward(carry_v, e[t], 0.0)
            torch.add(through[t], kept, out=grad_h[t])
            if over is not None:
                grad_h[t].masked_fill_(over[t], 0.0)
            sooner_v = zero if s.detach_membrane else grad_h[t] * s.decay
            sooner_b = (carry_b * s.rho).sub_(through[t], alpha=s.beta)
            carry_v = sooner_v if over is None else torch.where(over[t], carry_v, sooner_v)
            carry_b = sooner_b if over is None else torch.where(over[t], carry_b, sooner_b)
        if grads.constants is not None:
            assert before is not None
            assert h is not None
            assert after_v is not None
            assert after_b is not None
            fired = e <= 0
            after = torch.where(fired, h - s.threshold, h) if s.soft_reset else h.masked_fill(fired, 0.0)
            v = torch.cat([v_init[None, place], after[:-1]])
            if over is not None:
                after_v, after_b = after_v.masked_fill(over, 0.0), after_b.masked_fill(over, 0.0)
            grads.constants[0] += _dot(grad_h, v)
            grads.constants[1] += _dot(grad_h, h - s.decay * v) / s.gain
            grads.constants[2] -= through.sum(dtype=torch.float64)
            if s.soft_reset:
                grads.constants[2] -= _dot(after_v, fired)
            grads.constants[3] -= _dot(through, before)
            grads.constants[4] += _dot(after_b, before)
        torch.mul(grad_h, s.gain, out=grad_h)
        grads.x[:, place] = grad_h
        grads.v[place] = carry_v
        grads.b[place] = carry_b


def _adaptation(gap: Tensor, b_init: Tensor, s: Settings) -> Tensor:
    """The adaptation before every step [T, tile]; after a sample's end it goes on sinking, where nothing reads it."""
    before = torch.empty_like(gap)
    before[0] = b_init
    for t in range(len(gap) - 1):
        torch.mul(before[t], s.rho, out=before[t + 1]).add_(gap[t] <= 0)
    return before


def _dot(a: Tensor, b: Tensor) -> Tensor:
    return (a * b).sum(dtype=torch.float64)
