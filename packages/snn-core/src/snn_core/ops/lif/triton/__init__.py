"""The neuron on CUDA devices: one kernel forward, one backward, compiled by Triton.

The kernels keep the potential in registers over all steps, so that each array is read or written once, by up to 128
bits at a time; 16-bit arrays are processed in float32. Layouts and values are those of `torch_kernels.py`: the saved
tensor of one works in the backward of the other. With save `x` the backward recomputes the forward: up to 8 steps at
once in registers, longer sequences from potentials stored at every 8th step. Storing all distances instead would move 8
bytes per element and step instead of 1, and take 8 times the memory.

No call synchronizes with the device, except to copy gradients of learned constants to the CPU. A kernel is compiled
once per kind of call (dtypes, options, and T up to 16), not per number of neurons or longer T. The block size follows
from the dtypes and the number of neurons, without autotuning.
"""

from __future__ import annotations

import functools
import os
from importlib.util import find_spec
from typing import Any, overload

import torch
from torch import Tensor

from snn_core.ops.common.call import Affine, NeuronCall
from snn_core.ops.common.tiles import flat, flat_state
from snn_core.ops.lif.constants import LIFConstants
from snn_core.surrogate import SURROGATES, surrogate_gradient

UNROLLED = 16
"""Up to this T, kernels are compiled per T, without a loop."""
SEGMENT = 8
"""Steps whose distances to threshold fit into the registers of a thread."""
MANY_NEURONS = 1 << 18
"""From this number of neurons on, blocks of 4 warps fill a device; below, blocks have 1 warp."""
MAX_NEURONS = (1 << 31) - (1 << 16)
"""Neurons are indexed with 32 bits."""


@functools.cache
def unavailable_reason() -> str | None:
    """Return why these kernels cannot run here and what to do, or None."""
    if find_spec("triton") is None:
        return (
            "Triton is not installed; pip install triton, or use a CUDA build of PyTorch for Linux, which includes it"
        )
    if _interpreted():
        return None
    if torch.version.hip is not None or not torch.cuda.is_available():
        return "PyTorch finds no CUDA device; install NVIDIA's driver and a CUDA build of PyTorch"
    if torch.cuda.get_device_capability() < (8, 0):
        return "Triton needs a device of compute capability 8.0 (A100, RTX 30) or newer"
    return None


