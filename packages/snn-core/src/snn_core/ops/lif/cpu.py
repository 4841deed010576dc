"""The neuron in C on the CPU: the arguments of `few_pass.py`; the code is in `cpu.c`."""

from __future__ import annotations

import ctypes
from pathlib import Path

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
    v_init: Tensor,
    c: LIFConstants,
    call: NeuronCall,
    spikes: Tensor,
    saved: Tensor | None,
    v_last: Tensor,
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
            ctypes.byref(_Job(*job_values(T, N, start, stop, call, lengths, x.dtype), *c, *_affine_fields(affine))),
            x.data_ptr(),
            x_stride,
            v_init.data_ptr(),
            v_stride,
            spikes.data_ptr(),
            address(saved),
            v_last.data_ptr(),
        )

    split(run, N, steps=T, multiple=_library.tile())


def backward(
    grad_spikes: Tensor | None,
    grad_v_last: Tensor | None,
    saved: Tensor,
    v_init: Tensor,
    c: LIFConstants,
    call: NeuronCall,
    grad_x: Tensor,
    grad_v: Tensor,
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
        fields = job_values(T, N, start, stop, call, lengths, grad_x.dtype)
        function(
            ctypes.byref(_Job(*fields, *c, *_affine_fields(affine))),
            address(upstream),
            upstream_stride,
            address(from_v),
            saved.data_ptr(),
            saved_stride,
            v_init.data_ptr(),
            v_stride,
            grad_x.data_ptr(),
            grad_v.data_ptr(),
            address(gaps),
            address(sums),
        )

    split(run, N, steps=T, multiple=tile)
    if grad_constants is not None and sums is not None:
        grad_constants += sums.sum(0)


def _affine_fields(affine: Affine | None) -> tuple[int | None, int | None, int, int]:
    if affine is None:
        return None, None, 1, 1
    scale, shift, inner = affine
    return scale.data_ptr(), shift.data_ptr(), len(scale), inner
