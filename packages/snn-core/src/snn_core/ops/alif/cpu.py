"""The adaptive neuron in C on the CPU: the same flat arrays as `few_pass.py`, the code in `cpu.c`."""

from __future__ import annotations

import ctypes
from functools import cache
from pathlib import Path

import torch
from torch import Tensor

from snn_core.ops.alif.few_pass import Gradients
from snn_core.ops.alif.settings import Settings
from snn_core.ops.common import build
from snn_core.ops.common.threads import split
from snn_core.ops.lif.cpu import SURROGATES, TYPES


class _Job(ctypes.Structure):
    _fields_ = (
        *((name, ctypes.c_int64) for name in ("T", "N", "start", "stop")),
        *((name, ctypes.c_float) for name in ("decay", "gain", "threshold", "beta", "rho", "slope")),
        *((name, ctypes.c_int32) for name in ("soft_reset", "detach_reset", "detach_membrane", "surrogate", "type")),
        ("lengths", ctypes.c_void_p),
        ("samples", ctypes.c_int64),
    )


@cache
def _library() -> ctypes.CDLL | str:
    library = build.load(Path(__file__).with_name("cpu.c"))
    if isinstance(library, str):
        return library
    pointer, number = ctypes.c_void_p, ctypes.c_int64
    strided = (pointer, number)
    library.snn_alif_forward.argtypes = [pointer, *strided, *strided, *strided, *[pointer] * 4]
    library.snn_alif_forward.restype = None
    library.snn_alif_backward.argtypes = [pointer, *strided, *[pointer] * 3, *strided, *strided, *[pointer] * 5]
    library.snn_alif_backward.restype = None
    library.snn_alif_tile.restype = number
    return library


def obstacle() -> str | None:
    """Why the C code cannot run here and what would help, or None."""
    library = _library()
    return library if isinstance(library, str) else None


def forward(
    x: Tensor,
    v_init: Tensor,
    b_init: Tensor,
    s: Settings,
    spikes: Tensor,
    gap: Tensor | None,
    v_last: Tensor,
    b_last: Tensor,
    *,
    lengths: Tensor | None = None,
) -> None:
    """As `few_pass.forward`."""
    library = _loaded()
    x = _rows(x)

    def run(start: int, stop: int) -> None:
        library.snn_alif_forward(
            ctypes.byref(_job(x.shape, s, start, stop, lengths, x.dtype)),
            x.data_ptr(),
            x.stride(0),
            v_init.data_ptr(),
            v_init.stride(0),
            b_init.data_ptr(),
            b_init.stride(0),
            spikes.data_ptr(),
            None if gap is None else gap.data_ptr(),
            v_last.data_ptr(),
            b_last.data_ptr(),
        )

    split(run, x.shape[1], steps=x.shape[0], multiple=library.snn_alif_tile())


def backward(
    grad_spikes: Tensor | None,
    grad_v_last: Tensor | None,
    grad_b_last: Tensor | None,
    gap: Tensor,
    v_init: Tensor,
    b_init: Tensor,
    s: Settings,
    grads: Gradients,
    *,
    lengths: Tensor | None = None,
) -> None:
    """As `few_pass.backward`."""
    library = _loaded()
    T, N = gap.shape
    tile: int = library.snn_alif_tile()
    gap = gap.contiguous()
    upstream = None if grad_spikes is None else _rows(grad_spikes.to(grads.x.dtype))
    from_v = None if grad_v_last is None else grad_v_last.to(torch.float32).contiguous()
    from_b = None if grad_b_last is None else grad_b_last.to(torch.float32).contiguous()
    shares = None if grads.constants is None else torch.zeros(-(-N // tile), 5, dtype=torch.float64)
    recall = shares is not None or not (s.detach_reset or s.soft_reset)

    def run(start: int, stop: int) -> None:
        adaptation = torch.empty(T, tile) if recall else None
        library.snn_alif_backward(
            ctypes.byref(_job(gap.shape, s, start, stop, lengths, grads.x.dtype)),
            None if upstream is None else upstream.data_ptr(),
            0 if upstream is None else upstream.stride(0),
            None if from_v is None else from_v.data_ptr(),
            None if from_b is None else from_b.data_ptr(),
            gap.data_ptr(),
            v_init.data_ptr(),
            v_init.stride(0),
            b_init.data_ptr(),
            b_init.stride(0),
            grads.x.data_ptr(),
            grads.v.data_ptr(),
            grads.b.data_ptr(),
            None if adaptation is None else adaptation.data_ptr(),
            None if shares is None else shares.data_ptr(),
        )

    split(run, N, steps=T, multiple=tile)
    if grads.constants is not None and shares is not None:
        grads.constants.add_(shares.sum(0))


def _loaded() -> ctypes.CDLL:
    library = _library()
    assert not isinstance(library, str), library
    return library


def _rows(x: Tensor) -> Tensor:
    """The same values with the neurons of a step side by side; steps may stand anywhere, or all be one."""
    return x if x.stride(1) == 1 or x.shape[1] == 1 else x.contiguous()


def _job(shape: torch.Size, s: Settings, start: int, stop: int, lengths: Tensor | None, dtype: torch.dtype) -> _Job:
    return _Job(
        *shape,
        start,
        stop,
        s.decay,
        s.gain,
        s.threshold,
        s.beta,
        s.rho,
        s.slope,
        s.soft_reset,
        s.detach_reset,
        s.detach_membrane,
        SURROGATES[s.surrogate],
        TYPES[dtype],
        None if lengths is None else lengths.data_ptr(),
        1 if lengths is None else len(lengths),
    )
