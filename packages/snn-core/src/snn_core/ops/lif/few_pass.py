"""The neuron in few passes over memory, in plain PyTorch: any device, any dtype, no compiler.

The working buffer holds the gap `e = threshold - h`: a neuron fires where it is not above 0. Two tricks keep a time
step at two operations on memory, forward and backward: on `n = -h`, "keep the potential unless the neuron fired" is one
threshold operation, and its backward is one on the gap. Spikes and surrogates are taken for all steps at once, and
neurons are worked through in tiles that stay in the processor's cache.

All functions work on flat arrays: currents [T, N], potentials [N].
"""

from __future__ import annotations

import torch
from torch import Tensor

from snn_core.ops.lif.settings import Settings
from snn_core.surrogate import SurrogateGradient, sigmoid, surrogate_gradient

TILE = 1 << 15
"""Neurons worked through at once, for each thread of a CPU."""
TINY = 1e-30
"""Stands for a gap that 16 bits round to 0, with the sign that it had."""
LEVELS = 127
"""Steps of the one-byte code of the surrogate gradient."""


def forward(x: Tensor, v_init: Tensor, s: Settings, spikes: Tensor, kept: Tensor | None, v_last: Tensor) -> None:
    """Run currents x [T, N] from potentials v_init [N].

    Writes spikes [T, N], v_last [N] and, unless it is None, what is kept for the backward [T, N]; v_init and v_last
    are in the dtype of the arithmetic.
    """
    for place in tiles(x):
        direct = kept is not None and s.save == "d32"
        n = kept[:, place] if kept is not None and direct else torch.empty_like(x[:, place], dtype=v_init.dtype)
        gap = _gap(x[:, place], v_init[place], s, n, v_last[place])
        torch.le(gap, 0.0, out=spikes[:, place])
        if kept is not None and not direct:
            _encode(gap, s, kept[:, place])


def _gap(x: Tensor, v_init: Tensor, s: Settings, n: Tensor, v_last: Tensor | None) -> Tensor:
    """The gap to threshold at every step, computed in the buffer n [T, N]."""
    if x.dtype == n.dtype:
        torch.mul(x, -s.gain, out=n)
    else:
        n.copy_(x).mul_(-s.gain)
    minus_v = -v_init
    fired = torch.empty_like(minus_v) if s.soft_reset else minus_v
    for step in n.unbind(0):
        step.add_(minus_v, alpha=s.decay)
        if s.soft_reset:
            torch.le(step, -s.threshold, out=fired)
            torch.add(step, fired, alpha=s.threshold, out=minus_v)
        else:
            torch.ops.aten.threshold.out(step, -s.threshold, 0.0, out=minus_v)
    if v_last is not None:
        torch.neg(minus_v, out=v_last)
    return n.add_(s.threshold)


def backward(
    grad_spikes: Tensor | None,
    grad_v_last: Tensor | None,
    kept: Tensor,
    v_init: Tensor,
    s: Settings,
    grad_x: Tensor,
    grad_v: Tensor,
    grad_constants: Tensor | None,
    bump: SurrogateGradient | None = None,
) -> None:
    """Gradients of spikes [T, N] and last potential [N] -> those of x [T, N] and v_init [N].

    `grad_constants` [3], in float64, is added to: gradients of decay, gain and threshold. `bump` takes the place of the
    named surrogate.
    """
    bump = bump or surrogate_gradient(s.surrogate)
    for place in tiles(kept):
        upstream = None if grad_spikes is None else grad_spikes[:, place].to(v_init.dtype)
        gap, slopes = _decode(kept[:, place], v_init[place], s, bump)
        out = grad_x[:, place]
        grad_h = out if out.dtype == gap.dtype else torch.empty_like(gap)
        _through_spike(upstream, gap, slopes, s, bump, grad_h)
        if grad_constants is not None:
            grad_constants[2] -= grad_h.sum(dtype=torch.float64)
        carried = None if grad_v_last is None else grad_v_last[place].to(gap.dtype)
        _through_time(grad_h, carried, gap, slopes, s, bump, grad_constants)
        if s.detach_membrane:
            grad_v[place] = 0
        else:
            torch.mul(grad_h[0], s.decay, out=grad_v[place])
        if grad_constants is not None:
            _add_constants(grad_h, gap, v_init[place], s, grad_constants)
        torch.mul(grad_h, s.gain, out=out) if out is not grad_h else out.mul_(s.gain)


