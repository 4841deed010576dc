"""Checks of what a call of the neuron is given, for all operations that contain one."""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.autograd import forward_ad

from snn_core.argument_checks import check_number
from snn_core.surrogate import SurrogateGradient


def check_differentiation(x: Tensor) -> None:
    """Refuse what would end in an obscure error or in a derivative of 0: a neuron has a backward alone.

    Raises:
        NotImplementedError: x is inside a transform of `torch.func`, or carries a tangent of forward-mode derivatives.
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


def check_constants(v_threshold: float | Tensor, v_reset: float | None, slope: float) -> None:
    """Refuse constants with which no neuron can work; those that are learned are checked where their values are read.

    Raises:
        ValueError: NaN or infinity, a slope not above 0, a v_reset not below the threshold, or a soft reset from a
            threshold that is not above 0.
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
        raise ValueError(
            f"v_reset ({v_reset}) must be below v_threshold ({v_threshold}), or the neuron spikes at every step"
        )


def stack_constants(*values: float | Tensor) -> Tensor:
    """Constants of a call as one tensor in float64 on the CPU, with their gradients."""
    if not any(isinstance(value, Tensor) for value in values):
        return torch.tensor(values, dtype=torch.float64)
    return torch.stack([torch.as_tensor(value, dtype=torch.float64).cpu() for value in values])


def check_lengths(lengths: Tensor, x: Tensor) -> Tensor:
    """Lengths [B] as 32-bit integers on the device of x [T, B, ...].

    Raises:
        ValueError: not one whole number from 0 to T for each sample.
    """
    if x.dim() < 2 or lengths.shape != x.shape[1:2] or lengths.is_floating_point():
        raise ValueError(
            f"lengths must be integers [B] for x [T, B, ...], but they are {lengths.dtype} "
            f"{tuple(lengths.shape)} and x is {tuple(x.shape)}"
        )
    # On a GPU, and while a compiler looks on, asking for values would wait or break the graph.
    if lengths.device.type == "cpu" and not torch.compiler.is_compiling():
        wrong = (lengths < 0) | (lengths > len(x))
        if wrong.any():
            raise ValueError(f"lengths must be between 0 and T = {len(x)}, but one is {int(lengths[wrong][0])}")
    return lengths.to(x.device, torch.int32)


def check_save(save: str, surrogate: str | SurrogateGradient, detach_reset: bool, learned: bool) -> None:
    """Refuse what cannot stand together.

    Raises:
        ValueError: an unknown save, or one that lacks what the surrogate, the reset or a learned constant needs.
    """
    if save not in ("d32", "d16", "x", "u8"):
        raise ValueError(f"save must be d32, d16, x or u8, but it is {save!r}")
    if save == "u8" and not detach_reset:
        raise ValueError("save u8 does not store potentials, which detach_reset=False needs; use another save")
    if save == "u8" and callable(surrogate):
        raise ValueError("save u8 needs a named surrogate; use another save")
    if save in ("d16", "u8") and learned:
        raise ValueError(f"save {save} is too coarse for a learned tau or threshold; use d32 or x")
