"""The neuron on CUDA devices: one kernel forward, one backward, compiled by Triton.

The kernels keep the potential in registers through all steps, so that each array is read or written once, by up to 128
bits at a time; 16-bit arrays are computed on in float32. Layouts and values are those of `few_pass.py`: what one of the
two kept, the other can take the backward from. With save `x` the backward runs the forward again: up to 8 steps
at once in registers, longer sequences from potentials that are put aside at every 8th step. Putting aside all
distances instead would move 8 bytes an element and step where this moves 1, and take 8 times the memory.

Nothing waits for the device, but the gradients of learned constants where the caller wants them on the CPU. A kernel is
compiled once for the kind of call (dtypes, options, and T up to 16), never for the number of neurons or a longer T; its
block size is fixed by the dtypes and the number of neurons, without trials on the first call.
"""

from __future__ import annotations

import functools
import os
from importlib.util import find_spec
from typing import Any, overload

import torch
from torch import Tensor

from snn_core.ops.lif.settings import Affine, Settings
from snn_core.surrogate import SURROGATES, surrogate_gradient

UNROLLED = 16
"""Sequences up to here get kernels of their own, without a loop."""
SEGMENT = 8
"""Steps whose distances to threshold fit a thread's registers."""
MANY_NEURONS = 1 << 18
"""From here on there are enough blocks of 4 warps to fill a device; below it, blocks have 1."""
MOST_NEURONS = (1 << 31) - (1 << 16)
"""Neurons are counted in 32 bits."""


@functools.cache
def obstacle() -> str | None:
    """Why these kernels cannot run here, with the remedy, or None."""
    if find_spec("triton") is None:
        return "Triton is not installed; pip install triton, or take a CUDA build of PyTorch for Linux, which has it"
    if _interpreted():
        return None
    if torch.version.hip is not None or not torch.cuda.is_available():
        return "PyTorch finds no CUDA device; install NVIDIA's driver and a CUDA build of PyTorch"
    if torch.cuda.get_device_capability() < (8, 0):
        return "Triton needs a device of compute capability 8.0 (A100, RTX 30) or newer"
    return None


