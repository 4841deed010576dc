"""Choose the implementation of an operation: `torch` everywhere, `native` (C) on the CPU, `triton` on CUDA devices."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from importlib import import_module
from importlib.util import find_spec
from typing import Any, Literal, get_args

import torch
from torch import Tensor

from snn_core.ops.common.call import Implementation
from snn_core.surrogate import SurrogateGradient

ImplementationName = Literal["torch", "native", "triton"]


@dataclass(frozen=True, eq=False)
class Kernels:
    """The implementations of an operation: modules with `forward` and `backward` of the same arguments.

    `native` and `triton` also have `unavailable_reason()`: why they cannot run and what to do, or None.
    """

    torch: Any
    native: Any = None
    triton: str | None = None
    """Name of the module: importing it takes Triton, and time."""


@dataclass(frozen=True)
class Choice:
    """The implementation of a call and the reason for it."""

    implementation: ImplementationName
    reason: str


def choose(kernels: Kernels, x: Tensor, surrogate: str | SurrogateGradient, implementation: Implementation) -> Choice:
    """Return the implementation that runs on currents like `x`, and why.

    Raises:
        ValueError: the implementation is unknown, or was requested by name and cannot run here; says what to do.
    """
    return _choose(kernels, x.device.type, x.dtype, callable(surrogate), implementation)


def load_kernels(
    kernels: Kernels, x: Tensor, surrogate: str | SurrogateGradient, implementation: Implementation
) -> Any:
    """Return the module whose `forward` and `backward` run on currents like `x`."""
    return _load_chosen(kernels, x.device.type, x.dtype, callable(surrogate), implementation)


@lru_cache(maxsize=256)
def _load_chosen(
    kernels: Kernels, device: str, dtype: torch.dtype, custom_surrogate: bool, implementation: Implementation
) -> Any:
    return _load(kernels, _choose(kernels, device, dtype, custom_surrogate, implementation).implementation)


def _load(kernels: Kernels, implementation: ImplementationName) -> Any:
    if implementation == "torch":
        return kernels.torch
    if implementation == "native":
        return kernels.native
    assert kernels.triton is not None
    return import_module(kernels.triton)


@lru_cache(maxsize=256)
def _choose(
    kernels: Kernels, device: str, dtype: torch.dtype, custom_surrogate: bool, implementation: Implementation
) -> Choice:
    if implementation not in get_args(Implementation):
        raise ValueError(f"implementation must be auto, torch, native or triton, but it is {implementation!r}")
    if implementation == "torch":
        return Choice("torch", "requested")
    requested = implementation != "auto"
    candidate = implementation
    if candidate == "auto":
        candidate = "triton" if device == "cuda" and kernels.triton else "native"
    reason = _unavailable_reason(kernels, candidate, device, dtype, custom_surrogate)
    if reason is None:
        return Choice(candidate, "requested" if requested else f"the fastest on {device}")
    if requested:
        raise ValueError(f"implementation={implementation!r} cannot run here: {reason}, or use implementation='auto'")
    return Choice("torch", f"{candidate} cannot run here: {reason}")


def _unavailable_reason(
    kernels: Kernels,
    implementation: Literal["native", "triton"],
    device: str,
    dtype: torch.dtype,
    custom_surrogate: bool,
) -> str | None:
    """Return why this implementation cannot run and what to do, or None."""
    if not (kernels.triton if implementation == "triton" else kernels.native):
        return f"this neuron has no {implementation} kernels; use implementation='torch'"
    if custom_surrogate:
        return "custom surrogates run only in torch; use one of snn_core.SURROGATES"
    if dtype not in (torch.float32, torch.bfloat16, torch.float16):
        return f"it computes in float32, and the input is {str(dtype).removeprefix('torch.')}; use float32 input"
    if implementation == "native":
        if device != "cpu":
            return f"it runs on the CPU, and the input is on {device}; move the input"
        return kernels.native.unavailable_reason()
    if find_spec("triton") is None:
        return "Triton is not installed; pip install triton"
    if device != "cuda":
        return f"it runs on CUDA devices, and the input is on {device}; move the input"
    return _load(kernels, "triton").unavailable_reason()
