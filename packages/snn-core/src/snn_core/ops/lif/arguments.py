"""Checks of what a call of the neuron is given, for all operations that contain one."""

from __future__ import annotations

import torch
from torch import Tensor

from snn_core.surrogate import SurrogateGradient


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
            f"lengths are one whole number a sample, [B] for x [T, B, ...], but they are {lengths.dtype} "
            f"{tuple(lengths.shape)} and x is {tuple(x.shape)}"
        )
    # On a GPU, and while a compiler looks on, asking for values would wait or break the graph.
    if lengths.device.type == "cpu" and not torch.compiler.is_compiling():
        wrong = (lengths < 0) | (lengths > len(x))
        if wrong.any():
            raise ValueError(f"lengths lie between 0 and T = {len(x)}, but one is {int(lengths[wrong][0])}")
    return lengths.to(x.device, torch.int32)


def check_save(save: str, surrogate: str | SurrogateGradient, detach_reset: bool, learnt: bool) -> None:
    """Refuse what cannot stand together.

    Raises:
        ValueError: an unknown save, or one that lacks what the surrogate, the reset or a learnt constant needs.
    """
    if save not in ("d32", "d16", "x", "u8"):
        raise ValueError(f"save is d32, d16, x or u8, but it is {save!r}")
    if save == "u8" and not detach_reset:
        raise ValueError("save u8 keeps no potential, which detach_reset=False needs; take another save")
    if save == "u8" and callable(surrogate):
        raise ValueError("save u8 needs a surrogate by name; take another save")
    if save in ("d16", "u8") and learnt:
        raise ValueError(f"save {save} is too coarse for a learnt tau or threshold; take d32 or x")
