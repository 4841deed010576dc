"""The parts of one time step that the neuron's kernels are made of, forward and backward, for BLOCK neurons at once.

`d = h - threshold` is the distance to threshold, and a neuron fires where it is not negative. After a sample's last
step its neurons keep their potential, and their distance counts as minus infinity: no spike, and no surrogate either.
"""

# Triton compiles functions from their source: what they work on has no Python type, and it needs every `else`.
# pyright: basic, reportArgumentType=false, reportAttributeAccessIssue=false, reportOperatorIssue=false
# pyright: reportOptionalOperand=false, reportIndexIssue=false, reportCallIssue=false, reportGeneralTypeIssues=false
# ruff: noqa: RET505
import triton
import triton.language as tl

LEVELS = tl.constexpr(127)
"""Steps of the one-byte code of the surrogate gradient."""
ROUND = tl.constexpr(8388608.0)
"""2^23: adding and subtracting it rounds a small positive number to an integer, ties to even."""


@triton.jit
def surrogate_of(d, slope, top, SURROGATE: tl.constexpr):
    """The derivative that stands in for the step's; `top` is its value at 0."""
    u = tl.abs(slope * d)
    if SURROGATE == "sigmoid":
        e = tl.exp(-u)
        bump = 4.0 * e / ((1.0 + e) * (1.0 + e))
    elif SURROGATE == "atan":
        w = 1.5707963267948966 * u
        bump = 1.0 / (1.0 + w * w)
    elif SURROGATE == "triangle":
        bump = tl.maximum(1.0 - u, 0.0)
    elif SURROGATE == "rectangle":
        bump = tl.where(u < 0.5, 1.0, 0.0)
    elif SURROGATE == "fast_sigmoid":
        bump = 1.0 / ((1.0 + u) * (1.0 + u))
    else:
        tl.static_assert(SURROGATE == "erf")
        bump = tl.exp(-u * u)
    return top * bump


@triton.jit
def only_if(condition, mask):
    """The mask where a condition on the whole block holds, False everywhere where it does not.

    `mask & condition` would do when compiled, but Triton's interpreter spreads a single boolean over a block as int32,
    and from version 3.9 on it takes no such mask.
    """
    return mask & (tl.full(mask.shape, condition, tl.int32) != 0)


@triton.jit
def potential_at_start(v_init, lanes, inside, BLOCK: tl.constexpr, SHARED: tl.constexpr):
    """Potentials before the first step; SHARED: all neurons have the same."""
    if SHARED:
        return tl.zeros([BLOCK], tl.float32) + tl.load(v_init)
    else:
        return tl.load(v_init + lanes, mask=inside, other=0.0)


