"""Neurons in C: the library of a source file, and the kernels that call it. The code is in `ops/<name>/native.c`."""

from __future__ import annotations

import ctypes
from collections.abc import Callable, Mapping, Sequence
from functools import cache, lru_cache, partial
from pathlib import Path
from types import MappingProxyType
from typing import Any

import torch
from torch import Tensor

from snn_core.ops.common import build
from snn_core.ops.common.call import Affine, NeuronCall
from snn_core.ops.common.threads import split
from snn_core.surrogate import SURROGATES

# As in the enumerations of `neuron.h`.
TYPES = {torch.float32: 0, torch.bfloat16: 1, torch.float16: 2}
_SURROGATES = {name: code for code, name in enumerate(SURROGATES)}
_SAVES = {"d32": 0, "d16": 1, "x": 2, "u8": 3}

POINTER, INTEGER = ctypes.c_void_p, ctypes.c_int64
STRIDED = (POINTER, INTEGER)
"""An array and the distance between its time steps, or between its neurons."""


JOB_FIELDS: tuple[tuple[str, Any], ...] = (
    *((name, ctypes.c_int64) for name in ("T", "N", "start", "stop")),
    ("lengths", ctypes.c_void_p),
    ("samples", ctypes.c_int64),
    *((name, ctypes.c_void_p) for name in ("scale", "shift")),
    *((name, ctypes.c_int64) for name in ("channels", "inner")),
    ("slope", ctypes.c_float),
    *(
        (name, ctypes.c_int32)
        for name in ("soft_reset", "detach_reset", "detach_membrane", "surrogate", "save", "type")
    ),
)
"""`NEURON_JOB` of `neuron.h`. Neurons append their constants: inherited fields would be aligned differently."""


