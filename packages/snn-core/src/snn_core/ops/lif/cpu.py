"""The neuron in C on the CPU: the arguments of `few_pass.py`; the code is in `cpu.c`."""

from __future__ import annotations

import ctypes
from functools import lru_cache
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from snn_core.ops.common.call import NeuronCall
from snn_core.ops.common.cpu import JOB_FIELDS, POINTER, STRIDED, Library, address, job_values, rows, state
from snn_core.ops.common.threads import split
from snn_core.ops.lif.settings import Affine, LIFConstants


class _Job(ctypes.Structure):
    _fields_ = (
        *JOB_FIELDS,
        *((name, ctypes.c_float) for name in ("decay", "gain", "threshold")),
        ("scale", ctypes.c_void_p),
        ("shift", ctypes.c_void_p),
        ("channels", ctypes.c_int64),
        ("inner", ctypes.c_int64),
    )


def _job(
    T: int,
    N: int,
    part: tuple[int, int],
    c: LIFConstants,
    call: NeuronCall,
    dtype: torch.dtype,
    lengths: Tensor | None,
    affine: Affine | None,
) -> Any:
    """Return a pointer to the job of neurons start ... stop-1."""
    if lengths is None and affine is None:
        return _plain_job(T, N, part, c, call, dtype)
    scale, shift, inner = affine or (None, None, 1)
    channels = 1 if scale is None else scale.shape[0]
    values = job_values(T, N, *part, call, lengths, dtype)
    return ctypes.byref(_Job(*values, *c, address(scale), address(shift), channels, inner))


@lru_cache(maxsize=1024)
def _plain_job(T: int, N: int, part: tuple[int, int], c: LIFConstants, call: NeuronCall, dtype: torch.dtype) -> Any:
    """The same without pointers to tensors. Small layers notice the time to fill a structure."""
    return ctypes.byref(_Job(*job_values(T, N, *part, call, None, dtype), *c, None, None, 1, 1))


_library = Library(
    Path(__file__).with_name("cpu.c"),
    {
        "snn_lif_forward": [POINTER, *STRIDED, *STRIDED, *[POINTER] * 3],
        "snn_lif_backward": [POINTER, *STRIDED, POINTER, *STRIDED, *STRIDED, *[POINTER] * 4],
    },
    tile="snn_lif_tile",
)
unavailable_reason = _library.unavailable_reason


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
    """Like `few_pass.forward`."""
    function = _library.function("snn_lif_forward")
    T, N, x, x_stride = rows(x)
    v_init, v_stride = state(v_init)

    def run(start: int, stop: int) -> None:
        function(
            _job(T, N, (start, stop), c, call, x.dtype, lengths, affine),
            x.data_ptr(),
            x_stride,
            v_init.data_ptr(),
            v_stride,
            spikes.data_ptr(),
            address(saved),
            address(v_last),
        )

    split(run, N, steps=T, multiple=_library.tile())


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
    """Like `few_pass.backward`."""
    function, tile = _library.function("snn_lif_backward"), _library.tile()
    T, N, saved, saved_stride = rows(saved)
    v_init, v_stride = state(v_init)
    upstream, upstream_stride = None, 0
    if grad_spikes is not None:
        _, _, upstream, upstream_stride = rows(grad_spikes.to(grad_x.dtype))
    from_v = None if grad_v_last is None else grad_v_last.to(torch.float32).contiguous()
    sums = None if grad_constants is None else torch.zeros(-(-N // tile), len(c), dtype=torch.float64)

    def run(start: int, stop: int) -> None:
        gaps = torch.empty(T, tile) if call.save == "x" else None
        function(
            _job(T, N, (start, stop), c, call, grad_x.dtype, lengths, affine),
            address(upstream),
            upstream_stride,
            address(from_v),
            saved.data_ptr(),
            saved_stride,
            v_init.data_ptr(),
            v_stride,
            grad_x.data_ptr(),
            address(grad_v),
            address(gaps),
            address(sums),
        )

    split(run, N, steps=T, multiple=tile)
    if grad_constants is not None and sums is not None:
        grad_constants += sums.sum(0)
