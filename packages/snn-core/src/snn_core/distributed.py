"""Training in several processes as if in one: what all of them hold together, with gradients.

Each process computes the loss of the whole batch on what it gathers, and differentiates it. The gradient that reaches a
process's own part is then as many times too large as there are processes, and data-parallel training, which averages
gradients over processes, puts that right.
"""

# torch leaves some of its own signatures open.
# pyright: reportUnknownMemberType=false
from __future__ import annotations

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
    """The sum of every process's `x` [...], of one shape everywhere; differentiable."""
    return _Sum.apply(x, group)  # pyright: ignore[reportReturnType]


def gather_over_processes(x: Tensor, group: dist.ProcessGroup | None = None) -> Tensor:
    """Every process's `x` [B, ...], of one shape everywhere, one after the other by rank [processes * B, ...].

    Differentiable where x is.
    """
    return _Gather.apply(x, group)  # pyright: ignore[reportReturnType]


class SynchronizedBatchNorm(_BatchNorm):
    """Batch norm whose statistics in training are those of all processes' batches together.

    Unlike `torch.nn.SyncBatchNorm` it runs on CPUs, too. Processes may hold different numbers of rows, none included.

    Shape: [rows, C] or [rows, C, H, W] -> the same
    """

    group: dist.ProcessGroup | None = None

    def _check_input_dim(self, input: Tensor) -> None:
        assert input.dim() in (2, 4)

    def forward(self, input: Tensor, *, repeats: int = 1) -> Tensor:
        """Normalize; `repeats` is how many times the input stands in the batch, which only the variance tells."""
        if not self.training:
            return super().forward(input)
        axes = (0,) if input.dim() == 2 else (0, 2, 3)
        shape = (1, -1) if input.dim() == 2 else (1, -1, 1, 1)
        wide = input.float() if input.dtype in (torch.float16, torch.bfloat16) else input
        rows = wide.new_full((1,), wide.numel() // self.num_features)
        sums = sum_over_processes(torch.cat([wide.sum(axes), rows]), self.group)
        count = int(sums[-1].item())
        mean = sums[:-1] / count
        # The mean first and then the squares of what is left: the difference of two large numbers would lose digits.
        centered = wide - mean.view(shape)
        var = sum_over_processes(centered.square().sum(axes), self.group) / count
        update_running_statistics(self, mean.detach(), var.detach(), count * repeats)  # pyright: ignore[reportArgumentType]
        scaled = centered * torch.rsqrt(var + self.eps).view(shape)
        if self.affine:
            scaled = scaled * self.weight.view(shape) + self.bias.view(shape)
        return scaled.to(input.dtype)


def synchronize_batch_norm(model: M, group: dist.ProcessGroup | None = None) -> M:
    """Let every batch norm of a model take its statistics over all processes, in place; state dicts stay as they are.

    Args:
        model: its `nn.BatchNorm1d` and `nn.BatchNorm2d` are replaced; parameters and buffers are taken over.
        group: the processes; None means all.

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
