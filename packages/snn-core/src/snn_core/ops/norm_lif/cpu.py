"""Batch norm's sums and its backward in C on the CPU, for float32; the code is in `cpu.c`."""

from __future__ import annotations

import ctypes
from functools import cache
from pathlib import Path

import torch
from torch import Tensor

from snn_core.ops.common import build
from snn_core.ops.common.threads import split


@cache
def _library() -> ctypes.CDLL | str:
    library = build.load(Path(__file__).with_name("cpu.c"))
    if isinstance(library, str):
        return library
    pointer, number = ctypes.c_void_p, ctypes.c_int64
    signatures = {
        "sums": [*[pointer] * 3, *[number] * 4, *[pointer] * 2],
        "moments": [pointer, number, pointer, number, number, pointer, pointer],
        "coefficients": [pointer, *[number] * 3, ctypes.c_int32, ctypes.c_double, *[pointer] * 4],
        "combine": [*[pointer] * 4, *[number] * 4],
    }
    for name, types in signatures.items():
        function = getattr(library, f"snn_norm_{name}")
        function.argtypes, function.restype = types, None
    return library


def can_run(x: Tensor) -> bool:
    """Whether the compiled code takes x."""
    return x.dtype == torch.float32 and x.device.type == "cpu" and not isinstance(_library(), str)


def moments(x: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and biased variance [C] of x [M, C, inner]."""
    M, C, inner = x.shape
    # Distances from about the mean: little cancels in the variance, however far the mean is from 0.
    center = x[0, :, 0] if inner == 1 else x[0].mean(1)
    parts = _sums(x, center, None)
    mean, var = torch.empty(C), torch.empty(C)
    _loaded().snn_norm_moments(
        parts.data_ptr(), len(parts), center.data_ptr(), C, M * inner, mean.data_ptr(), var.data_ptr()
    )
    return mean, var


def gradients(
    grad_drive: Tensor, x: Tensor, weight: Tensor, mean: Tensor, var: Tensor, eps: float, of_batch: bool
) -> tuple[Tensor, Tensor, Tensor]:
    """As `batch_norm.gradients`; the gradient of x is in the memory of the drive's."""
    library = _loaded()
    M, C, inner = x.shape
    mean, var, weight = mean.contiguous(), var.contiguous(), weight.detach().contiguous()
    parts = _sums(x, mean, grad_drive)
    coefficients, found = torch.empty(3, C), torch.empty(2, C)
    library.snn_norm_coefficients(
        parts.data_ptr(),
        len(parts),
        C,
        M * inner,
        of_batch,
        eps,
        weight.data_ptr(),
        var.data_ptr(),
        coefficients.data_ptr(),
        found.data_ptr(),
    )

    def run(start: int, stop: int) -> None:
        pointers = [tensor.data_ptr() for tensor in (grad_drive, x, mean, coefficients)]
        library.snn_norm_combine(*pointers, start, stop, C, inner)

    split(run, M, steps=C * inner, multiple=1)
    return grad_drive, found[0], found[1]


def _sums(x: Tensor, center: Tensor, grad: Tensor | None) -> Tensor:
    """Sums over parts of the rows, float64 [parts, 2, C]: of the gradient, and of the gradient times x - center.

    Without a gradient, x - center takes its place.
    """
    library = _loaded()
    M, C, inner = x.shape
    parts: dict[int, Tensor] = {}

    def run(start: int, stop: int) -> None:
        space, part = torch.empty(2, C), torch.empty(2, C, dtype=torch.float64)
        pointers = x.data_ptr(), None if grad is None else grad.data_ptr(), center.data_ptr()
        library.snn_norm_sums(*pointers, start, stop, C, inner, space.data_ptr(), part.data_ptr())
        parts[start] = part

    split(run, M, steps=C * inner, multiple=1)
    # In the order of the rows, whichever thread was first: the same digits in every run.
    return torch.stack([parts[start] for start in sorted(parts)])


def _loaded() -> ctypes.CDLL:
    library = _library()
    assert not isinstance(library, str), library
    return library
