"""The neuron in C on the CPU: the same arrays as in `few_pass.py`, flat or not; the code is in `cpu.c`."""

from __future__ import annotations

import ctypes
from functools import cache
from pathlib import Path

import torch
from torch import Tensor

from snn_core.ops.common import build
from snn_core.ops.common.threads import split
from snn_core.ops.lif.settings import Affine, Settings

TILE = 1024
"""Neurons that are worked through together, as `cpu.c` has it."""
# As the enumerations of `neuron.h` have them.
TYPES = {torch.float32: 0, torch.bfloat16: 1, torch.float16: 2}
_SAVES = {"d32": 0, "d16": 1, "x": 2, "u8": 3}
SURROGATES = {"sigmoid": 0, "atan": 1, "triangle": 2, "rectangle": 3, "fast_sigmoid": 4, "erf": 5}


class _Job(ctypes.Structure):
    _fields_ = (
        *((name, ctypes.c_int64) for name in ("T", "N", "start", "stop")),
        *((name, ctypes.c_float) for name in ("decay", "gain", "threshold", "slope")),
        *(
            (name, ctypes.c_int32)
            for name in ("soft_reset", "detach_reset", "detach_membrane", "surrogate", "save", "type")
        ),
        ("scale", ctypes.c_void_p),
        ("shift", ctypes.c_void_p),
        ("channels", ctypes.c_int64),
        ("inner", ctypes.c_int64),
        ("lengths", ctypes.c_void_p),
        ("samples", ctypes.c_int64),
    )


@cache
def _library() -> ctypes.CDLL | str:
    library = build.load(Path(__file__).with_name("cpu.c"))
    if isinstance(library, str):
        return library
    pointer, number = ctypes.c_void_p, ctypes.c_int64
    library.snn_lif_forward.argtypes = [pointer, pointer, number, pointer, number, pointer, pointer, pointer]
    library.snn_lif_forward.restype = None
    library.snn_lif_backward.argtypes = [
        *[pointer, pointer, number, pointer, pointer, number, pointer, number, pointer, pointer, pointer, pointer]
    ]
    library.snn_lif_backward.restype = None
    library.snn_lif_tile.restype = number
    assert library.snn_lif_tile() == TILE
    return library


def obstacle() -> str | None:
    """Why the C code cannot run here and what would help, or None."""
    library = _library()
    return library if isinstance(library, str) else None


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
    """As `few_pass.forward`."""
    library = _loaded()
    T, N, x, x_stride = _rows(x)
    v_init, v_stride = _potential(v_init)

    def run(start: int, stop: int) -> None:
        library.snn_lif_forward(
            ctypes.byref(_job(T, N, s, start, stop, lengths, affine, x.dtype)),
            x.data_ptr(),
            x_stride,
            v_init.data_ptr(),
            v_stride,
            spikes.data_ptr(),
            None if kept is None else kept.data_ptr(),
            v_last.data_ptr(),
        )

    split(run, N, steps=T, multiple=TILE)


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
) -> None:
    """As `few_pass.backward`."""
    library = _loaded()
    T, N, kept, kept_stride = _rows(kept)
    v_init, v_stride = _potential(v_init)
    upstream, upstream_stride = None, 0
    if grad_spikes is not None:
        _, _, upstream, upstream_stride = _rows(grad_spikes.to(grad_x.dtype))
    from_v = None if grad_v_last is None else grad_v_last.to(torch.float32).contiguous()
    shares = None if grad_constants is None else torch.zeros(-(-N // TILE), 3, dtype=torch.float64)

    def run(start: int, stop: int) -> None:
        gaps = torch.empty(T, TILE) if s.save == "x" else None
        library.snn_lif_backward(
            ctypes.byref(_job(T, N, s, start, stop, lengths, affine, grad_x.dtype)),
            None if upstream is None else upstream.data_ptr(),
            upstream_stride,
            None if from_v is None else from_v.data_ptr(),
            kept.data_ptr(),
            kept_stride,
            v_init.data_ptr(),
            v_stride,
            grad_x.data_ptr(),
            grad_v.data_ptr(),
            None if gaps is None else gaps.data_ptr(),
            None if shares is None else shares.data_ptr(),
        )

    split(run, N, steps=T, multiple=TILE)
    if grad_constants is not None and shares is not None:
        grad_constants += shares.sum(0)


def _loaded() -> ctypes.CDLL:
    library = _library()
    assert not isinstance(library, str), library
    return library


def _rows(x: Tensor) -> tuple[int, int, Tensor, int]:
    """T and N of an array [T, ...], the same values with the neurons of a step side by side, and a step's distance."""
    T, N = len(x), x.numel() // len(x)
    if x.is_contiguous():
        return T, N, x, N
    # Steps may stand anywhere, and all be one.
    if x[0].is_contiguous():
        return T, N, x, x.stride(0)
    return T, N, x.contiguous(), N


def _potential(v: Tensor) -> tuple[Tensor, int]:
    """The same values with neurons side by side, and their distance: 0 where one number stands for all."""
    if v.is_contiguous():
        return v, 1
    return (v.contiguous(), 1) if any(v.stride()) else (v, 0)


def _job(
    T: int,
    N: int,
    s: Settings,
    start: int,
    stop: int,
    lengths: Tensor | None,
    affine: Affine | None,
    dtype: torch.dtype,
) -> _Job:
    scale, shift, inner = affine or (None, None, 1)
    return _Job(
        T,
        N,
        start,
        stop,
        s.decay,
        s.gain,
        s.threshold,
        s.slope,
        s.soft_reset,
        s.detach_reset,
        s.detach_membrane,
        SURROGATES[s.surrogate],
        _SAVES[s.save],
        TYPES[dtype],
        None if scale is None else scale.data_ptr(),
        None if shift is None else shift.data_ptr(),
        1 if scale is None else len(scale),
        inner,
        None if lengths is None else lengths.data_ptr(),
        1 if lengths is None else len(lengths),
    )
