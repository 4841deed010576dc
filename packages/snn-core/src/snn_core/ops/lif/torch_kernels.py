"""The neuron in few passes over memory, in plain PyTorch: any device, any dtype, no compiler.

The working buffer holds the gap `e = threshold - h`: a neuron spikes where it is at most 0. A time step then takes two
operations on memory, forward and backward: on `n = -h`, "keep the potential unless the neuron spiked" is one threshold
operation, and its backward is one on the gap. Spikes and surrogates are computed for all steps at once, for tiles of
neurons that stay in the cache. The gap is the negated distance to threshold; even surrogates do not depend on the sign.

Where samples have `lengths` [B], neuron n belongs to sample n // (N / B). After the last step of a sample its neurons
keep their potential, and their gap is infinite: no spike, and a surrogate of 0.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from snn_core.ops.common.call import Affine, NeuronCall
from snn_core.ops.common.tiles import flat, flat_state, select, steps_of, tiles
from snn_core.ops.lif.constants import LEVELS, LIFConstants
from snn_core.surrogate import SurrogateGradient, atan, sigmoid, surrogate_gradient

TINY = 1e-30
"""Replaces a gap that 16 bits round to 0; it has the sign of the gap."""


def forward(
    x: Tensor,
    v_init: Tensor | None,
    c: LIFConstants,
    call: NeuronCall,
    spikes: Tensor,
    saved: Tensor | None,
    v_last: Tensor | None,
    *,
    lengths: Tensor | None = None,
    affine: Affine | None = None,
) -> None:
    """Run currents x [T, ...] from potentials v_init [...], None at rest.

    Writes spikes [T, ...] and, unless they are None, v_last [...] and what the backward needs into saved [T, ...];
    v_init and v_last have the dtype of the arithmetic.
    """
    v_init = flat_state(v_init, x)
    x, spikes, v_last = flat(x), flat(spikes), None if v_last is None else v_last.view(-1)
    saved = None if saved is None else flat(saved)
    affine_of_neurons = _scale_and_shift(affine, x.shape[1])
    for tile in tiles(x):
        direct = saved is not None and call.save == "d32"
        part = select(x, tile)
        n = select(saved, tile) if saved is not None and direct else torch.empty_like(part, dtype=v_init.dtype)
        last = None if v_last is None else select(v_last, tile)
        gap = _gap(x, select(v_init, tile), c, call, n, last, tile, lengths, affine_of_neurons)
        torch.le(gap, 0.0, out=select(spikes, tile))
        if saved is not None and not direct:
            _encode(gap, call, select(saved, tile))


def _gap(
    currents: Tensor,
    v_init: Tensor,
    c: LIFConstants,
    call: NeuronCall,
    n: Tensor,
    v_last: Tensor | None,
    tile: slice,
    lengths: Tensor | None,
    affine: tuple[Tensor, Tensor] | None,
) -> Tensor:
    """Compute the gap to threshold at every step of a tile of neurons in the buffer n [T, tile]."""
    x = select(currents, tile)
    if affine is not None:
        scale, shift = affine
        torch.mul(x, select(scale, tile), out=n).add_(select(shift, tile)).mul_(-c.gain)
    elif x.dtype == n.dtype:
        torch.mul(x, -c.gain, out=n)
    else:
        n.copy_(x).mul_(-c.gain)
    minus_v = -v_init
    last = None if lengths is None else steps_of(lengths, currents.shape[1], tile)
    fired = torch.empty_like(minus_v) if call.soft_reset else minus_v
    for t, step in enumerate(n.unbind(0)):
        before = minus_v if last is None else minus_v.clone()
        step.add_(minus_v, alpha=c.decay)
        if call.soft_reset:
            torch.le(step, -c.threshold, out=fired)
            torch.add(step, fired, alpha=c.threshold, out=minus_v)
        else:
            torch.ops.aten.threshold.out(step, -c.threshold, 0.0, out=minus_v)
        if last is not None:
            ended = last <= t
            torch.where(ended, before, minus_v, out=minus_v)
            step.masked_fill_(ended, math.inf)
    if v_last is not None:
        torch.neg(minus_v, out=v_last)
    return n.add_(c.threshold)


def _scale_and_shift(affine: Affine | None, N: int) -> tuple[Tensor, Tensor] | None:
    """Return scale and shift of every neuron, each [N]."""
    if affine is None:
        return None
    scale, shift, inner = affine
    times = N // (len(scale) * inner)
    return scale.repeat_interleave(inner).repeat(times), shift.repeat_interleave(inner).repeat(times)


def backward(
    grad_spikes: Tensor | None,
    grad_v_last: Tensor | None,
    saved: Tensor,
    v_init: Tensor | None,
    c: LIFConstants,
    call: NeuronCall,
    grad_x: Tensor,
    grad_v: Tensor | None,
    grad_constants: Tensor | None,
    *,
    lengths: Tensor | None = None,
    affine: Affine | None = None,
) -> None:
    """Gradients of spikes [T, ...] and last potential [...] -> those of the currents [T, ...] and v_init [...].

    With an affine, grad_x is the gradient of its output, and `saved` is its input (save `x` only). `grad_constants`
    [3], in float64, is added to: gradients of decay, gain and threshold. grad_v and grad_constants may be None.
    """
    grad_spikes = None if grad_spikes is None else flat(grad_spikes)
    grad_v_last = None if grad_v_last is None else grad_v_last.reshape(-1)
    v_init = flat_state(v_init, grad_x)
    saved, grad_x, grad_v = flat(saved), flat(grad_x), None if grad_v is None else grad_v.view(-1)
    custom = call.surrogate if callable(call.surrogate) else None
    # The named surrogates are even and take the gap; a custom one may not be, so it gets the distance.
    bump = surrogate_gradient(call.surrogate) if custom is None else _of_distance(custom)
    affine_of_neurons = _scale_and_shift(affine, saved.shape[1])
    for tile in tiles(saved):
        upstream = None if grad_spikes is None else select(grad_spikes, tile).to(v_init.dtype)
        gap, slopes = _decode(saved, select(v_init, tile), c, call, bump, tile, lengths, affine_of_neurons)
        out = select(grad_x, tile)
        grad_h = out if out.dtype == gap.dtype else torch.empty_like(gap)
        # Everything below is linear in the gradient of h, so the gain on the current is applied first, which saves a
        # pass over memory. Gradients of the constants need the gradient of h itself.
        factor = c.gain if grad_constants is None else 1.0
        _through_spike(upstream, gap, slopes, call, bump, grad_h, factor)
        if grad_constants is not None:
            grad_constants[2] -= grad_h.sum(dtype=torch.float64)
        carried = None if grad_v_last is None else select(grad_v_last, tile).to(gap.dtype) * factor
        ended = None
        if lengths is not None:
            ended = steps_of(lengths, saved.shape[1], tile) <= torch.arange(len(saved), device=saved.device)[:, None]
            # The slope of the infinite gap has been computed; any finite gap above 0 avoids inf * 0 = NaN below.
            gap = gap.masked_fill(ended, c.threshold)
        through_reset = None if call.detach_reset else (bump(gap, call.slope) if slopes is None else slopes)
        if ended is not None and through_reset is not None:
            through_reset = through_reset.masked_fill(ended, 0.0)
        grad_v_init = _through_time(grad_h, carried, gap, through_reset, c, call, grad_constants, ended)
        if grad_v is not None:
            torch.div(grad_v_init, factor, out=select(grad_v, tile))
        if grad_constants is not None:
            _add_leak(grad_h, gap, select(v_init, tile), c, call, grad_constants)
            grad_h.mul_(c.gain)
        if out is not grad_h:
            out.copy_(grad_h)


def _of_distance(surrogate: SurrogateGradient) -> SurrogateGradient:
    """Return the surrogate as a function of the gap."""
    return lambda gap, slope: surrogate(-gap, slope)


def _through_spike(
    upstream: Tensor | None,
    gap: Tensor,
    slopes: Tensor | None,
    call: NeuronCall,
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
        # Equals the surrogate function, with one pass less.
        u = torch.mul(gap, call.slope).sigmoid_()
        torch.ops.aten.sigmoid_backward.grad_input(upstream, u, grad_input=grad_h).mul_(call.slope * factor)
    elif bump is atan:
        # slope / 2 / (1 + u^2), with the factor moved into u and 1.
        top = 2 / (call.slope * factor)
        u = torch.mul(gap, math.pi / 2 * call.slope * math.sqrt(top))
        torch.div(upstream, torch.addcmul(torch.tensor(top, dtype=u.dtype, device=u.device), u, u), out=grad_h)
    else:
        torch.mul(upstream, bump(gap, call.slope), out=grad_h).mul_(factor)


def _through_time(
    grad_h: Tensor,
    carried: Tensor | None,
    gap: Tensor,
    through_reset: Tensor | None,
    c: LIFConstants,
    call: NeuronCall,
    grad_constants: Tensor | None,
    ended: Tensor | None,
) -> Tensor:
    """Add the gradient of each h through the potential after it, from the last step to the first, in place.

    `carried` is the gradient of the potential after the last step, `through_reset` the surrogate unless the reset is
    detached, `ended` [T, N] is true after the last step of a sample. Returns the gradient of the potential before the
    first step.
    """
    unreset, factor = torch.empty_like(grad_h[0]), 1.0
    for t in range(len(grad_h) - 1, -1, -1):
        after_end = carried
        if carried is not None:
            if grad_constants is not None:
                reaching = carried if ended is None else carried.masked_fill(ended[t], 0.0)
                through = None if through_reset is None else through_reset[t]
                _add_threshold(reaching, factor, gap[t], through, c, call, grad_constants)
            if call.soft_reset:
                grad_h[t].add_(carried, alpha=factor)
            else:
                torch.ops.aten.threshold_backward.grad_input(carried, gap[t], 0.0, grad_input=unreset)
                grad_h[t].add_(unreset, alpha=factor)
            if through_reset is not None:
                # ds/dh times the change by a spike: -threshold, or -h with a hard reset.
                jump = -c.threshold if call.soft_reset else gap[t] - c.threshold
                grad_h[t].add_(carried * through_reset[t] * jump, alpha=factor)
        if ended is not None:
            # After the end of a sample the gradient is passed on unchanged.
            grad_h[t].masked_fill_(ended[t], 0.0)
            carried = grad_h[t] * c.decay if not call.detach_membrane else torch.zeros_like(unreset)
            if after_end is not None:
                carried = torch.where(ended[t], after_end, carried)
        elif call.detach_membrane:
            break
        else:
            carried, factor = grad_h[t], c.decay
    if ended is None:
        return torch.zeros_like(unreset) if call.detach_membrane else grad_h[0] * c.decay
    assert carried is not None
    return carried


def _add_threshold(
    carried: Tensor,
    factor: float,
    gap: Tensor,
    through_reset: Tensor | None,
    c: LIFConstants,
    call: NeuronCall,
    grad_constants: Tensor,
) -> None:
    """Add the gradient of the threshold through the reset of one step: through the subtraction and the spike."""
    through = torch.zeros_like(gap)
    if call.soft_reset:
        through -= (gap <= 0).to(gap.dtype)
    if through_reset is not None:
        through -= through_reset * (-c.threshold if call.soft_reset else gap - c.threshold)
    grad_constants[2] += factor * (carried * through).sum(dtype=torch.float64)


def _add_leak(
    grad_h: Tensor, gap: Tensor, v_init: Tensor, c: LIFConstants, call: NeuronCall, grad_constants: Tensor
) -> None:
    """Add the gradients of decay and gain from those of every h: dh/ddecay = v before, dh/dgain = x."""
    h = c.threshold - gap
    after = h - (gap <= 0).to(h.dtype) * c.threshold if call.soft_reset else h.masked_fill(gap <= 0, 0)
    before = torch.cat([v_init[None], after[:-1]])
    x = (h - c.decay * before) / c.gain
    grad_constants[0] += (grad_h * before).sum(dtype=torch.float64)
    grad_constants[1] += (grad_h * x).sum(dtype=torch.float64)


def _encode(gap: Tensor, call: NeuronCall, saved: Tensor) -> None:
    """Write the gap in fewer bytes."""
    if call.save == "d16":
        # The sign bit is the spike: a distance that rounds to 0 from below stays -0, exactly 0 is +0.
        saved.copy_(0.0 - gap)
    else:
        assert call.save == "u8"
        bump = surrogate_gradient(call.surrogate)
        top = float(bump(torch.zeros(1), call.slope))
        saved.copy_(bump(gap, call.slope).mul_(LEVELS / top).round_().add_(gap <= 0, alpha=LEVELS + 1))


def _decode(
    saved: Tensor,
    v_init: Tensor,
    c: LIFConstants,
    call: NeuronCall,
    bump: SurrogateGradient,
    tile: slice,
    lengths: Tensor | None,
    affine: tuple[Tensor, Tensor] | None,
) -> tuple[Tensor, Tensor | None]:
    """Return the gap, and the surrogate's values if they were saved instead: then only the sign of the gap is right."""
    part = select(saved, tile)
    if call.save == "d32":
        return part, None
    if call.save == "x":
        n = torch.empty_like(part, dtype=v_init.dtype)
        return _gap(saved, v_init, c, call, n, None, tile, lengths, affine), None
    if call.save == "d16":
        gap = part.to(v_init.dtype).neg_()
        return gap.add_(torch.copysign(torch.tensor(TINY, dtype=gap.dtype, device=gap.device), gap)), None
    code = part.to(v_init.dtype)
    fired = (code > LEVELS).to(code.dtype)
    top = float(bump(torch.zeros(1), call.slope))
    return 0.5 - fired, code.sub_(fired, alpha=LEVELS + 1).mul_(top / LEVELS)