def _through_spike(
    upstream: Tensor | None, gap: Tensor, slopes: Tensor | None, s: Settings, bump: SurrogateGradient, grad_h: Tensor
) -> None:
    """Write the gradient that reaches h through the spikes, for all steps at once."""
    if upstream is None:
        grad_h.zero_()
    elif slopes is not None:
        torch.mul(upstream, slopes, out=grad_h)
    elif bump is sigmoid:
        # The same as the surrogate's own function in one pass less.
        u = torch.mul(gap, s.slope).sigmoid_()
        torch.ops.aten.sigmoid_backward.grad_input(upstream, u, grad_input=grad_h).mul_(s.slope)
    else:
        torch.mul(upstream, bump(-gap, s.slope), out=grad_h)


def _through_time(
    grad_h: Tensor,
    carried: Tensor | None,
    gap: Tensor,
    slopes: Tensor | None,
    s: Settings,
    bump: SurrogateGradient,
    grad_constants: Tensor | None,
) -> None:
    """Add what reaches each h through the potential after it, from the last step to the first, in place.

    `carried` is the gradient of the potential after the last step.
    """
    passed = None if s.detach_reset else (bump(-gap, s.slope) if slopes is None else slopes)
    held, share = torch.empty_like(grad_h[0]), 1.0
    for t in range(len(grad_h) - 1, -1, -1):
        if carried is not None:
            if grad_constants is not None:
                _add_reset_threshold(carried, share, gap[t], None if passed is None else passed[t], s, grad_constants)
            if s.soft_reset:
                grad_h[t].add_(carried, alpha=share)
            else:
                torch.ops.aten.threshold_backward.grad_input(carried, gap[t], 0.0, grad_input=held)
                grad_h[t].add_(held, alpha=share)
            if passed is not None:
                # ds/dh times what a spike changes: -threshold, or -h with a hard reset.
                jump = -s.threshold if s.soft_reset else gap[t] - s.threshold
                grad_h[t].add_(carried * passed[t] * jump, alpha=share)
        if s.detach_membrane:
            return
        carried, share = grad_h[t], s.decay


def _add_reset_threshold(
    carried: Tensor, share: float, gap: Tensor, passed: Tensor | None, s: Settings, grad_constants: Tensor
) -> None:
    """The threshold's gradient through the reset of one step: as what is subtracted, and through the spike."""
    through = torch.zeros_like(gap)
    if s.soft_reset:
        through -= (gap <= 0).to(gap.dtype)
    if passed is not None:
        through -= passed * (-s.threshold if s.soft_reset else gap - s.threshold)
    grad_constants[2] += share * (carried * through).sum(dtype=torch.float64)


def _add_constants(grad_h: Tensor, gap: Tensor, v_init: Tensor, s: Settings, grad_constants: Tensor) -> None:
    """Gradients of decay and gain from those of every h: dh/ddecay = v before, dh/dgain = x."""
    h = s.threshold - gap
    after = h - (gap <= 0).to(h.dtype) * s.threshold if s.soft_reset else h.masked_fill(gap <= 0, 0)
    before = torch.cat([v_init[None], after[:-1]])
    x = (h - s.decay * before) / s.gain
    grad_constants[0] += (grad_h * before).sum(dtype=torch.float64)
    grad_constants[1] += (grad_h * x).sum(dtype=torch.float64)


def _encode(gap: Tensor, s: Settings, kept: Tensor) -> None:
    """Write the gap in fewer bytes."""
    if s.save == "d16":
        # The sign bit is the spike: a distance that rounds to 0 from below stays -0.
        kept.copy_(-gap)
    else:
        assert s.save == "u8"
        bump = surrogate_gradient(s.surrogate)
        top = float(bump(torch.zeros(1), s.slope))
        kept.copy_(bump(-gap, s.slope).mul_(LEVELS / top).round_().add_(gap <= 0, alpha=LEVELS + 1))


def _decode(kept: Tensor, v_init: Tensor, s: Settings, bump: SurrogateGradient) -> tuple[Tensor, Tensor | None]:
    """The gap, and the surrogate's values where they were kept instead: then the gap has its sign only."""
    if s.save == "d32":
        return kept, None
    if s.save == "x":
        return _gap(kept, v_init, s, torch.empty_like(kept, dtype=v_init.dtype), None), None
    if s.save == "d16":
        gap = kept.to(v_init.dtype).neg_()
        return gap.add_(torch.copysign(torch.tensor(TINY, dtype=gap.dtype, device=gap.device), gap)), None
    code = kept.to(v_init.dtype)
    fired = (code > LEVELS).to(code.dtype)
    top = float(bump(torch.zeros(1), s.slope))
    return 0.5 - fired, code.sub_(fired, alpha=LEVELS + 1).mul_(top / LEVELS)


def tiles(x: Tensor) -> list[slice]:
    """Places of N neurons that are worked through together: all of them on a GPU, what fits a cache on a CPU."""
    N = x.shape[1]
    width = TILE * torch.get_num_threads() if x.device.type == "cpu" else N
    return [slice(start, min(start + width, N)) for start in range(0, N, max(1, width))]
