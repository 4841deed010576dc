"""What the neurons in C share on the Python side: the fields of a call, array layouts and the loaded library."""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from snn_core.ops.common import build
from snn_core.ops.common.call import NeuronCall
from snn_core.surrogate import SURROGATES

# As in the enumerations of `neuron.h`.
_TYPES = {torch.float32: 0, torch.bfloat16: 1, torch.float16: 2}
_SURROGATES = {name: code for code, name in enumerate(SURROGATES)}
_SAVES = {"d32": 0, "d16": 1, "x": 2, "u8": 3}

POINTER, INTEGER = ctypes.c_void_p, ctypes.c_int64
STRIDED = (POINTER, INTEGER)
"""An array and the distance between its time steps, or between its neurons."""


JOB_FIELDS: tuple[tuple[str, Any], ...] = (
    *((name, ctypes.c_int64) for name in ("T", "N", "start", "stop")),
    ("lengths", ctypes.c_void_p),
    ("samples", ctypes.c_int64),
    ("slope", ctypes.c_float),
    *(
        (name, ctypes.c_int32)
        for name in ("soft_reset", "detach_reset", "detach_membrane", "surrogate", "save", "type")
    ),
)
"""`NEURON_JOB` of `neuron.h`. Neurons append their constants: inherited fields would be aligned differently."""


def job_values(
    T: int, N: int, start: int, stop: int, call: NeuronCall, lengths: Tensor | None, dtype: torch.dtype
) -> tuple[Any, ...]:
    """Return the values of `JOB_FIELDS` for neurons start ... stop-1."""
    assert isinstance(call.surrogate, str)
    return (
        T,
        N,
        start,
        stop,
        None if lengths is None else lengths.data_ptr(),
        1 if lengths is None else len(lengths),
        call.slope,
        call.soft_reset,
        call.detach_reset,
        call.detach_membrane,
        _SURROGATES[call.surrogate],
        _SAVES[call.save],
        _TYPES[dtype],
    )


class Library:
    """The C library of one source file, built and loaded at first use.

    Args:
        source: the C file.
        signatures: argument types by the name of each function, which returns nothing.
        tile: name of the function that returns the number of neurons processed together, if there is one.
    """

    def __init__(self, source: Path, signatures: dict[str, list[Any]], *, tile: str | None = None) -> None:
        self.source = source
        self.signatures = signatures
        self.tile_function = tile
        # Cached per library, which lives as long as the process.
        self.load = cache(self._load)
        self.function = cache(self._function)
        self.tile = cache(self._tile)

    def _load(self) -> ctypes.CDLL | str:
        """Return the library, or why it cannot be built and what to do."""
        library = build.load(self.source)
        if isinstance(library, str):
            return library
        for name, types in self.signatures.items():
            function = getattr(library, name)
            function.argtypes, function.restype = types, None
        if self.tile_function is not None:
            getattr(library, self.tile_function).restype = INTEGER
        return library

    def unavailable_reason(self) -> str | None:
        """Return why the C code cannot run here and what to do, or None."""
        library = self.load()
        return library if isinstance(library, str) else None

    def _function(self, name: str) -> Callable[..., Any]:
        """Return a function of the library, which must have been built."""
        library = self.load()
        assert not isinstance(library, str), library
        return getattr(library, name)

    def _tile(self) -> int:
        """Return the number of neurons that the C code processes together."""
        assert self.tile_function is not None
        return self.function(self.tile_function)()


def rows(x: Tensor) -> tuple[int, int, Tensor, int]:
    """Return T, N, the values of x [T, ...] with contiguous time steps, and the stride between steps (may be 0)."""
    T = x.shape[0]
    N = x.numel() // T
    if x.is_contiguous():
        return T, N, x, N
    if x[0].is_contiguous():
        return T, N, x, x.stride(0)
    return T, N, x.contiguous(), N


_REST = torch.zeros(1)


def state(v: Tensor | None) -> tuple[Tensor, int]:
    """Return the values of a state [...] contiguously and their stride: 0 where one value is expanded to all."""
    if v is None:
        return _REST, 0
    if v.is_contiguous():
        return v, 1
    return (v.contiguous(), 1) if any(v.stride()) else (v, 0)


def address(x: Tensor | None) -> int | None:
    """Return the address of the first element, or None."""
    return None if x is None else x.data_ptr()
