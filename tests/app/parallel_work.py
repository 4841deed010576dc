"""Functions that the processes of `test_parallel` run; in a separate module because they are imported by name."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor, nn
from torch.distributed.checkpoint.state_dict import StateDictOptions, get_model_state_dict
from torch.distributed.tensor import DTensor

from present import present
from scmrl.engine.parallel import Processes, clip_gradient, gather_batch, unwrap, wrap_model
from snn_core import SynchronizedBatchNorm, gather_over_processes, sum_over_processes, synchronize_batch_norm
from snn_fusion import scmrl


def steps(
    folder: str, sharing: Literal["ddp", "fsdp"], rank: int, world: int, *, synchronize: bool = True, count: int = 5
) -> None:
    """A few training steps on the same global batches, in float64 so that rounding changes no spike."""
    torch.manual_seed(0)
    shapes = {"audio": (1, 16, 16), "visual": (2, 16, 16)}
    spec = scmrl(shapes, num_classes=3, channels=16, num_heads=4, depth="shallow")
    group = torch.distributed.new_group() if world > 1 else None
    processes = Processes(rank, world, torch.device("cpu"), group)
    net = wrap_model(spec.build().double(), processes, sharing, synchronize=synchronize)
    optimizer = torch.optim.AdamW(net.parameters(), lr=1e-3)
    losses: list[float] = []
    generator = torch.Generator().manual_seed(1)
    for _ in range(count):
        x = {name: torch.rand(12, *shape, generator=generator, dtype=torch.float64) for name, shape in shapes.items()}
        labels = torch.randint(3, (12,), generator=generator)
        mine = slice(rank, None, world)
        output, every = gather_batch(net({name: value[mine] for name, value in x.items()}), labels[mine], processes)
        loss = unwrap(net).total_loss(output, every)
        optimizer.zero_grad()
        loss.total.backward()
        optimizer.step()
        losses.append(float(loss.total.detach()))
    whole = get_model_state_dict(net, options=StateDictOptions(full_state_dict=True))
    if rank == 0:
        torch.save({"weights": whole, "losses": losses}, f"{folder}/{sharing}-{world}.pt")


def joined_steps(rank: int, folder: str, sharing: Literal["ddp", "fsdp"], synchronize: bool) -> None:
    steps(folder, sharing, rank, 2, synchronize=synchronize)


def clipped(rank: int, folder: str, sharing: Literal["ddp", "fsdp"]) -> None:
    """The gradient norm on each rank: for finite inputs, and with a NaN gradient on rank 1."""
    norms: list[Tensor] = []
    for broken in (False, True):
        for limit in (0.0, 0.5):
            torch.manual_seed(0)
            model = scmrl({"audio": (1, 16, 16), "visual": (2, 16, 16)}, num_classes=3, channels=16, num_heads=4,
                          depth="shallow").build().double()  # fmt: skip
            processes = Processes(rank, 2, torch.device("cpu"), torch.distributed.new_group())
            net = wrap_model(model, processes, sharing, synchronize=True)
            generator = torch.Generator().manual_seed(rank)
            x = {"audio": (6, 1, 16, 16), "visual": (6, 2, 16, 16)}
            x = {name: torch.rand(shape, generator=generator, dtype=torch.float64) for name, shape in x.items()}
            output, labels = gather_batch(net(x), torch.arange(6) % 3, processes)
            loss = unwrap(net).total_loss(output, labels).total
            if broken and rank == 1:  # the slope of a root at 0, where the loss itself is finite
                loss = loss + (output.logits - output.logits.detach()).square().sum().sqrt()
            loss.backward()
            norm = clip_gradient(net, limit)
            grads = [p.grad.full_tensor() if isinstance(p.grad, DTensor) else p.grad for p in net.parameters()]
            left = torch.stack([grad.norm() for grad in grads if grad is not None]).norm()
            norms.append(torch.stack([norm, left, output.logits.isfinite().all().to(norm)]))
    torch.save(torch.stack(norms), f"{folder}/{rank}.pt")


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.conv, self.norm = nn.Conv2d(3, 4, 3, bias=False), nn.BatchNorm2d(4)
        self.linear, self.last = nn.Linear(4, 5), nn.BatchNorm1d(5, momentum=0.3)

    def forward(self, x: Tensor) -> Tensor:
        return self.last(self.linear(self.norm(self.conv(x)).tanh().mean((2, 3))))


def inputs() -> Tensor:
    return torch.randn(10, 3, 6, 7, generator=torch.Generator().manual_seed(1)) * 3 + 100


def normalize(rank: int, folder: str) -> None:
    net = synchronize_batch_norm(Net().double())
    assert isinstance(net.norm, SynchronizedBatchNorm)
    x = inputs().double()[:7] if rank == 0 else inputs().double()[7:]  # shares of different size
    x.requires_grad_()
    y = net(x)
    weight = (
        torch.arange(50.0, dtype=torch.float64).view(10, 5)[:7] if rank == 0 else torch.arange(50.0).view(10, 5)[7:]
    )
    loss = sum_over_processes((y * y.tanh() * weight).sum())
    loss.backward()
    # As data-parallel training would: every process has twice its gradient, and the mean of both is taken.
    grads = {name: sum_over_processes(p.grad) / 2 for name, p in net.named_parameters() if p.grad is not None}
    torch.save(
        {"y": y.detach(), "x": present(x.grad) / 2, "state": net.state_dict(), "grads": grads}, f"{folder}/{rank}.pt"
    )


def gather(rank: int, folder: str) -> None:
    x = (torch.arange(6.0).view(3, 2) + 10 * rank).requires_grad_()
    every = gather_over_processes(x)
    (every * torch.arange(12.0).view(6, 2)).sum().backward()
    torch.save({"every": every.detach(), "grad": x.grad}, f"{folder}/{rank}.pt")
