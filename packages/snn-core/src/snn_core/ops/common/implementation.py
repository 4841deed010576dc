"""Which implementation a call of the neuron takes, and why.

All take the same flat arrays (see `few_pass.py`) and give the same result: `torch` runs everywhere, `native` is
compiled C on the CPU, `triton` compiled kernels on a CUDA device.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from importlib.util import find_spec
from types import ModuleType
from typing import Literal, get_args

import torch
from torch import Tensor

from snn_core.ops.lif import cpu, few_pass
from snn_core.surrogate import SurrogateGradient

Implementation = Literal["auto", "torch", "native", "triton"]
"""`auto` takes the fastest one that can run."""


@dataclass(frozen=True)
class Choice:
    """The implementation that a call takes, and the reason."""

    implementation: Literal["torch", "native", "triton"]
    reason: str


def which_implementation(
    x: Tensor, *, surrogate: str | SurrogateGradient = "sigmoid", implementation: Implementation = "auto"
) -> Choice:
    """Say which implementation runs IF, LIF and PLIF on currents like `x`, and why.

    The first question about the native one may compile it, which takes a second or two, once a machine.

    Raises:
        ValueError: an unknown implementation, or one that was asked for by name and cannot run here; says what to do.
    """
    return _choice(x.device.type, x.dtype, callable(surrogate), implementation)


@lru_cache(maxsize=256)
def _choice(device: str, dtype: torch.dtype, own_surrogate: bool, implementation: Implementation) -> Choice:
    if implementation not in get_args(Implementation):
        raise ValueError(f"implementation is auto, torch, native or triton, but it is {implementation!r}")
    if implementation == "torch":
        return Choice("torch", "asked for")
    candidate = implementation if implementation != "auto" else "triton" if device == "cuda" else "native"
    obstacle = _obstacle(candidate, device, dtype, own_surrogate)
    if obstacle is None:
        return Choice(candidate, "asked for" if implementation != "auto" else f"the fastest on {device}")
    if implementation != "auto":
        raise ValueError(
            f"implementation={implementation!r} cannot run here: {obstacle}; or take implementation='auto'"
        )
    return Choice("torch", f"{candidate} cannot run here: {obstacle}")


def implementation_of(implementation: str, x: Tensor, surrogate: str | SurrogateGradient) -> ModuleType:
    """The module whose `forward` and `backward` a call takes."""
    chosen = which_implementation(x, surrogate=surrogate, implementation=implementation).implementation  # pyright: ignore[reportArgumentType]
    if chosen == "torch":
        return few_pass
    if chosen == "native":
        return cpu
    from snn_core.ops.lif import triton

    return triton


def _obstacle(
    implementation: Literal["native", "triton"], device: str, dtype: torch.dtype, own_surrogate: bool
) -> str | None:
    """Why this implementation cannot run, with the remedy, or None."""
    if own_surrogate:
        return "a surrogate of your own runs in torch only; name one of snn_core.SURROGATES"
    if dtype not in (torch.float32, torch.bfloat16, torch.float16):
        return f"it computes in float32, and the input is {str(dtype).removeprefix('torch.')}; give it float32 input"
    if implementation == "native":
        if device != "cpu":
            return f"it runs on the CPU, and the input is on {device}; move the input"
        return cpu.obstacle()
    if find_spec("triton") is None:
        return "Triton is not installed; pip install triton"
    if device != "cuda":
        return f"it runs on CUDA devices, and the input is on {device}; move the input"
    from snn_core.ops.lif import triton

    return triton.obstacle()