@triton.jit
def steps_of(lengths, lanes, inside, per_sample):
    """The number of steps of each neuron's sample; None where all samples have all."""
    if lengths is None:
        return None
    else:
        return tl.load(lengths + lanes // per_sample, mask=inside, other=0)


@triton.jit
def of_channel(values, lanes, inside, inner, channels):
    """The scale or shift of each neuron; None without an affine."""
    if values is None:
        return None
    else:
        return tl.load(values + lanes // inner % channels, mask=inside, other=0.0)


@triton.jit
def drive_of(x, residual, mask, scale, shift):
    """What the neurons receive in one step: the affine of x, plus the residual."""
    drive = tl.load(x, mask=mask, other=0.0).to(tl.float32)
    if scale is not None:
        drive = drive * scale + shift
    if residual is not None:
        drive += tl.load(residual, mask=mask, other=0.0).to(tl.float32)
    return drive


@triton.jit
def advance(v, drive, decay, gain, threshold, t, steps, SOFT: tl.constexpr):
    """Charge, fire and reset in step t: the distance to threshold, and the potential after it."""
    h = decay * v + gain * drive
    d = h - threshold
    after = reset(h, d, d >= 0.0, SOFT)
    if steps is not None:
        d = tl.where(t < steps, d, float("-inf"))
        after = tl.where(t < steps, after, v)
    return d, after


@triton.jit
def reset(h, d, fired, SOFT: tl.constexpr):
    """The potential after a step."""
    if SOFT:
        return tl.where(fired, d, h)
    else:
        return tl.where(fired, 0.0, h)


@triton.jit
def encode(d, slope, top, SAVE: tl.constexpr, SURROGATE: tl.constexpr):
    """What is kept of a step, as `few_pass.py` defines it."""
    if SAVE == "d32":
        return -d
    elif SAVE == "d16":
        # The sign bit is the spike: 0 fires, and what rounds to 0 from below stays -0.
        return d.to(tl.float16)
    else:
        tl.static_assert(SAVE == "u8")
        level = (surrogate_of(d, slope, top, SURROGATE) * (LEVELS / top) + ROUND) - ROUND
        return (level + tl.where(d >= 0.0, LEVELS + 1.0, 0.0)).to(tl.uint8)


@triton.jit
def decode(code, slope, top, SAVE: tl.constexpr, SURROGATE: tl.constexpr):
    """Distance to threshold, spike and surrogate of a step; one byte holds the sign alone of the distance."""
    if SAVE == "u8":
        fired = code > LEVELS
        level = code.to(tl.float32) - tl.where(fired, LEVELS + 1.0, 0.0)
        return tl.where(fired, 0.0, -1.0), fired, level * (top / LEVELS)
    else:
        if SAVE == "d16":
            d = code.to(tl.float32)
            fired = code.to(tl.int16, bitcast=True) >= 0
        else:
            d = -code
            fired = d >= 0.0
        return d, fired, surrogate_of(d, slope, top, SURROGATE)


@triton.jit
def upstream_of(grad_spikes, mask):
    """Gradients of the spikes of one step; nothing where nobody asked for them."""
    if grad_spikes is None:
        return 0.0
    else:
        return tl.load(grad_spikes, mask=mask, other=0.0).to(tl.float32)


@triton.jit
def step_back(
    upstream,
    grad_v,
    totals,
    d,
    fired,
    bump,
    before,
    decay,
    threshold,
    t,
    steps,
    SOFT: tl.constexpr,
    DETACH_RESET: tl.constexpr,
    DETACH_MEMBRANE: tl.constexpr,
):
    """Gradients of h and of the potential before the step, from those of the spikes and of the potential after it.

    `totals` grows by the step's share of the gradients of decay, gain (short of a division by it) and threshold.
    """
    grad_h = upstream * bump
    grad_threshold = -grad_h
    if SOFT:
        grad_h += grad_v
        grad_threshold -= tl.where(fired, grad_v, 0.0)
    else:
        grad_h += tl.where(fired, 0.0, grad_v)
    if not DETACH_RESET:
        # ds/dh times what a spike changes: -threshold, or -h with a hard reset.
        jump = -threshold if SOFT else -(d + threshold)
        through = grad_v * bump * jump
        grad_h += through
        grad_threshold -= through
    drive = d + threshold - decay * before
    carried = tl.zeros_like(grad_v) if DETACH_MEMBRANE else decay * grad_h
    if steps is not None:
        # A sample that has ended hands the gradient of its potential on as it is.
        grad_h = tl.where(t < steps, grad_h, 0.0)
        grad_threshold = tl.where(t < steps, grad_threshold, 0.0)
        # Beyond the end both may be infinite, and infinity times 0 is no number.
        before = tl.where(t < steps, before, 0.0)
        drive = tl.where(t < steps, drive, 0.0)
        carried = tl.where(t < steps, carried, grad_v)
    totals = (totals[0] + grad_h * before, totals[1] + grad_h * drive, totals[2] + grad_threshold)
    return grad_h, carried, totals


@triton.jit
def store_totals(sums, program, totals, gain):
    """Write one program's share of the gradients of decay, gain and threshold.

    Terms of either sign cancel in these, hence float64 where neurons are added up.
    """
    tl.store(sums + 3 * program, tl.sum(totals[0].to(tl.float64)))
    tl.store(sums + 3 * program + 1, tl.sum(totals[1].to(tl.float64)) / gain)
    tl.store(sums + 3 * program + 2, tl.sum(totals[2].to(tl.float64)))