class NativeNeuron:
    """The kernels of a neuron in C; `NeuronOperation` documents `forward` and `backward`.

    Args:
        source: the C file, with `snn_<name>_forward`, `snn_<name>_backward` and `snn_<name>_tile`.
        name: of the operation.
        states: number of states.
        constants: named tuple of the constants.
        needs_buffer: `(call, learned) -> whether` the backward needs a buffer of [T, tile] floats.
    """

    def __init__(
        self,
        source: Path,
        name: str,
        *,
        states: int,
        constants: type[Any],
        needs_buffer: Callable[[NeuronCall, bool], bool],
    ) -> None:
        each = [*STRIDED] * states
        self._forward, self._backward = f"snn_{name}_forward", f"snn_{name}_backward"
        signatures = {
            self._forward: [POINTER, *STRIDED, *each, *[POINTER] * (2 + states)],
            self._backward: [POINTER, *STRIDED, *[POINTER] * states, *STRIDED, *each, *[POINTER] * (3 + states)],
        }
        self._library = Library(source, signatures, tile=f"snn_{name}_tile")
        self._states = states
        self._needs_buffer = needs_buffer
        self._structure = job_type(constants)
        self._plain_job = lru_cache(maxsize=1024)(self._make_job)
        self.unavailable_reason = self._library.unavailable_reason

    def forward(self, x: Tensor, *arguments: Any, lengths: Tensor | None = None, affine: Affine | None = None) -> None:
        """Write spikes, the saved tensor and the last states."""
        states = [_strided(state) for state in arguments[: self._states]]
        c, call, *outputs = arguments[self._states :]
        function = self._library.function(self._forward)
        T, N, x, stride = rows(x)
        make_job = self._job_maker(lengths, affine)

        def run(start: int, stop: int) -> None:
            job = make_job(T, N, start, stop, c, call, x.dtype)
            function(job, x.data_ptr(), stride, *_pointers(states), *map(address, outputs))

        split(run, N, steps=T, multiple=self._library.tile())

    def backward(self, *arguments: Any, lengths: Tensor | None = None, affine: Affine | None = None) -> None:
        """Write the gradients."""
        n = self._states
        grad_spikes, *grad_states = arguments[: n + 1]
        T, N, saved, saved_stride = rows(arguments[n + 1])
        states = [_strided(state) for state in arguments[n + 2 : 2 * n + 2]]
        c, call, grad_x, *outputs, grad_constants = arguments[2 * n + 2 :]
        function, tile = self._library.function(self._backward), self._library.tile()
        upstream, upstream_stride = None, 0
        if grad_spikes is not None:
            _, _, upstream, upstream_stride = rows(grad_spikes.to(grad_x.dtype))
        grad_states = [None if grad is None else grad.to(torch.float32).contiguous() for grad in grad_states]
        sums = None if grad_constants is None else torch.zeros(-(-N // tile), len(c), dtype=torch.float64)
        needs_buffer = self._needs_buffer(call, sums is not None)
        make_job = self._job_maker(lengths, affine)

        def run(start: int, stop: int) -> None:
            buffer = torch.empty(T, tile) if needs_buffer else None
            function(
                make_job(T, N, start, stop, c, call, grad_x.dtype),
                address(upstream),
                upstream_stride,
                *map(address, grad_states),
                saved.data_ptr(),
                saved_stride,
                *_pointers(states),
                grad_x.data_ptr(),
                *map(address, outputs),
                address(buffer),
                address(sums),
            )

        split(run, N, steps=T, multiple=tile)
        if grad_constants is not None and sums is not None:
            grad_constants += sums.sum(0)

    def _job_maker(self, lengths: Tensor | None, affine: Affine | None) -> Callable[..., Any]:
        """Return what makes a job; without pointers to tensors it is made once: small layers notice the time."""
        if lengths is None and affine is None:
            return self._plain_job
        return partial(self._make_job, lengths=lengths, affine=affine)

    def _make_job(self, *arguments: Any, lengths: Tensor | None = None, affine: Affine | None = None) -> Any:
        return ctypes.byref(self._structure(*job_values(*arguments, lengths=lengths, affine=affine)))


@cache
def job_type(constants: type[Any]) -> type[ctypes.Structure]:
    """Return the structure of a call of a neuron with these constants."""
    fields = (*JOB_FIELDS, *((field, ctypes.c_float) for field in constants._fields))
    return type(f"{constants.__name__}Job", (ctypes.Structure,), {"_fields_": fields})


def job_values(
    T: int,
    N: int,
    start: int,
    stop: int,
    c: tuple[float, ...],
    call: NeuronCall,
    dtype: torch.dtype,
    *,
    lengths: Tensor | None,
    affine: Affine | None,
) -> tuple[Any, ...]:
    """Return the fields of a call for neurons start ... stop-1; the tensors must outlive it."""
    assert isinstance(call.surrogate, str)
    scale, shift, inner = affine or (None, None, 1)
    return (
        T,
        N,
        start,
        stop,
        address(lengths),
        1 if lengths is None else lengths.shape[0],
        address(scale),
        address(shift),
        1 if scale is None else scale.shape[0],
        inner,
        call.slope,
        call.soft_reset,
        call.detach_reset,
        call.detach_membrane,
        _SURROGATES[call.surrogate],
        _SAVES[call.save],
        TYPES[dtype],
        *c,
    )


class Library:
    """The C library of one source file, built and loaded at first use.

    Args:
        source: the C file.
        signatures: argument types by the name of each function, which returns nothing.
        returns: argument types and type of the result of functions that return something.
        tile: name of the function that returns the number of neurons processed together, if there is one.
    """

    def __init__(
        self,
        source: Path,
        signatures: dict[str, list[Any]],
        *,
        returns: Mapping[str, tuple[list[Any], Any]] = MappingProxyType({}),
        tile: str | None = None,
    ) -> None:
        self.source = source
        self.returns = returns
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
        for name, (types, result) in self.returns.items():
            function = getattr(library, name)
            function.argtypes, function.restype = types, result
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


def _strided(v: Tensor | None) -> tuple[Tensor, int]:
    """Return the values of a state [...] contiguously and their stride: 0 where one value is shared by all neurons."""
    if v is None:
        return _REST, 0
    if v.is_contiguous():
        return v, 1
    return (v.contiguous(), 1) if any(v.stride()) else (v, 0)


def _pointers(arrays: Sequence[tuple[Tensor, int]]) -> list[int]:
    """Return address and stride of each array, which must outlive the call."""
    return [value for tensor, stride in arrays for value in (tensor.data_ptr(), stride)]


def address(x: Tensor | None) -> int | None:
    """Return the address of the first element, or None."""
    return None if x is None else x.data_ptr()
