"""The neuron in few passes over memory, in plain PyTorch: any device, any dtype, no compiler.

The working buffer holds the gap `e = threshold - h`: a neuron fires where it is not above 0. Two tricks keep a time
step at two operations on memory, forward and backward: on `n = -h`, "keep the potential unless the neuron fired" is one
threshold operation, and its backward is one on the gap. Spikes and surrogates are taken for all steps at once, and
neurons are worked through in tiles that stay in the processor's cache.

A gap is the distance to threshold with its sign turned, which surrogates, being even, do not see.

All functions work on flat arrays: currents [T, N], potentials [N]. Where samples have `lengths` [B], neuron n belongs
to sample n // (N / B); after a sample's last step its neurons keep their potential, and their gap counts as infinite:
no spike, and no surrogate either.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from snn_core.ops.lif.settings import Affine, Settings
from snn_core.surrogate import SurrogateGradient, atan, sigmoid, surrogate_gradient

TILE = 1 << 15
"""Neurons worked through at once, for each thread of a CPU."""
TINY = 1e-30
"""Stands for a gap that 16 bits round to 0, with the sign that it had."""
LEVELS = 127
"""Steps of the one-byte code of the surrogate gradient."""


def forward(
    x: Tensor,
    v_init: Tensor,
    s: Settings,
    spikes: Tensor,
    kept: Tensor | None,
    v_last: Tensor,
    *,
    lengths: Tensor | None = None,
    affine: Affine | None = None,
) -> None:
    """Run currents x [T, N] from potentials v_init [N].

    Writes spikes [T, N], v_last [N] and, unless it is None, what is kept for the backward [T, N]; v_init and v_last
    are in the dtype of the arithmetic.
    """
    channels = _channels(affine, x.shape[1])
    for place in tiles(x):
        direct = kept is not None and s.save == "d32"
        here = at(x, place)
        n = at(kept, place) if kept is not None and direct else torch.empty_like(here, dtype=v_init.dtype)
        gap = _gap(x, at(v_init, place), s, n, at(v_last, place), place, lengths, channels)
        torch.le(gap, 0.0, out=at(spikes, place))
        if kept is not None and not direct:
            _encode(gap, s, at(kept, place))


def _gap(
    currents: Tensor,
    v_init: Tensor,
    s: Settings,
    n: Tensor,
    v_last: Tensor | None,
    place: slice,
    lengths: Tensor | None,
    affine: tuple[Tensor, Tensor] | None,
) -> Tensor:
    """The gap to threshold at every step of the neurons at `place`, computed in the buffer n [T, tile]."""
    x = at(currents, place)
    if affine is not None:
        scale, shift = affine
        torch.mul(x, at(scale, place), out=n).add_(at(shift, place)).mul_(-s.gain)
    elif x.dtype == n.dtype:
        torch.mul(x, -s.gain, out=n)
    else:
        n.copy_(x).mul_(-s.gain)
    minus_v = -v_init
    last = None if lengths is None else steps_of(lengths, currents.shape[1], place)
    fired = torch.empty_like(minus_v) if s.soft_reset else minus_v
    for t, step in enumerate(n.unbind(0)):
        held = minus_v if last is None else minus_v.clone()
        step.add_(minus_v, alpha=s.decay)
        if s.soft_reset:
            torch.le(step, -s.threshold, out=fired)
            torch.add(step, fired, alpha=s.threshold, out=minus_v)
        else:
            torch.ops.aten.threshold.out(step, -s.threshold, 0.0, out=minus_v)
        if last is not None:
            over = last <= t
            torch.where(over, held, minus_v, out=minus_v)
            step.masked_fill_(over, math.inf)
    if v_last is not None:
        torch.neg(minus_v, out=v_last)
    return n.add_(s.threshold)


def _channels(affine: Affine | None, N: int) -> tuple[Tensor, Tensor] | None:
    """Scale and shift of every neuron, each [N]."""
    if affine is None:
        return None
    scale, shift, inner = affine
    times = N // (len(scale) * inner)
    return scale.repeat_interleave(inner).repeat(times), shift.repeat_interleave(inner).repeat(times)


def steps_of(lengths: Tensor, N: int, place: slice) -> Tensor:
    """How many steps the sample of each neuron at `place` has [tile]."""
    sample = torch.arange(place.start, place.stop, device=lengths.device).div_(N // len(lengths), rounding_mode="floor")
    return lengths[sample]


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
    *,
    lengths: Tensor | None = None,
    affine: Affine | None = None,
) -> None:
    """Gradients of spikes [T, N] and last potential [N] -> those of the currents [T, N] and v_init [N].

    With an affine, grad_x is the gradient of what comes out of it, and `kept` is what goes in (save `x` only).
    `grad_constants` [3], in float64, is added to: gradients of decay, gain and threshold. `bump` takes the place of the
    named surrogate.
    """
    own = bump
    # The named ones are even and take the gap as it is; a user's own may not be, and is given the distance itself.
    bump = surrogate_gradient(s.surrogate) if own is None else lambda gap, slope: own(-gap, slope)
    channels = _channels(affine, kept.shape[1])
    for place in tiles(kept):
        upstream = None if grad_spikes is None else at(grad_spikes, place).to(v_init.dtype)
        gap, slopes = _decode(kept, at(v_init, place), s, bump, place, lengths, channels)
        out = at(grad_x, place)
        grad_h = out if out.dtype == gap.dtype else torch.empty_like(gap)
        # All that follows is linear in the gradient of h, so the gain on the current can be taken in from the start,
        # which saves a pass over memory; gradients of the constants need the plain one.
        factor = s.gain if grad_constants is None else 1.0
        _through_spike(upstream, gap, slopes, s, bump, grad_h, factor)
        if grad_constants is not None:
            grad_constants[2] -= grad_h.sum(dtype=torch.float64)
        carried = None if grad_v_last is None else at(grad_v_last, place).to(gap.dtype) * factor
        over = None
        if lengths is not None:
            over = steps_of(lengths, kept.shape[1], place) <= torch.arange(len(kept), device=kept.device)[:, None]
            # From here on any finite gap above 0 will do: its slope has been taken, and infinity times 0 is no number.
            gap = gap.masked_fill(over, s.threshold)
        passed = None if s.detach_reset else (bump(gap, s.slope) if slopes is None else slopes)
        if over is not None and passed is not None:
            passed = passed.masked_fill(over, 0.0)
        reaching_v = _through_time(grad_h, carried, gap, passed, s, grad_constants, over)
        torch.div(reaching_v, factor, out=at(grad_v, place))
        if grad_constants is not None:
            _add_constants(grad_h, gap, at(v_init, place), s, grad_constants)
        if grad_constants is not None:
            grad_h.mul_(s.gain)
        if out is not grad_h:
            out.copy_(grad_h)


def _through_spike(
    upstream: Tensor | None,
    gap: Tensor,
    slopes: Tensor | None,
    s: Settings,
    bump: SurrogateGradient,
    grad_h: Tensor,
    factor: float,
) -> None:
    """Write the gradient that reaches h through the spikes, times `factor`, for all steps at once."""
    if upstream is None:
        grad_h.zero_()
    elif slopes is not None:
        torch.mul(upstream, slopes, out=grad_h).mul_(factor)
    elif bump is sigmoid:
        # The same as the surrogate's own function in one pass less.
        u = torch.mul(gap, s.slope).sigmoid_()
        torch.ops.aten.sigmoid_backward.grad_input(upstream, u, grad_input=grad_h).mul_(s.slope * factor)
    elif bump is atan:
        # slope / 2 / (1 + u^2), with the factor taken into u and 1.
        top = 2 / (s.slope * factor)
        u = torch.mul(gap, math.pi / 2 * s.slope * math.sqrt(top))
        torch.div(upstream, torch.addcmul(torch.tensor(top, dtype=u.dtype, device=u.device), u, u), out=grad_h)
    else:
        torch.mul(upstream, bump(gap, s.slope), out=grad_h).mul_(factor)


def _through_time(
    grad_h: Tensor,
    carried: Tensor | None,
    gap: Tensor,
    passed: Tensor | None,
    s: Settings,
    grad_constants: Tensor | None,
    over: Tensor | None,
) -> Tensor:
    """Add what reaches each h through the potential after it, from the last step to the first, in place.

    `carried` is the gradient of the potential after the last step, `passed` the surrogate where the reset lets
    gradients through, `over` [T, N] is true after a sample's last step. Returns the gradient of the potential before
    the first step.
    """
    held, share = torch.empty_like(grad_h[0]), 1.0
    for t in range(len(grad_h) - 1, -1, -1):
        waiting = carried
        if carried is not None:
            if grad_constants is not None:
                reach = carried if over is None else carried.masked_fill(over[t], 0.0)
                _add_reset_threshold(reach, share, gap[t], None if passed is None else passed[t], s, grad_constants)
            if s.soft_reset:
                grad_h[t].add_(carried, alpha=share)
            else:
                torch.ops.aten.threshold_backward.grad_input(carried, gap[t], 0.0, grad_input=held)
                grad_h[t].add_(held, alpha=share)
            if passed is not None:
                # ds/dh times what a spike changes: -threshold, or -h with a hard reset.
                jump = -s.threshold if s.soft_reset else gap[t] - s.threshold
                grad_h[t].add_(carried * passed[t] * jump, alpha=share)
        if over is not None:
            # A sample that has ended hands the gradient on as it is.
            grad_h[t].masked_fill_(over[t], 0.0)
            carried = grad_h[t] * s.decay if not s.detach_membrane else torch.zeros_like(held)
            if waiting is not None:
                carried = torch.where(over[t], waiting, carried)
        elif s.detach_membrane:
            break
        else:
            carried, share = grad_h[t], s.decay
    if over is None:
        return torch.zeros_like(held) if s.detach_membrane else grad_h[0] * s.decay
    assert carried is not None
    return carried


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
        # The sign bit is the spike: a distance that rounds to 0 from below stays -0, one of exactly 0 is +0.
        kept.copy_(0.0 - gap)
    else:
        assert s.save == "u8"
        bump = surrogate_gradient(s.surrogate)
        top = float(bump(torch.zeros(1), s.slope))
        kept.copy_(bump(gap, s.slope).mul_(LEVELS / top).round_().add_(gap <= 0, alpha=LEVELS + 1))


def _decode(
    kept: Tensor,
    v_init: Tensor,
    s: Settings,
    bump: SurrogateGradient,
    place: slice,
    lengths: Tensor | None,
    affine: tuple[Tensor, Tensor] | None,
) -> tuple[Tensor, Tensor | None]:
    """The gap, and the surrogate's values where they were kept instead: then the gap has its sign only."""
    here = at(kept, place)
    if s.save == "d32":
        return here, None
    if s.save == "x":
        n = torch.empty_like(here, dtype=v_init.dtype)
        return _gap(kept, v_init, s, n, None, place, lengths, affine), None
    if s.save == "d16":
        gap = here.to(v_init.dtype).neg_()
        return gap.add_(torch.copysign(torch.tensor(TINY, dtype=gap.dtype, device=gap.device), gap)), None
    code = here.to(v_init.dtype)
    fired = (code > LEVELS).to(code.dtype)
    top = float(bump(torch.zeros(1), s.slope))
    return 0.5 - fired, code.sub_(fired, alpha=LEVELS + 1).mul_(top / LEVELS)


def at(x: Tensor, place: slice) -> Tensor:
    """The neurons at `place` of [..., N]; x itself where that is all of them, which saves making a view."""
    return x if place.stop - place.start == x.shape[-1] else x[..., place]


def tiles(x: Tensor) -> list[slice]:
    """Places of N neurons that are worked through together: all of them on a GPU, what fits a cache on a CPU."""
    N = x.shape[1]
    width = TILE * torch.get_num_threads() if x.device.type == "cpu" else N
    return [slice(start, min(start + width, N)) for start in range(0, N, max(1, width))]
