"""Batch norm's share of the operation: the statistics of a batch, and gradients from those of the normalized drive.

x is seen as [M, C, inner]: M rows of C channels, each of `inner` neighbors; all tensors of that shape are contiguous.
`compiled` takes the C code where it can run, else PyTorch's own operations do the same.
"""

# PyTorch leaves the types of its operators open.
# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false
from __future__ import annotations

import torch
from torch import Tensor

from snn_core.ops.norm_lif import cpu


def arithmetic_dtype(x: Tensor) -> torch.dtype:
    """float64 for float64, else float32: in 16 bits the third digit of a variance would be wrong."""
    return torch.float64 if x.dtype == torch.float64 else torch.float32


def moments(x: Tensor, eps: float, *, compiled: bool) -> tuple[Tensor, Tensor]:
    """Mean and biased variance [C] of x [M, C, inner]."""
    if compiled and cpu.can_run(x):
        return cpu.moments(x)
    if x.device.type == "cuda":
        mean, invstd = torch.batch_norm_stats(x, eps)
        return mean, (invstd.square().reciprocal() - eps).clamp_(min=0)
    # With running statistics in float32, which a momentum of 0 leaves alone, the result is in float32, too.
    unused = torch.zeros(x.shape[1], dtype=arithmetic_dtype(x)), torch.ones(x.shape[1], dtype=arithmetic_dtype(x))
    return torch.batch_norm_update_stats(x[:, :, 0] if x.shape[2] == 1 else x, *unused, 0.0)


def gradients(
    grad_drive: Tensor,
    x: Tensor,
    weight: Tensor,
    mean: Tensor,
    var: Tensor,
    eps: float,
    *,
    of_batch: bool,
    compiled: bool,
) -> tuple[Tensor, Tensor, Tensor]:
    """Gradient of the drive [M, C, inner], whose memory may be used -> those of x, weight [C] and bias [C].

    `of_batch`: mean and variance are those of x, so that x also acts through them. With z = (x - mean) / std and G the
    gradient of the drive, that of x is then `weight / std * (G - mean(G) - z * mean(G * z))`, else `weight / std * G`.
    """
    if compiled and cpu.can_run(x):
        return cpu.gradients(grad_drive, x, weight, mean, var, eps, of_batch)
    invstd = torch.rsqrt(var + eps)
    return torch.ops.aten.native_batch_norm_backward(
        grad_drive, x, weight, mean, var, mean, invstd, of_batch, eps, [True, True, True]
    )
