"""The parts of one time step of the kernels, forward and backward, for BLOCK neurons at once.

`d = h - threshold` is the distance to threshold; a neuron spikes where it is not negative. After the last step of a
sample its neurons keep their potential, and their distance is minus infinity: no spike, and a surrogate of 0.
"""

# Triton compiles functions from their source: their arguments have no Python types, and every `else` is needed.
# pyright: basic, reportArgumentType=false, reportAttributeAccessIssue=false, reportOperatorIssue=false
# pyright: reportOptionalOperand=false, reportIndexIssue=false, reportCallIssue=false, reportGeneralTypeIssues=false
# ruff: noqa: RET505
import triton
import triton.language as tl

from snn_core.ops.lif import constants

LEVELS = tl.constexpr(constants.LEVELS)
"""Steps of the one-byte code of the surrogate gradient."""
ROUND = tl.constexpr(8388608.0)
"""2^23: adding and subtracting it rounds a small positive number to an integer, ties to even."""


@triton.jit
def surrogate_of(d, slope, top, SURROGATE: tl.constexpr):
    """The surrogate gradient; `top` is its value at 0."""
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
    """The mask if the condition holds, else all False.

    Compiled code could use `mask & condition`, but Triton's interpreter broadcasts a single boolean to int32, which
    version 3.9 and later reject as a mask.
    """
    return mask & (tl.full(mask.shape, condition, tl.int32) != 0)


@triton.jit
def potential_at_start(v_init, lanes, inside, BLOCK: tl.constexpr, SHARED: tl.constexpr):
    """Potentials before the first step; SHARED: one value for all neurons."""
    if SHARED:
        return tl.zeros([BLOCK], tl.float32) + tl.load(v_init)
    else:
        return tl.load(v_init + lanes, mask=inside, other=0.0)


@triton.jit
def steps_of(lengths, lanes, inside, per_sample):
    """The number of steps of each neuron's sample; None if all samples have T."""
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
    """The drive in one step: the affine of x plus the residual."""
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
    """The saved code of a step, as in `torch_kernels.py`."""
    if SAVE == "d32":
        return -d
    elif SAVE == "d16":
        # The sign bit is the spike: 0 spikes, and a distance that rounds to 0 from below stays -0.
        return d.to(tl.float16)
    else:
        tl.static_assert(SAVE == "u8")
        level = (surrogate_of(d, slope, top, SURROGATE) * (LEVELS / top) + ROUND) - ROUND
        return (level + tl.where(d >= 0.0, LEVELS + 1.0, 0.0)).to(tl.uint8)


@triton.jit
def decode(code, slope, top, SAVE: tl.constexpr, SURROGATE: tl.constexpr):
    """Distance to threshold, spike and surrogate of a step; one byte stores only the sign of the distance."""
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
    """Gradients of the spikes of one step; 0 if there are none."""
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

    Adds the gradients of decay, gain (not yet divided by it) and threshold to `totals`.
    """
    grad_h = upstream * bump
    grad_threshold = -grad_h
    if SOFT:
        grad_h += grad_v
        grad_threshold -= tl.where(fired, grad_v, 0.0)
    else:
        grad_h += tl.where(fired, 0.0, grad_v)
    if not DETACH_RESET:
        # ds/dh times the change by a spike: -threshold, or -h with a hard reset.
        jump = -threshold if SOFT else -(d + threshold)
        through = grad_v * bump * jump
        grad_h += through
        grad_threshold -= through
    drive = d + threshold - decay * before
    carried = tl.zeros_like(grad_v) if DETACH_MEMBRANE else decay * grad_h
    if steps is not None:
        # After the end of a sample the gradient of its potential is passed on unchanged.
        grad_h = tl.where(t < steps, grad_h, 0.0)
        grad_threshold = tl.where(t < steps, grad_threshold, 0.0)
        # After the end both may be infinite, and inf * 0 is NaN.
        before = tl.where(t < steps, before, 0.0)
        drive = tl.where(t < steps, drive, 0.0)
        carried = tl.where(t < steps, carried, grad_v)
    totals = (totals[0] + grad_h * before, totals[1] + grad_h * drive, totals[2] + grad_threshold)
    return grad_h, carried, totals


@triton.jit
def store_totals(sums, program, totals, gain):
    """Write one program's sums of the gradients of decay, gain and threshold.

    Terms of either sign cancel, so neurons are summed in float64.
    """
    tl.store(sums + 3 * program, tl.sum(totals[0].to(tl.float64)))
    tl.store(sums + 3 * program + 1, tl.sum(totals[1].to(tl.float64)) / gain)
    tl.store(sums + 3 * program + 2, tl.sum(totals[2].to(tl.float64)))
