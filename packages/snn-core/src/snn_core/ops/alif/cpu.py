"""The adaptive neuron in C on the CPU: the arguments of `few_pass.py`; the code is in `cpu.c`."""

from __future__ import annotations

import ctypes
from pathlib import Path

import torch
from torch import Tensor

from snn_core.ops.alif.settings import ALIFConstants
from snn_core.ops.common.call import NeuronCall
from snn_core.ops.common.cpu import JOB_FIELDS, POINTER, STRIDED, Library, address, job_values, rows, state
from snn_core.ops.common.threads import split


class _Job(ctypes.Structure):
    _fields_ = (*JOB_FIELDS, *((name, ctypes.c_float) for name in ALIFConstants._fields))


_library = Library(
    Path(__file__).with_name("cpu.c"),
    {
        "snn_alif_forward": [POINTER, *STRIDED, *STRIDED, *STRIDED, *[POINTER] * 4],
        "snn_alif_backward": [POINTER, *STRIDED, *[POINTER] * 3, *STRIDED, *STRIDED, *[POINTER] * 5],
    },
    tile="snn_alif_tile",
)
unavailable_reason = _library.unavailable_reason


def forward(
    x: Tensor,
    v_init: Tensor | None,
    b_init: Tensor | None,
    c: ALIFConstants,
    call: NeuronCall,
    spikes: Tensor,
    gap: Tensor | None,
    v_last: Tensor | None,
    b_last: Tensor | None,
    *,
    lengths: Tensor | None = None,
) -> None:
    """Like `few_pass.forward`."""
    function = _library.function("snn_alif_forward")
    T, N, x, x_stride = rows(x)
    (v_init, v_stride), (b_init, b_stride) = state(v_init), state(b_init)

    def run(start: int, stop: int) -> None:
        function(
            ctypes.byref(_Job(*job_values(T, N, start, stop, call, lengths, x.dtype), *c)),
            x.data_ptr(),
            x_stride,
            v_init.data_ptr(),
            v_stride,
            b_init.data_ptr(),
            b_stride,
            spikes.data_ptr(),
            address(gap),
            address(v_last),
            address(b_last),
        )

    split(run, N, steps=T, multiple=_library.tile())


def backward(
    grad_spikes: Tensor | None,
    grad_v_last: Tensor | None,
    grad_b_last: Tensor | None,
    gap: Tensor,
    v_init: Tensor | None,
    b_init: Tensor | None,
    c: ALIFConstants,
    call: NeuronCall,
    grad_x: Tensor,
    grad_v: Tensor | None,
    grad_b: Tensor | None,
    grad_constants: Tensor | None,
    *,
    lengths: Tensor | None = None,
) -> None:
    """Like `few_pass.backward`."""
    function, tile = _library.function("snn_alif_backward"), _library.tile()
    T, N, gap, _ = rows(gap.contiguous())
    (v_init, v_stride), (b_init, b_stride) = state(v_init), state(b_init)
    upstream, upstream_stride = None, 0
    if grad_spikes is not None:
        _, _, upstream, upstream_stride = rows(grad_spikes.to(grad_x.dtype))
    from_v = None if grad_v_last is None else grad_v_last.to(torch.float32).contiguous()
    from_b = None if grad_b_last is None else grad_b_last.to(torch.float32).contiguous()
    sums = None if grad_constants is None else torch.zeros(-(-N // tile), len(c), dtype=torch.float64)
    needs_adaptation = sums is not None or not (call.detach_reset or call.soft_reset)

    def run(start: int, stop: int) -> None:
        adaptation = torch.empty(T, tile) if needs_adaptation else None
        function(
            ctypes.byref(_Job(*job_values(T, N, start, stop, call, lengths, grad_x.dtype), *c)),
            address(upstream),
            upstream_stride,
            address(from_v),
            address(from_b),
            gap.data_ptr(),
            v_init.data_ptr(),
            v_stride,
            b_init.data_ptr(),
            b_stride,
            grad_x.data_ptr(),
            address(grad_v),
            address(grad_b),
            address(adaptation),
            address(sums),
        )

    split(run, N, steps=T, multiple=tile)
    if grad_constants is not None and sums is not None:
        grad_constants += sums.sum(0)
