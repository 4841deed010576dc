"""One process, or several that `torchrun` started: who am I, on which device, and how a model is shared among us."""

# torch leaves some of its own signatures open.
# pyright: reportUnknownMemberType=false
from __future__ import annotations

import math
import os
import warnings
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace
from typing import Any, Literal, TypeVar, cast

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.checkpoint.state_dict import StateDictOptions, get_model_state_dict
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import FSDPModule, fully_shard
from torch.distributed.tensor import DTensor
from torch.nn.parallel import DistributedDataParallel

from snn_core import gather_over_processes, synchronize_batch_norm
from snn_fusion import FusionModel, FusionOutput, ModelSpec

T = TypeVar("T")
Sharing = Literal["ddp", "fsdp"]


@dataclass(frozen=True)
class Processes:
    """The processes of this run."""

    rank: int
    """This one's number."""
    world_size: int
    """How many there are."""
    device: torch.device
    group: Any = None
    """Channel for what is exchanged within the model; None if there is one process."""

    @property
    def is_rank0(self) -> bool:
        """Whether this one writes files and speaks."""
        return self.rank == 0

    def on_rank0(self, make: Callable[[], T]) -> T:
        """What `make` gives in the first process, in all of them; an error there is raised in all, too."""
        if self.world_size == 1:
            return make()
        said: list[Any] = [None, None]
        if self.is_rank0:
            try:
                said[0] = make()
            except Exception as error:
                said[1] = error
        dist.broadcast_object_list(said)
        if said[1] is not None:
            raise said[1]
        return said[0]

    def on_all_ranks(self, work: Callable[[], T]) -> T:
        """What `work` gives in this process; an error of any process is raised in all, so that none waits for it."""
        if self.world_size == 1:
            return work()
        result, mine = None, None
        try:
            result = work()
        except Exception as error:
            mine = error
        raised = next((error for error in self.all_gather(mine) if error is not None), None)
        if raised is not None:
            raise raised from mine
        return cast(T, result)

    def any(self, *flags: bool) -> list[bool]:
        """For each flag, whether it is set in any process."""
        if self.world_size == 1:
            return list(flags)
        told = torch.tensor([float(flag) for flag in flags], device=self.device)
        dist.all_reduce(told, dist.ReduceOp.MAX)
        return [bool(flag) for flag in cast("list[float]", told.tolist())]

    def all_gather(self, mine: T) -> list[T]:
        """What every process has, by rank."""
        if self.world_size == 1:
            return [mine]
        every: list[Any] = [None] * self.world_size
        dist.all_gather_object(every, mine)
        return every

    def barrier(self) -> None:
        """Go on when all have come here."""
        if self.world_size > 1:
            dist.barrier()


def join_processes(device: str) -> Processes:
    """Join the processes that `torchrun` started, if it did.

    Raises:
        ValueError: there is no such device here.
        ConnectionError: they do not answer.
    """
    world = int(os.environ.get("WORLD_SIZE", "1"))
    local = int(os.environ.get("LOCAL_RANK", "0"))
    if device in ("auto", "cuda") and world > 1 and torch.cuda.is_available():
        device = f"cuda:{local}"
    where = pick_device(device)
    if world == 1:
        return Processes(0, 1, where)
    if where.type == "cuda":
        torch.cuda.set_device(where)
    if not dist.is_initialized():
        try:
            dist.init_process_group("nccl" if where.type == "cuda" else "gloo")
        except dist.DistError as error:
            address = f"{os.environ.get('MASTER_ADDR', '')}:{os.environ.get('MASTER_PORT', '')}"
            raise ConnectionError(
                f"the {world} processes of the run could not join each other at {address} "
                f"({str(error).strip().splitlines()[0]}); start all of them, with an address that each can reach"
            ) from error
    return Processes(dist.get_rank(), world, where, dist.new_group())


def leave_processes(processes: Processes) -> None:
    """Leave the others, once all have come here."""
    if processes.world_size > 1:
        dist.destroy_process_group()


