"""Batch norm in C on the CPU: its sums and its backward; the code is in `native.c`."""

from __future__ import annotations

import ctypes
from pathlib import Path

import torch
from torch import Tensor

from snn_core.ops.common.native import INTEGER, POINTER, TYPES, Library, address
from snn_core.ops.common.threads import split

_library = Library(
    Path(__file__).with_name("native.c"),
    {
        "snn_norm_sums": [*[POINTER] * 3, *[INTEGER] * 4, ctypes.c_int32, *[POINTER] * 2],
        "snn_norm_moments": [POINTER, INTEGER, POINTER, INTEGER, INTEGER, POINTER, POINTER],
        "snn_norm_coefficients": [POINTER, *[INTEGER] * 3, ctypes.c_int32, ctypes.c_double, *[POINTER] * 4],
        "snn_norm_combine": [*[POINTER] * 4, *[INTEGER] * 4, ctypes.c_int32],
    },
)


def can_run(x: Tensor) -> bool:
    """Return whether the C code can process x."""
    return x.dtype in TYPES and x.device.type == "cpu" and _library.unavailable_reason() is None


def moments(x: Tensor) -> tuple[Tensor, Tensor]:
    """Return mean and biased variance [C] of x [M, C, inner]."""
    M, C, inner = x.shape
    # Distances from a value near the mean: little cancels in the variance, however far the mean is from 0.
    center = (x[0, :, 0] if inner == 1 else x[0].mean(1, dtype=torch.float32)).to(torch.float32)
    parts = _sums(x, center, None)
    mean, var = torch.empty(C), torch.empty(C)
    _library.function("snn_norm_moments")(
        parts.data_ptr(), len(parts), center.data_ptr(), C, M * inner, mean.data_ptr(), var.data_ptr()
    )
    return mean, var


def gradients(
    grad_drive: Tensor, x: Tensor, weight: Tensor, mean: Tensor, var: Tensor, eps: float, of_batch: bool
) -> tuple[Tensor, Tensor, Tensor]:
    """Like `batch_norm.gradients`; the gradient of x overwrites that of the drive."""
    M, C, inner = x.shape
    mean, var, weight = mean.contiguous(), var.contiguous(), weight.detach().contiguous()
    parts = _sums(x, mean, grad_drive)
    coefficients, grads = torch.empty(3, C), torch.empty(2, C)
    _library.function("snn_norm_coefficients")(
        parts.data_ptr(),
        len(parts),
        C,
        M * inner,
        of_batch,
        eps,
        weight.data_ptr(),
        var.data_ptr(),
        coefficients.data_ptr(),
        grads.data_ptr(),
    )

    combine = _library.function("snn_norm_combine")

    def run(start: int, stop: int) -> None:
        pointers = [tensor.data_ptr() for tensor in (grad_drive, x, mean, coefficients)]
        combine(*pointers, start, stop, C, inner, TYPES[x.dtype])

    split(run, M, steps=C * inner, multiple=1)
    return grad_drive, grads[0], grads[1]


def _sums(x: Tensor, center: Tensor, grad: Tensor | None) -> Tensor:
    """Return sums over parts of the rows, float64 [parts, 2, C]: of the gradient, and of the gradient times x - center.

    Without a gradient, x - center replaces it.
    """
    sums = _library.function("snn_norm_sums")
    M, C, inner = x.shape
    parts: dict[int, Tensor] = {}

    def run(start: int, stop: int) -> None:
        space, part = torch.empty(2, C), torch.empty(2, C, dtype=torch.float64)
        pointers = x.data_ptr(), address(grad), center.data_ptr()
        sums(*pointers, start, stop, C, inner, TYPES[x.dtype], space.data_ptr(), part.data_ptr())
        parts[start] = part

    split(run, M, steps=C * inner, multiple=1)
    # In the order of the rows for any order of threads, so that every run gives the same digits.
    return torch.stack([parts[start] for start in sorted(parts)])
