"""CUDA kernels of the neuron in Triton; `__init__.py` launches them, `step.py` has the arithmetic.

Each program processes BLOCK neurons over all time steps with their potentials in registers, in float32 for all dtypes
of the arrays. A time step is a row of N contiguous values, so that each thread reads and writes up to 128 bits at once.
Arguments that are None are compiled out; so is the loop over time when STEPS is not 0.
"""

# Triton compiles functions from their source: their arguments have no Python types, and tuples grow by `+`.
# pyright: basic, reportArgumentType=false, reportAttributeAccessIssue=false, reportOperatorIssue=false
# pyright: reportOptionalOperand=false, reportIndexIssue=false, reportCallIssue=false, reportGeneralTypeIssues=false
# ruff: noqa: RUF005
import triton
import triton.language as tl

from snn_core.ops.lif.triton.step import (
    advance,
    decode,
    drive_of,
    encode,
    of_channel,
    only_if,
    potential_at_start,
    reset,
    step_back,
    steps_of,
    store_totals,
    surrogate_of,
    upstream_of,
)

UNROLL = tl.constexpr(4)
"""Steps per iteration of the loop over time."""
RUNTIME = ["T", "per_sample", "inner", "channels"]
"""Integers that kernels are not specialized for."""


@triton.jit(do_not_specialize=RUNTIME)
def lif_forward(
    x,
    residual,
    v_init,
    lengths,
    scale,
    shift,
    spikes,
    packed,
    saved,
    v_last,
    x_stride,
    residual_stride,
    N,
    T,
    per_sample,
    inner,
    channels,
    decay,
    gain,
    threshold,
    slope,
    top,
    STEPS: tl.constexpr,
    SOFT: tl.constexpr,
    SAVE: tl.constexpr,
    SURROGATE: tl.constexpr,
    SHARED: tl.constexpr,
    BLOCK: tl.constexpr,
):
    """Currents x [T, N] -> spikes [T, N], packed spikes [T, N / 32], saved [T, N], last potential [N]."""
    if STEPS:
        T = STEPS
    lanes = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    inside = lanes < N
    v = potential_at_start(v_init, lanes, inside, BLOCK, SHARED)
    steps = steps_of(lengths, lanes, inside, per_sample)
    factor = of_channel(scale, lanes, inside, inner, channels)
    offset = of_channel(shift, lanes, inside, inner, channels)
    x += lanes
    if residual is not None:
        residual += lanes
    ahead = drive_of(x, residual, inside, factor, offset)
    for t in tl.range(0, T, loop_unroll_factor=STEPS if STEPS else UNROLL):
        # Load the next currents before writing the results of this step, which hides their latency.
        drive = ahead
        x += x_stride
        if residual is not None:
            residual += residual_stride
        ahead = drive_of(x, residual, only_if(t + 1 < T, inside), factor, offset)
        d, v = advance(v, drive, decay, gain, threshold, t, steps, SOFT)
        fired = d >= 0.0
        if spikes is not None:
            tl.store(spikes + lanes, fired.to(tl.float32).to(spikes.dtype.element_ty), mask=inside)
            spikes += N
        if packed is not None:
            bits = tl.reshape((fired & inside).to(tl.int32), [BLOCK // 32, 32])
            words = tl.program_id(0) * (BLOCK // 32) + tl.arange(0, BLOCK // 32)
            tl.store(packed + words, tl.sum(bits << tl.arange(0, 32)[None, :], 1), mask=words < tl.cdiv(N, 32))
            packed += tl.cdiv(N, 32)
        if saved is not None:
            tl.store(saved + lanes, encode(d, slope, top, SAVE, SURROGATE), mask=inside)
            saved += N
    tl.store(v_last + lanes, v, mask=inside)


@triton.jit(do_not_specialize=RUNTIME)
def lif_backward(
    grad_spikes,
    grad_v_last,
    saved,
    v_init,
    lengths,
    grad_x,
    grad_v_init,
    sums,
    grad_stride,
    N,
    T,
    per_sample,
    decay,
    gain,
    threshold,
    slope,
    top,
    STEPS: tl.constexpr,
    SOFT: tl.constexpr,
    DETACH_RESET: tl.constexpr,
    DETACH_MEMBRANE: tl.constexpr,
    SAVE: tl.constexpr,
    SURROGATE: tl.constexpr,
    SHARED: tl.constexpr,
    BLOCK: tl.constexpr,
):
    """Gradients of spikes [T, N] and last potential [N] -> those of x [T, N], v_init [N] and, as sums, the constants.

    With DETACH_MEMBRANE no gradient flows through time: each program processes one step of its neurons (STEPS is 1).
    """
    program = tl.program_id(0)
    if DETACH_MEMBRANE:
        block = program % tl.cdiv(N, BLOCK)
        start = program // tl.cdiv(N, BLOCK)
    else:
        block = program
        start = (STEPS if STEPS else T) - 1
    lanes = block * BLOCK + tl.arange(0, BLOCK)
    inside = lanes < N
    steps = steps_of(lengths, lanes, inside, per_sample)
    grad_v = tl.zeros([BLOCK], tl.float32)
    if grad_v_last is not None:
        grad_v += tl.load(grad_v_last + lanes, mask=inside, other=0.0)
        if DETACH_MEMBRANE:
            grad_v = tl.where(start + 1 >= (T if steps is None else steps), grad_v, 0.0)
    zeros = tl.zeros([BLOCK], tl.float32)
    totals = (zeros, zeros, zeros)
    row = tl.cast(start, tl.int64)
    saved += row * N + lanes
    grad_x += row * N + lanes
    if grad_spikes is not None:
        grad_spikes += row * grad_stride + lanes
    upstream_ahead = upstream_of(grad_spikes, inside)
    ahead = tl.load(saved, mask=inside, other=0)
    for i in tl.range(0, STEPS if STEPS else T, loop_unroll_factor=STEPS if STEPS else UNROLL):
        t = start - i
        upstream = upstream_ahead
        d, fired, bump = decode(ahead, slope, top, SAVE, SURROGATE)
        saved -= N
        if not DETACH_MEMBRANE:
            if grad_spikes is not None:
                grad_spikes -= grad_stride
            upstream_ahead = upstream_of(grad_spikes, only_if(t > 0, inside))
        if sums is not None or not DETACH_MEMBRANE:
            ahead = tl.load(saved, mask=only_if(t > 0, inside), other=0)
        before = zeros
        if sums is not None:
            d_before, fired_before, _ = decode(ahead, slope, top, SAVE, SURROGATE)
            before = reset(d_before + threshold, d_before, fired_before, SOFT)
            if t == 0:
                before = potential_at_start(v_init, lanes, inside, BLOCK, SHARED)
        grad_h, grad_v, totals = step_back(
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
            SOFT,
            DETACH_RESET,
            DETACH_MEMBRANE,
        )
        tl.store(grad_x, (gain * grad_h).to(grad_x.dtype.element_ty), mask=inside)
        grad_x -= N
    if DETACH_MEMBRANE:
        inside = only_if(start == 0, inside)
    tl.store(grad_v_init + lanes, grad_v, mask=inside)
    if sums is not None:
        store_totals(sums, program, totals, gain)


@triton.jit(do_not_specialize=RUNTIME)
def lif_backward_from_x(
    grad_spikes,
    grad_v_last,
    x,
    residual,
    v_init,
    lengths,
    scale,
    shift,
    checkpoints,
    grad_x,
    grad_v_init,
    sums,
    grad_stride,
    x_stride,
    residual_stride,
    N,
    T,
    per_sample,
    inner,
    channels,
    decay,
    gain,
    threshold,
    slope,
    top,
    SEGMENT: tl.constexpr,
    SOFT: tl.constexpr,
    DETACH_RESET: tl.constexpr,
    DETACH_MEMBRANE: tl.constexpr,
    SURROGATE: tl.constexpr,
    SHARED: tl.constexpr,
    BLOCK: tl.constexpr,
):
    """The same from x [T, N] alone, recomputing the forward.

    The distances of one SEGMENT of steps fit into the registers. For more steps, a first sweep stores the potential at
    the start of each segment in `checkpoints` [T / SEGMENT, N]; segments are then processed from last to first.
    """
    program = tl.program_id(0)
    lanes = program * BLOCK + tl.arange(0, BLOCK)
    inside = lanes < N
    factor = of_channel(scale, lanes, inside, inner, channels)
    offset = of_channel(shift, lanes, inside, inner, channels)
    steps = steps_of(lengths, lanes, inside, per_sample)
    v = potential_at_start(v_init, lanes, inside, BLOCK, SHARED)
    # Row addresses are 64-bit products, computed for each segment: carrying pointers along would take registers.
    x_row = tl.cast(x_stride, tl.int64)
    residual_row = tl.cast(residual_stride, tl.int64)
    upstream_row = tl.cast(grad_stride, tl.int64)
    row = tl.cast(N, tl.int64)
    segments = 1
    if checkpoints is not None:
        segments = tl.cdiv(T, SEGMENT)
        if steps is None:
            # The last segment may have steps beyond T.
            steps = T
        for segment in range(segments - 1):
            tl.store(checkpoints + segment * row + lanes, v, mask=inside)
            first = segment * SEGMENT
            for i in tl.static_range(SEGMENT):
                added = None if residual is None else residual + (first + i) * residual_row + lanes
                drive = drive_of(x + (first + i) * x_row + lanes, added, inside, factor, offset)
                _, v = advance(v, drive, decay, gain, threshold, first + i, steps, SOFT)
        tl.store(checkpoints + (segments - 1) * row + lanes, v, mask=inside)
        # Threads may read values that other threads of this program wrote.
        tl.debug_barrier()
    grad_v = tl.zeros([BLOCK], tl.float32)
    if grad_v_last is not None:
        grad_v += tl.load(grad_v_last + lanes, mask=inside, other=0.0)
    zeros = tl.zeros([BLOCK], tl.float32)
    totals = (zeros, zeros, zeros)
    for back in range(segments):
        first = (segments - 1 - back) * SEGMENT
        if checkpoints is not None:
            v = tl.load(checkpoints + (segments - 1 - back) * row + lanes, mask=inside, other=0.0)
        start = v
        distances = ()
        for i in tl.static_range(SEGMENT):
            present = only_if(first + i < T, inside)
            added = None if residual is None else residual + (first + i) * residual_row + lanes
            drive = drive_of(x + (first + i) * x_row + lanes, added, present, factor, offset)
            d, v = advance(v, drive, decay, gain, threshold, first + i, steps, SOFT)
            distances = distances + (d,)
        for i in tl.static_range(SEGMENT - 1, -1, -1):
            present = only_if(first + i < T, inside)
            of_spikes = None if grad_spikes is None else grad_spikes + (first + i) * upstream_row + lanes
            d = distances[i]
            before = start
            if i > 0:
                before = reset(distances[i - 1] + threshold, distances[i - 1], distances[i - 1] >= 0.0, SOFT)
            grad_h, grad_v, totals = step_back(
                upstream_of(of_spikes, present),
                grad_v,
                totals,
                d,
                d >= 0.0,
                surrogate_of(d, slope, top, SURROGATE),
                before,
                decay,
                threshold,
                first + i,
                steps,
                SOFT,
                DETACH_RESET,
                DETACH_MEMBRANE,
            )
            out = (gain * grad_h).to(grad_x.dtype.element_ty)
            tl.store(grad_x + (first + i) * row + lanes, out, mask=present)
    tl.store(grad_v_init + lanes, grad_v, mask=inside)
    if sums is not None:
        store_totals(sums, program, totals, gain)
