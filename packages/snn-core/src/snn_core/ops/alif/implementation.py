"""Which implementation a call of the adaptive neuron takes: `torch` everywhere, `native` (C) on the CPU."""

from __future__ import annotations

from types import ModuleType
from typing import get_args

import torch
from torch import Tensor

from snn_core.ops.alif import cpu, few_pass
from snn_core.ops.common.implementation import Implementation
from snn_core.surrogate import SurrogateGradient


def implementation_of(implementation: str, x: Tensor, surrogate: str | SurrogateGradient) -> ModuleType:
    """The module whose `forward` and `backward` a call on currents like `x` takes.

    Raises:
        ValueError: an unknown implementation, or one that was asked for by name and cannot run here; says what to do.
    """
    if implementation not in get_args(Implementation):
        raise ValueError(f"implementation is auto, torch, native or triton, but it is {implementation!r}")
    if implementation == "torch":
        return few_pass
    if implementation == "triton":
        raise ValueError("there is no Triton kernel of the adaptive neuron; take implementation='auto'")
    obstacle = _obstacle(x, surrogate)
    if obstacle is None:
        return cpu
    if implementation == "native":
        raise ValueError(f"implementation='native' cannot run here: {obstacle}; or take implementation='auto'")
    return few_pass


def _obstacle(x: Tensor, surrogate: str | SurrogateGradient) -> str | None:
    """Why the native one cannot run, with the remedy, or None."""
    if callable(surrogate):
        return "a surrogate of your own runs in torch only; name one of snn_core.SURROGATES"
    if x.dtype not in (torch.float32, torch.bfloat16, torch.float16):
        return f"it computes in float32, and the input is {str(x.dtype).removeprefix('torch.')}; give it float32 input"
    if x.device.type != "cpu":
        return f"it runs on the CPU, and the input is on {x.device}; move the input"
    return cpu.obstacle()
