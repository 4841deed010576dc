"""Memory for large results: on Linux, asked for in huge pages.

A large tensor is memory that the kernel has to hand out page by page while it is first written, which takes longer than
the writing: with pages of 4 KiB a fresh float32 tensor of 8 M elements took 1.8 ns an element to fill here, with huge
pages 0.57, against 0.22 into memory that was there already (2 cores of an AMD EPYC, one thread).
"""

from __future__ import annotations

import ctypes
import mmap
import sys
from collections.abc import Sequence
from functools import cache

import torch
from torch import Tensor

LARGE = 2 << 20
"""Bytes from which on huge pages, of 2 MiB, are worth a call to the kernel."""


def empty(shape: Sequence[int], *, dtype: torch.dtype, device: torch.device) -> Tensor:
    """Uninitialized memory, as `torch.empty` gives it."""
    tensor = torch.empty(shape, dtype=dtype, device=device)
    if device.type == "cpu" and tensor.nbytes >= LARGE:
        advise = _madvise()
        if advise is not None:
            start = -(-tensor.data_ptr() // mmap.PAGESIZE) * mmap.PAGESIZE
            # It is advice: a kernel that cannot follow it says so, and nothing is lost.
            advise(start, tensor.data_ptr() + tensor.nbytes - start, mmap.MADV_HUGEPAGE)
    return tensor


@cache
def _madvise() -> ctypes._NamedFuncPointer | None:  # pyright: ignore[reportPrivateUsage]
    if not sys.platform.startswith("linux") or not hasattr(mmap, "MADV_HUGEPAGE"):
        return None
    advise = ctypes.CDLL(None).madvise
    advise.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int]
    return advise
