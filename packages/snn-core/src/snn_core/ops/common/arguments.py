"""Checks of the arguments of a neuron, shared by all operations."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import get_args

import torch
from torch import Tensor
from torch.autograd import forward_ad

from snn_core.argument_checks import check_number
from snn_core.ops.common.call import NeuronCall, Save
from snn_core.surrogate import surrogate_gradient

_SAVES = get_args(Save)


def check_differentiation(x: Tensor) -> None:
    """Reject transforms that would fail obscurely or give a derivative of 0: neurons support only reverse mode.

    Raises:
        NotImplementedError: x is inside a transform of `torch.func`, or has a forward-mode tangent.
    """
    if torch._C._are_functorch_transforms_active():  # pyright: ignore[reportAttributeAccessIssue, reportPrivateUsage, reportUnknownMemberType]
        raise NotImplementedError(
            "spiking neurons do not support torch.func transforms (grad, vmap, jvp, jacrev, ...); use loss.backward() "
            "or torch.autograd.grad, and a loop over samples instead of vmap"
        )
    if forward_ad._current_level >= 0 and forward_ad.unpack_dual(x).tangent is not None:  # pyright: ignore[reportPrivateUsage, reportUnknownMemberType]
        raise NotImplementedError(
            "spiking neurons have no forward-mode derivative; use loss.backward() or torch.autograd.grad"
        )


def check_time_constant(name: str, value: float | Tensor) -> None:
    """Raise `ValueError` for a time constant below 1 or not finite; tensors are checked when their values are read."""
    if not isinstance(value, Tensor) and not 1 <= value < math.inf:
        raise ValueError(f"{name} must be a time constant of at least 1 time step, but it is {value}")


def check_threshold(v_threshold: float | Tensor, v_reset: float | None, slope: float) -> None:
    """Check threshold, reset and slope; learned thresholds are checked when their values are read.

    Raises:
        ValueError: a value is NaN or infinite, the slope is not above 0, v_reset is not below the threshold, or the
            threshold of a soft reset is not above 0.
    """
    check_number("slope", slope, above=0)
    if v_reset is not None and not math.isfinite(v_reset):
        raise ValueError(f"v_reset must be a finite number, or None for a soft reset, but it is {v_reset}")
    if isinstance(v_threshold, Tensor):
        return
    check_number("v_threshold", v_threshold)
    if v_reset is None and v_threshold <= 0:
        raise ValueError(f"a soft reset needs a threshold above 0, but v_threshold is {v_threshold}")
    if v_reset is not None and v_reset >= v_threshold:
        raise ValueError(f"v_reset ({v_reset}) must be below v_threshold ({v_threshold}), or it spikes at every step")


def check_call(call: NeuronCall, *, learned: bool) -> None:
    """Reject combinations of options that cannot work.

    Raises:
        ValueError: the surrogate or `save` is unknown, or `save` lacks what the surrogate, the reset or a learned
            constant needs.
    """
    save, custom = call.save, callable(call.surrogate)
    if save not in _SAVES:
        raise ValueError(f"save must be d32, d16, x or u8, but it is {save!r}")
    if save == "u8" and not call.detach_reset:
        raise ValueError("save u8 does not store potentials, which detach_reset=False needs; use another save")
    if save == "u8" and custom:
        raise ValueError("save u8 needs a named surrogate; use another save")
    if save in ("d16", "u8") and learned:
        raise ValueError(f"save {save} is too coarse for a learned tau or threshold; use d32 or x")
    if not custom:
        surrogate_gradient(call.surrogate)


def check_finite(names: Sequence[str], constants: Sequence[float]) -> None:
    """Reject constants that are not finite: a neuron whose threshold is NaN would silently never spike.

    Raises:
        ValueError: names the constant.
    """
    for name, value in zip(names, constants, strict=True):
        if not math.isfinite(value):
            raise ValueError(
                f"a neuron's {name} is {value}; where it is learned, its parameter is no longer finite: train with a "
                "lower learning rate"
            )


def check_lengths(lengths: Tensor, x: Tensor) -> Tensor:
    """Return lengths [B] as 32-bit integers on the device of x [T, B, ...].

    Raises:
        ValueError: lengths are not integers [B] from 0 to T.
    """
    if x.dim() < 2 or lengths.shape != x.shape[1:2] or lengths.is_floating_point():
        raise ValueError(
            f"lengths must be integers [B] for x [T, B, ...], but they are {lengths.dtype} "
            f"{tuple(lengths.shape)} and x is {tuple(x.shape)}"
        )
    # Reading values would synchronize with a GPU, or break the graph of a compiler.
    if lengths.device.type == "cpu" and not torch.compiler.is_compiling():
        wrong = (lengths < 0) | (lengths > len(x))
        if wrong.any():
            raise ValueError(f"lengths must be between 0 and T = {len(x)}, but one is {int(lengths[wrong][0])}")
    return lengths.to(x.device, torch.int32)


def state_dtype(x: Tensor) -> torch.dtype:
    """Return float64 for float64, else float32: in 16 bits, potentials would change 1 to 2 % of all spikes."""
    return torch.float64 if x.dtype == torch.float64 else torch.float32


def stack_constants(*values: float | Tensor) -> Tensor:
    """Return constants as one tensor in float64 on the CPU, with their gradients."""
    if not any(isinstance(value, Tensor) for value in values):
        return torch.tensor(values, dtype=torch.float64)
    return torch.stack([torch.as_tensor(value, dtype=torch.float64).cpu() for value in values])