def forward(
    x: Tensor,
    v_init: Tensor | None,
    c: LIFConstants,
    call: NeuronCall,
    spikes: Tensor | None,
    saved: Tensor | None,
    v_last: Tensor | None,
    *,
    lengths: Tensor | None = None,
    affine: Affine | None = None,
    residual: Tensor | None = None,
    packed: Tensor | None = None,
) -> None:
    """Run currents x [T, ...] in float32, bfloat16 or float16 from potentials v_init [...] in float32.

    Writes v_last [...] in float32 and, unless they are None, spikes [T, ...] in any dtype, `packed` int32
    [T, ceil(N / 32)] and `saved` [T, ...]. Bit n % 32 of word n // 32 is neuron n, as in
    `numpy.packbits(bitorder="little")`, padded to whole words. `residual` [T, ...] is added to the current after the
    affine.

    Raises:
        ValueError: the kernels cannot process these arrays; says what to do.
    """
    v_init, x = flat_state(v_init, x), flat(x)
    v_last = torch.empty_like(v_init, memory_format=torch.contiguous_format) if v_last is None else v_last.view(-1)
    spikes, saved = None if spikes is None else flat(spikes), None if saved is None else flat(saved)
    _check(x, v_init, call, v_last)
    assert all(y is None or y.is_contiguous() for y in (spikes, packed, saved, v_last, lengths))
    T, N = x.shape
    x, residual = _rows(x), _rows(residual)
    v_init, shared = _potential(v_init)
    block, warps = _block(N, x, residual, spikes, saved)
    with torch.cuda.device_of(x):
        _kernels().lif_forward[(-(-N // block),)](
            x,
            residual,
            v_init,
            lengths,
            *_scale_and_shift(affine),
            spikes,
            packed,
            saved,
            v_last,
            x.stride(0),
            0 if residual is None else residual.stride(0),
            N,
            T,
            _per_sample(N, lengths),
            *_inner_and_channels(affine),
            *_scalars(c, call),
            STEPS=T if T <= UNROLLED else 0,
            SOFT=call.soft_reset,
            # Unused options are None, so that they do not compile another kernel.
            SAVE=None if saved is None else call.save,
            SURROGATE=call.surrogate if saved is not None and call.save == "u8" else None,
            SHARED=shared,
            BLOCK=block,
            num_warps=warps,
            enable_fp_fusion=False,
        )


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
    residual: Tensor | None = None,
) -> None:
    """Gradients of spikes [T, ...] and last potential [...] -> those of the currents [T, ...] and v_init [...].

    With an affine or a residual, grad_x is the gradient of their output. With save `x`, `saved` is the x of the
    forward, and affine and residual are needed again. `grad_constants` [3], in float64, is added to: gradients of
    decay, gain and threshold, the sums of all programs in a fixed order.

    Raises:
        ValueError: the kernels cannot process these arrays; says what to do.
    """
    grad_spikes = None if grad_spikes is None else flat(grad_spikes)
    grad_v_last = None if grad_v_last is None else grad_v_last.reshape(-1)
    v_init, saved, grad_x = flat_state(v_init, grad_x), flat(saved), flat(grad_x)
    grad_v = torch.empty_like(v_init, memory_format=torch.contiguous_format) if grad_v is None else grad_v.view(-1)
    _check(saved, v_init, call, grad_v)
    assert all(y is None or y.is_contiguous() for y in (grad_x, grad_v, lengths))
    assert call.save == "x" or saved.is_contiguous()
    T, N = grad_x.shape
    grad_spikes, residual = _rows(grad_spikes), _rows(residual)
    v_init, shared = _potential(v_init)
    if grad_v_last is not None:
        grad_v_last = grad_v_last.float().contiguous()
    # Recomputing with any option takes more registers than the plain kernel: use half the neurons per thread.
    plain = T <= SEGMENT and lengths is None and affine is None and residual is None and grad_constants is None
    block, warps = _block(N, grad_spikes, saved, residual, grad_x, None if plain or call.save != "x" else v_init)
    blocks = -(-N // block)
    parallel = call.detach_membrane and call.save != "x"
    programs = blocks * T if parallel else blocks
    sums = None if grad_constants is None else saved.new_empty(programs, 3, dtype=torch.float64)
    grad_stride = 0 if grad_spikes is None else grad_spikes.stride(0)
    compiled_in = {
        "SOFT": call.soft_reset,
        "DETACH_RESET": call.detach_reset,
        "DETACH_MEMBRANE": call.detach_membrane,
        "SURROGATE": call.surrogate,
        "SHARED": shared,
        "BLOCK": block,
        "num_warps": warps,
        "enable_fp_fusion": False,
    }
    with torch.cuda.device_of(saved):
        if call.save == "x":
            x = _rows(saved)
            segment = SEGMENT if grad_constants is None else SEGMENT // 2
            checkpoints = x.new_empty(-(-T // segment), N, dtype=torch.float32) if segment < T else None
            _kernels().lif_backward_from_x[(programs,)](
                grad_spikes,
                grad_v_last,
                x,
                residual,
                v_init,
                lengths,
                *_scale_and_shift(affine),
                checkpoints,
                grad_x,
                grad_v,
                sums,
                grad_stride,
                x.stride(0),
                0 if residual is None else residual.stride(0),
                N,
                T,
                _per_sample(N, lengths),
                *_inner_and_channels(affine),
                *_scalars(c, call),
                SEGMENT=min(T, segment),
                **compiled_in,
            )
        else:
            _kernels().lif_backward[(programs,)](
                grad_spikes,
                grad_v_last,
                saved,
                v_init,
                lengths,
                grad_x,
                grad_v,
                sums,
                grad_stride,
                N,
                T,
                _per_sample(N, lengths),
                *_scalars(c, call),
                # An unrolled kernel that sums gradients of constants would take up to 252 registers.
                STEPS=1 if parallel else T if T <= UNROLLED and sums is None else 0,
                SAVE=call.save,
                **compiled_in,
            )
    if grad_constants is not None and sums is not None:
        grad_constants += sums.sum(0).to(grad_constants.device)


def _check(x: Tensor, v_init: Tensor, call: NeuronCall, v: Tensor) -> None:
    if torch.float64 in (x.dtype, v_init.dtype, v.dtype):
        raise ValueError("the Triton kernels compute in float32, but the input is float64; use implementation='torch'")
    if call.surrogate not in SURROGATES:
        raise ValueError(
            f"the Triton kernels have no surrogate {call.surrogate!r}; use one of {', '.join(SURROGATES)}, or "
            "implementation='torch'"
        )
    if not x.is_cuda and not _interpreted():
        raise ValueError(f"the Triton kernels run on CUDA devices, but x is on {x.device}; use implementation='auto'")
    if x.shape[1] > MAX_NEURONS:
        raise ValueError(f"x has {x.shape[1]} neurons, but at most {MAX_NEURONS} run at once; split the batch")


@functools.cache
def _kernels() -> Any:
    """Import the kernels, which needs Triton and time."""
    from snn_core.ops.lif.triton import kernels

    return kernels


def _interpreted() -> bool:
    return os.environ.get("TRITON_INTERPRET") == "1"


@overload
def _rows(x: Tensor) -> Tensor: ...
@overload
def _rows(x: Tensor | None) -> Tensor | None: ...
def _rows(x: Tensor | None) -> Tensor | None:
    """Return [T, N] with contiguous time steps; the stride between steps is free."""
    return x if x is None or x.shape[1] == 1 or x.stride(1) == 1 else x.contiguous()


def _potential(v: Tensor) -> tuple[Tensor, bool]:
    """Return contiguous potentials [N], or one value expanded to all, and whether it is expanded."""
    if len(v) > 1 and v.stride(0) == 0:
        return v, True
    return v.contiguous(), False


def _block(N: int, *arrays: Tensor | None) -> tuple[int, int]:
    """Return neurons and warps of a program: 128 bits per thread of the widest array."""
    warps = 4 if N >= MANY_NEURONS else 1
    widest = max(array.element_size() for array in arrays if array is not None)
    return 32 * warps * (16 // max(widest, 2)), warps


def _scalars(c: LIFConstants, call: NeuronCall) -> tuple[float, ...]:
    """Return runtime scalars as floats: Triton would specialize integers."""
    assert isinstance(call.surrogate, str)
    return *(float(value) for value in c), float(call.slope), _top(call.surrogate, call.slope)


@functools.lru_cache
def _top(surrogate: str, slope: float) -> float:
    """Return the largest value of the surrogate, which is at 0."""
    return float(surrogate_gradient(surrogate)(torch.zeros((), dtype=torch.float32), slope))


def _per_sample(N: int, lengths: Tensor | None) -> int:
    return 1 if lengths is None else N // max(1, len(lengths))


def _scale_and_shift(affine: Affine | None) -> tuple[Tensor | None, Tensor | None]:
    return (None, None) if affine is None else (affine[0].contiguous(), affine[1].contiguous())


def _inner_and_channels(affine: Affine | None) -> tuple[int, int]:
    return (1, 1) if affine is None else (affine[2], len(affine[0]))
