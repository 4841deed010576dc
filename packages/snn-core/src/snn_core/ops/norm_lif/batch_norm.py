"""The batch norm of the operation: statistics of a batch, and gradients from those of the normalized drive.

x has shape [M, C, inner]: M rows of C channels of `inner` consecutive elements; tensors of that shape are contiguous.
With `native`, C code runs where it can, else PyTorch's operations compute the same.
"""

# PyTorch leaves the types of its operators open.
# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false
from __future__ import annotations

import torch
from torch import Tensor

from snn_core.ops.common.arguments import state_dtype
from snn_core.ops.norm_lif import native as kernels


def moments(x: Tensor, eps: float, *, native: bool) -> tuple[Tensor, Tensor]:
    """Return mean and biased variance [C] of x [M, C, inner], in float32 for 16 bits, too coarse for a variance."""
    if native and kernels.can_run(x):
        return kernels.moments(x)
    if x.device.type == "cuda":
        mean, invstd = torch.batch_norm_stats(x, eps)
        return mean, (invstd.square().reciprocal() - eps).clamp_(min=0)
    # Running statistics in float32, which a momentum of 0 does not change, make the result float32.
    unused = torch.zeros(x.shape[1], dtype=state_dtype(x)), torch.ones(x.shape[1], dtype=state_dtype(x))
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
    native: bool,
) -> tuple[Tensor, Tensor, Tensor]:
    """Gradient of the drive [M, C, inner], whose memory may be overwritten -> those of x, weight [C] and bias [C].

    `of_batch`: mean and variance are those of x, so gradients also flow through them. With z = (x - mean) / std and
    G the gradient of the drive, that of x is then `weight / std * (G - mean(G) - z * mean(G * z))`, else
    `weight / std * G`.
    """
    if native and kernels.can_run(x):
        return kernels.gradients(grad_drive, x, weight, mean, var, eps, of_batch)
    invstd = torch.rsqrt(var + eps)
    return torch.ops.aten.native_batch_norm_backward(
        grad_drive, x, weight, mean, var, mean, invstd, of_batch, eps, [True, True, True]
    )
