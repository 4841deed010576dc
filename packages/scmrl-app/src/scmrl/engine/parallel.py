"""One process, or several that `torchrun` started: rank, device, and the model wrapped for distributed training."""

# Some signatures of torch are untyped.
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
from torch.nn.parallel import DistributedDataParallel

from scmrl.run_folder.device import pick_device
from snn_core import gather_over_processes, synchronize_batch_norm
from snn_core.distributed import is_sharded
from snn_fusion import FusionModel, FusionOutput, ModelSpec

T = TypeVar("T")
Strategy = Literal["ddp", "fsdp"]


@dataclass(frozen=True)
class Processes:
    """The process group of this run, as seen from one of its processes."""

    rank: int
    world_size: int
    device: torch.device
    group: Any = None
    """Process group for communication inside the model; None for a single process."""

    @classmethod
    def single(cls, device: torch.device) -> Processes:
        """Return the group of a process that runs alone."""
        return cls(0, 1, device)

    @property
    def is_rank0(self) -> bool:
        """Whether this process writes files and prints."""
        return self.rank == 0

    def on_rank0(self, function: Callable[[], T]) -> T:
        """Call the function on rank 0 and return its result on every rank; an error there is raised on every rank."""
        if self.world_size == 1:
            return function()
        message: list[Any] = [None, None]
        if self.is_rank0:
            try:
                message[0] = function()
            except Exception as error:
                message[1] = error
        dist.broadcast_object_list(message)
        if message[1] is not None:
            raise message[1]
        return message[0]

    def on_all_ranks(self, function: Callable[[], T]) -> T:
        """Call the function on every rank; an error on any rank is raised on all, so that none waits for it."""
        if self.world_size == 1:
            return function()
        result, own_error = None, None
        try:
            result = function()
        except Exception as error:
            own_error = error
        raised = next((error for error in self.all_gather(own_error) if error is not None), None)
        if raised is not None:
            raise raised from own_error
        return cast(T, result)

    def any(self, *flags: bool) -> list[bool]:
        """For each flag, whether it is set on any rank."""
        if self.world_size == 1:
            return list(flags)
        reduced = torch.tensor([float(flag) for flag in flags], device=self.device)
        dist.all_reduce(reduced, dist.ReduceOp.MAX)
        return [bool(flag) for flag in cast("list[float]", reduced.tolist())]

    def all_gather(self, value: T) -> list[T]:
        """The value of every rank, in order of rank."""
        if self.world_size == 1:
            return [value]
        values: list[Any] = [None] * self.world_size
        dist.all_gather_object(values, value)
        return values

    def barrier(self) -> None:
        """Wait until all ranks arrive here."""
        if self.world_size > 1:
            dist.barrier()


def join_processes(device: str) -> Processes:
    """Join the process group if `torchrun` started one.

    Raises:
        ValueError: the device does not exist on this machine.
        ConnectionError: the other processes do not respond.
    """
    world_size = int(os.environ.get("WORLD_SIZE", "1"))
    local_rank = int(os.environ.get("LOCAL_RANK", "0"))
    if device in ("auto", "cuda") and world_size > 1 and torch.cuda.is_available():
        device = f"cuda:{local_rank}"
    torch_device = pick_device(device)
    if world_size == 1:
        return Processes.single(torch_device)
    if torch_device.type == "cuda":
        torch.cuda.set_device(torch_device)
    if not dist.is_initialized():
        try:
            dist.init_process_group("nccl" if torch_device.type == "cuda" else "gloo")
        except dist.DistError as error:
            address = f"{os.environ.get('MASTER_ADDR', '')}:{os.environ.get('MASTER_PORT', '')}"
            raise ConnectionError(
                f"the {world_size} processes of the run could not connect at {address} "
                f"({str(error).strip().splitlines()[0]}); start all of them, with an address that each can reach"
            ) from error
    return Processes(dist.get_rank(), world_size, torch_device, dist.new_group())