def forward(
    x: Tensor,
    v_init: Tensor,
    s: Settings,
    spikes: Tensor | None,
    kept: Tensor | None,
    v_last: Tensor,
    *,
    lengths: Tensor | None = None,
    affine: Affine | None = None,
    residual: Tensor | None = None,
    packed: Tensor | None = None,
) -> None:
    """Run currents x [T, N], any of float32, bfloat16 and float16, from potentials v_init [N] in float32.

    Writes spikes [T, N] in any dtype, `packed` int32 [T, ceil(N / 32)], v_last float32 [N] and `kept` [T, N], each but
    v_last unless it is None. Bit n % 32 of word n // 32 is neuron n, so the bytes are those of
    `numpy.packbits(bitorder="little")`, filled up to whole words. `residual` [T, N] is added to the current behind the
    affine.

    Raises:
        ValueError: arrays that the kernels cannot work on; says what to do.
    """
    _check(x, v_init, s, v_last)
    assert all(y is None or y.is_contiguous() for y in (spikes, packed, kept, v_last, lengths))
    T, N = x.shape
    x, residual = _rows(x), _rows(residual)
    v_init, shared = _potential(v_init)
    block, warps = _block(N, x, residual, spikes, kept)
    with torch.cuda.device_of(x):
        _kernels().lif_forward[(-(-N // block),)](
            x,
            residual,
            v_init,
            lengths,
            *_scale_and_shift(affine),
            spikes,
            packed,
            kept,
            v_last,
            x.stride(0),
            0 if residual is None else residual.stride(0),
            N,
            T,
            _per_sample(N, lengths),
            *_inner_and_channels(affine),
            *_constants(s),
            STEPS=T if T <= UNROLLED else 0,
            SOFT=s.soft_reset,
            # What a kernel does not need must not make another of it.
            SAVE=None if kept is None else s.save,
            SURROGATE=s.surrogate if kept is not None and s.save == "u8" else None,
            SHARED=shared,
            BLOCK=block,
            num_warps=warps,
            enable_fp_fusion=False,
        )


def backward(
    grad_spikes: Tensor | None,
    grad_v_last: Tensor | None,
    kept: Tensor,
    v_init: Tensor,
    s: Settings,
    grad_x: Tensor,
    grad_v: Tensor,
    grad_constants: Tensor | None,
    *,
    lengths: Tensor | None = None,
    affine: Affine | None = None,
    residual: Tensor | None = None,
) -> None:
    """Gradients of spikes [T, N] and last potential [N] -> those of the currents [T, N] and v_init [N].

    With an affine or a residual, grad_x is the gradient of what comes out of both. With save `x`, `kept` is the x that
    the forward had, and affine and residual are needed again. `grad_constants` [3], in float64, is added to: gradients
    of decay, gain and threshold, each program's sums added up in one fixed order.

    Raises:
        ValueError: arrays that the kernels cannot work on; says what to do.
    """
    _check(kept, v_init, s, grad_v)
    assert all(y is None or y.is_contiguous() for y in (grad_x, grad_v, lengths))
    assert s.save == "x" or kept.is_contiguous()
    T, N = grad_x.shape
    grad_spikes, residual = _rows(grad_spikes), _rows(residual)
    v_init, shared = _potential(v_init)
    if grad_v_last is not None:
        grad_v_last = grad_v_last.float().contiguous()
    # Where the forward runs again, more than the plain kernel takes more registers: half the neurons a thread then.
    plain = T <= SEGMENT and lengths is None and affine is None and residual is None and grad_constants is None
    block, warps = _block(N, grad_spikes, kept, residual, grad_x, None if plain or s.save != "x" else v_init)
    blocks = -(-N // block)
    parallel = s.detach_membrane and s.save != "x"
    programs = blocks * T if parallel else blocks
    sums = None if grad_constants is None else kept.new_empty(programs, 3, dtype=torch.float64)
    grad_stride = 0 if grad_spikes is None else grad_spikes.stride(0)
    compiled_in = {
        "SOFT": s.soft_reset,
        "DETACH_RESET": s.detach_reset,
        "DETACH_MEMBRANE": s.detach_membrane,
        "SURROGATE": s.surrogate,
        "SHARED": shared,
        "BLOCK": block,
        "num_warps": warps,
        "enable_fp_fusion": False,
    }
    with torch.cuda.device_of(kept):
        if s.save == "x":
            x = _rows(kept)
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
                *_constants(s),
                SEGMENT=min(T, segment),
                **compiled_in,
            )
        else:
            _kernels().lif_backward[(programs,)](
                grad_spikes,
                grad_v_last,
                kept,
                v_init,
                lengths,
                grad_x,
                grad_v,
                sums,
                grad_stride,
                N,
                T,
                _per_sample(N, lengths),
                *_constants(s),
                # Unrolled, a kernel that also adds up gradients of constants takes up to 252 registers.
                STEPS=1 if parallel else T if T <= UNROLLED and sums is None else 0,
                SAVE=s.save,
                **compiled_in,
            )
    if grad_constants is not None and sums is not None:
        grad_constants += sums.sum(0).to(grad_constants.device)


def _check(x: Tensor, v_init: Tensor, s: Settings, v: Tensor) -> None:
    if torch.float64 in (x.dtype, v_init.dtype, v.dtype):
        raise ValueError("the Triton kernels compute in float32, but the input is float64; take implementation='torch'")
    if s.surrogate not in SURROGATES:
        raise ValueError(
            f"the Triton kernels know no surrogate {s.surrogate!r}, but {', '.join(SURROGATES)}; take one of these, "
            "or implementation='torch'"
        )
    if not x.is_cuda and not _interpreted():
        raise ValueError(f"the Triton kernels run on CUDA devices, but x is on {x.device}; take implementation='auto'")
    if x.shape[1] > MOST_NEURONS:
        raise ValueError(f"x has {x.shape[1]} neurons, but at most {MOST_NEURONS} run at once; split the batch")


@functools.cache
def _kernels() -> Any:
    """The module of kernels: importing it takes Triton, and time."""
    from snn_core.ops.lif.triton import kernels

    return kernels


def _interpreted() -> bool:
    return os.environ.get("TRITON_INTERPRET") == "1"


@overload
def _rows(x: Tensor) -> Tensor: ...
@overload
def _rows(x: Tensor | None) -> Tensor | None: ...
def _rows(x: Tensor | None) -> Tensor | None:
    """The same [T, N] with neighboring neurons next to each other; time steps may be anywhere."""
    return x if x is None or x.shape[1] == 1 or x.stride(1) == 1 else x.contiguous()


def _potential(v: Tensor) -> tuple[Tensor, bool]:
    """Potentials [N] next to each other, or one that all neurons share, and whether it is one."""
    if len(v) > 1 and v.stride(0) == 0:
        return v, True
    return v.contiguous(), False


def _block(N: int, *arrays: Tensor | None) -> tuple[int, int]:
    """Neurons of a program and warps that work on them: 128 bits a thread of the widest of the arrays."""
    warps = 4 if N >= MANY_NEURONS else 1
    widest = max(array.element_size() for array in arrays if array is not None)
    return 32 * warps * (16 // max(widest, 2)), warps


def _constants(s: Settings) -> tuple[float, ...]:
    """Numbers that a kernel is not compiled for; whole ones, too, which Triton would take for sizes."""
    return float(s.decay), float(s.gain), float(s.threshold), float(s.slope), _top(s.surrogate, s.slope)


@functools.lru_cache
def _top(surrogate: str, slope: float) -> float:
    """The surrogate's largest value, that at 0."""
    return float(surrogate_gradient(surrogate)(torch.zeros((), dtype=torch.float32), slope))


def _per_sample(N: int, lengths: Tensor | None) -> int:
    return 1 if lengths is None else N // max(1, len(lengths))


def _scale_and_shift(affine: Affine | None) -> tuple[Tensor | None, Tensor | None]:
    return (None, None) if affine is None else (affine[0].contiguous(), affine[1].contiguous())


def _inner_and_channels(affine: Affine | None) -> tuple[int, int]:
    return (1, 1) if affine is None else (affine[2], len(affine[0]))