def pick_device(name: str) -> torch.device:
    """The device of that name; `auto` is a GPU if there is one.

    Raises:
        ValueError: no such device here.
    """
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError) as error:
        reason = str(error).splitlines()[0]
        raise ValueError(f"--train.device {name} cannot be used here ({reason}); auto always can") from error
    return device


def wrap_model(model: FusionModel, processes: Processes, sharing: Sharing, *, synchronize: bool) -> nn.Module:
    """The model as all processes train it together; with one process, the model itself.

    Args:
        model: on this process's device, the same in all.
        processes: who trains it.
        sharing: whether each holds the whole model (ddp) or a part of its parameters and optimizer state (fsdp).
        synchronize: whether batch norm takes its statistics over all processes.
    """
    if processes.world_size == 1:
        return model
    if synchronize:
        synchronize_batch_norm(model, processes.group)
    if sharing == "ddp":
        ids = [processes.device] if processes.device.type == "cuda" else None
        # A batch may lack a modality, and a plug-in may have a parameter that it does not use. Otherwise DDP would stop
        # there; and it would rearrange its buckets after the first step, so that a resume would sum in another order.
        warnings.filterwarnings("ignore", message="find_unused_parameters=True was specified", category=UserWarning)
        return DistributedDataParallel(model, device_ids=ids, find_unused_parameters=True)
    mesh = init_device_mesh(processes.device.type, (processes.world_size,))
    fully_shard(model, mesh=mesh)
    return model


def unwrap(net: nn.Module, spec: ModelSpec | None = None, processes: Processes | None = None) -> FusionModel:
    """The model inside; given its spec, one that a process can run by itself, once all have asked for it."""
    if isinstance(net, DistributedDataParallel):
        net = cast(nn.Module, net.module)
    assert isinstance(net, FusionModel)
    if spec is None or processes is None or not isinstance(net, FSDPModule):
        return net
    whole = get_model_state_dict(net, options=StateDictOptions(full_state_dict=True))
    plain = spec.build().to(processes.device)
    plain.load_state_dict(whole)
    return plain


def no_sync(net: nn.Module, *, needed: bool) -> AbstractContextManager[Any]:
    """Within the block gradients are not exchanged, unless needed: those of a step's earlier parts add up first."""
    if needed:
        return nullcontext()
    if isinstance(net, DistributedDataParallel):
        return net.no_sync()
    return nullcontext()


def clip_gradient(net: nn.Module, largest: float) -> Tensor:
    """Scale the gradient down to a norm of at most `largest`, 0 leaving it as it is; the norm that it had.

    The norm is the same in all processes, and stays on its device.
    """
    norm = nn.utils.clip_grad_norm_(net.parameters(), largest or math.inf)
    return norm.full_tensor() if isinstance(norm, DTensor) else norm


def gather_batch(output: FusionOutput, labels: Tensor, processes: Processes) -> tuple[FusionOutput, Tensor]:
    """The outputs and labels of all processes' batches, as one batch, for a loss that compares samples."""
    if processes.world_size == 1:
        return output, labels

    def gather(x: Tensor) -> Tensor:
        return gather_over_processes(x, processes.group)

    return replace(
        output,
        logits=gather(output.logits),
        aligned={name: gather(x) for name, x in output.aligned.items()},
        logits_of={name: gather(x) for name, x in output.logits_of.items()},
        presence=_whole_presence(output, processes),
    ), gather(labels)


def _whole_presence(output: FusionOutput, processes: Processes) -> dict[str, Tensor]:
    """Masks of all processes; one that has none for a modality has it for all of its samples."""
    masked = sorted({name for names in processes.all_gather(sorted(output.presence)) for name in names})
    everyone = torch.ones(len(output.logits), dtype=torch.bool, device=output.logits.device)
    return {
        name: gather_over_processes(output.presence.get(name, everyone).float(), processes.group) > 0 for name in masked
    }