def leave_processes(processes: Processes) -> None:
    """Leave the process group."""
    if processes.world_size > 1:
        dist.destroy_process_group()


def wrap_model(model: FusionModel, processes: Processes, strategy: Strategy, *, synchronize: bool) -> nn.Module:
    """Wrap the model in DDP or FSDP; with one process, return the model itself.

    Args:
        model: on this rank's device, identical on all ranks.
        processes: the process group.
        strategy: ddp replicates the model; fsdp shards parameters and optimizer state.
        synchronize: whether batch norm computes its statistics over all ranks.
    """
    if processes.world_size == 1:
        return model
    if synchronize:
        synchronize_batch_norm(model, processes.group)
    if strategy == "ddp":
        ids = [processes.device] if processes.device.type == "cuda" else None
        # A batch may lack a modality, and a plug-in may have unused parameters. Without find_unused_parameters DDP
        # would fail there; and it would rebuild its buckets after the first step, so a resume would sum in a different
        # order.
        warnings.filterwarnings("ignore", message="find_unused_parameters=True was specified", category=UserWarning)
        return DistributedDataParallel(model, device_ids=ids, find_unused_parameters=True)
    # FSDP takes as long to import as PyTorch.
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.fsdp import fully_shard

    mesh = init_device_mesh(processes.device.type, (processes.world_size,))
    fully_shard(model, mesh=mesh)
    return model


def unwrap(net: nn.Module, spec: ModelSpec | None = None, processes: Processes | None = None) -> FusionModel:
    """Return the wrapped model.

    Given its spec, return a model that one process can run alone: FSDP shards are gathered; all ranks must call this.
    """
    if isinstance(net, DistributedDataParallel):
        net = cast(nn.Module, net.module)
    assert isinstance(net, FusionModel)
    if spec is None or processes is None or not any(map(is_sharded, net.parameters())):
        return net
    from torch.distributed.checkpoint.state_dict import StateDictOptions, get_model_state_dict

    full_state = get_model_state_dict(net, options=StateDictOptions(full_state_dict=True))
    plain = spec.build().to(processes.device)
    plain.load_state_dict(full_state)
    return plain


def no_sync(net: nn.Module, *, enabled: bool) -> AbstractContextManager[Any]:
    """Within the block, DDP does not reduce gradients: those of a step's earlier parts accumulate locally first."""
    if enabled and isinstance(net, DistributedDataParallel):
        return net.no_sync()
    return nullcontext()


def clip_gradient(net: nn.Module, max_norm: float) -> Tensor:
    """Clip the gradient to a norm of at most `max_norm` (0 does not clip) and return the norm before clipping.

    The norm is the same on all ranks and stays on the device.
    """
    norm = nn.utils.clip_grad_norm_(net.parameters(), max_norm or math.inf)
    return cast(Any, norm).full_tensor() if is_sharded(norm) else norm


def gather_batch(output: FusionOutput, labels: Tensor, processes: Processes) -> tuple[FusionOutput, Tensor]:
    """Gather outputs and labels of all ranks into one batch, for a loss that compares samples."""
    if processes.world_size == 1:
        return output, labels

    def gather(x: Tensor) -> Tensor:
        return gather_over_processes(x, processes.group)

    return replace(
        output,
        logits=gather(output.logits),
        aligned={name: gather(x) for name, x in output.aligned.items()},
        logits_of={name: gather(x) for name, x in output.logits_of.items()},
        presence=_gather_presence(output, processes),
    ), gather(labels)


def _gather_presence(output: FusionOutput, processes: Processes) -> dict[str, Tensor]:
    """Presence masks of all ranks; a rank without a mask for a modality has it for all of its samples."""
    masked = sorted({name for names in processes.all_gather(sorted(output.presence)) for name in names})
    all_present = torch.ones(len(output.logits), dtype=torch.bool, device=output.logits.device)
    return {
        name: gather_over_processes(output.presence.get(name, all_present).float(), processes.group) > 0
        for name in masked
    }
