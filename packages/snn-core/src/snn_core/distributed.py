"""Differentiable collectives and synchronized batch norm, so that data-parallel training equals training on one rank.

Each rank computes the loss of the whole gathered batch and differentiates it. The gradient of the local part is then
too large by a factor of the world size; data-parallel training averages gradients over ranks and cancels the factor.
"""

# Some signatures of torch are untyped.
# pyright: reportUnknownMemberType=false
from __future__ import annotations

import sys
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.autograd.function import Function
from torch.nn.modules.batchnorm import _BatchNorm  # pyright: ignore[reportPrivateUsage]

from snn_core.ops.norm_lif import update_running_statistics

M = TypeVar("M", bound=nn.Module)


class _Sum(Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, group: dist.ProcessGroup | None) -> Tensor:
        ctx.group = group
        total = x.clone(memory_format=torch.contiguous_format)
        dist.all_reduce(total, group=group)
        return total

    @staticmethod
    def backward(ctx: Any, *grad_outputs: Tensor) -> tuple[Tensor, None]:
        grad = grad_outputs[0].clone(memory_format=torch.contiguous_format)
        dist.all_reduce(grad, group=ctx.group)
        return grad, None


class _Gather(Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, group: dist.ProcessGroup | None) -> Tensor:
        ctx.group, ctx.rows = group, len(x)
        parts = [torch.empty_like(x) for _ in range(dist.get_world_size(group))]
        dist.all_gather(parts, x.contiguous(), group=group)
        return torch.cat(parts)

    @staticmethod
    def backward(ctx: Any, *grad_outputs: Tensor) -> tuple[Tensor, None]:
        grad = grad_outputs[0].clone(memory_format=torch.contiguous_format)
        dist.all_reduce(grad, group=ctx.group)
        rank = dist.get_rank(ctx.group)
        return grad[rank * ctx.rows : (rank + 1) * ctx.rows], None


def sum_over_processes(x: Tensor, group: dist.ProcessGroup | None = None) -> Tensor:
    """Return the sum of `x` [...] over all ranks; differentiable. The shape must be the same on every rank."""
    return _Sum.apply(x, group)  # pyright: ignore[reportReturnType]


def gather_over_processes(x: Tensor, group: dist.ProcessGroup | None = None) -> Tensor:
    """Concatenate `x` [B, ...] of all ranks in rank order: [world size * B, ...]; differentiable where x is.

    The shape must be the same on every rank.
    """
    return _Gather.apply(x, group)  # pyright: ignore[reportReturnType]


class SynchronizedBatchNorm(_BatchNorm):
    """Batch norm with training statistics over the batches of all ranks.

    Unlike `torch.nn.SyncBatchNorm` it also runs on CPUs. Ranks may have different numbers of rows, including none.

    Shape: [rows, C] or [rows, C, H, W] -> the same
    """

    group: dist.ProcessGroup | None = None

    def _check_input_dim(self, input: Tensor) -> None:
        assert input.dim() in (2, 4)

    def forward(self, input: Tensor, *, repeats: int = 1) -> Tensor:
        """Normalize an input that stands `repeats` times in the batch, which changes only the unbiased variance."""
        if not self.training:
            return super().forward(input)
        axes = (0,) if input.dim() == 2 else (0, 2, 3)
        shape = (1, -1) if input.dim() == 2 else (1, -1, 1, 1)
        wide = input.float() if input.dtype in (torch.float16, torch.bfloat16) else input
        rows = wide.new_full((1,), wide.numel() // self.num_features)
        sums = sum_over_processes(torch.cat([wide.sum(axes), rows]), self.group)
        count = int(sums[-1].item())
        mean = sums[:-1] / count
        # Two passes, mean then centered squares: the difference of two large numbers would lose digits.
        centered = wide - mean.view(shape)
        var = sum_over_processes(centered.square().sum(axes), self.group) / count
        update_running_statistics(self, mean.detach(), var.detach(), count * repeats)  # pyright: ignore[reportArgumentType]
        scaled = centered * torch.rsqrt(var + self.eps).view(shape)
        if self.affine:
            scaled = scaled * self.weight.view(shape) + self.bias.view(shape)
        return scaled.to(input.dtype)


def synchronize_batch_norm(model: M, group: dist.ProcessGroup | None = None) -> M:
    """Replace every batch norm of a model by a synchronized one, in place; state dicts do not change.

    Args:
        model: `nn.BatchNorm1d` and `nn.BatchNorm2d` are replaced and keep their parameters and buffers.
        group: the process group; None means all ranks.

    Returns:
        the model.
    """
    for parent in list(model.modules()):
        for name, child in parent.named_children():
            if type(child) not in (nn.BatchNorm1d, nn.BatchNorm2d):
                continue
            assert isinstance(child, _BatchNorm)
            new = SynchronizedBatchNorm(
                child.num_features, child.eps, child.momentum, child.affine, child.track_running_stats
            )
            new.__dict__.update(child.__dict__)  # the same parameters, buffers, mode and hooks
            new.group = group
            setattr(parent, name, new)
    return model


def is_sharded(x: Tensor) -> bool:
    """Return whether x is distributed over ranks (a DTensor), as FSDP shards parameters."""
    # Importing the module takes as long as importing PyTorch; where nobody has, there is no DTensor.
    module = sys.modules.get("torch.distributed.tensor")
    return module is not None and isinstance(x, module.DTensor)
