"""What a model costs: parameters, time, memory and operations, measured alike for every model."""

# PyTorch leaves the types of some of its own methods open.
# pyright: reportUnknownMemberType=false
from __future__ import annotations

import json
import statistics
import time
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.graph import saved_tensors_hooks

from scmrl.engine.batches import calibration_batch, to_device
from scmrl.engine.parallel import Processes, pick_device
from scmrl.engine.train import Run
from snn_core import record_synaptic_operations
from snn_fusion import from_pretrained

WARM_UP, TIMED = 2, 7
"""Training steps before the clock runs, and while it does."""


def cost(run: Run) -> dict[str, Any]:
    """What the model of a run costs on this machine.

    Returns:
        `parameters`; `step_seconds`, the median over `TIMED` steps of forward and backward pass on one batch, and
        `step_samples`, its size; `kept_bytes`, what autograd keeps for the backward pass of one sample; `macs` and
        `operations`, those of the dense computation and those that spikes make of it, for one sample in evaluation;
        `hardware`, where the time was taken.
    """
    options = run.experiment.train
    processes = Processes(0, 1, pick_device(options.device))
    model = from_pretrained(run.folder).to(processes.device)
    batch = calibration_batch(run.splits, run.schedule.batch_size)
    inputs, present = to_device(batch, processes)
    labels = batch["labels"].to(processes.device)
    count, dtype = len(labels), getattr(torch, options.precision)

    def step() -> None:
        model.zero_grad(set_to_none=True)
        with torch.autocast(processes.device.type, dtype, enabled=options.precision != "float32"):
            output = model(inputs, present)
        model.total_loss(output, labels).total.backward()

    with torch.no_grad(), record_synaptic_operations(model.eval()) as layers:
        model(inputs, present)
    model.train()
    kept = kept_bytes(model, step)
    seconds: list[float] = []
    for _ in range(WARM_UP + TIMED):
        began = _now(processes.device)
        step()
        seconds.append(_now(processes.device) - began)
    return {
        "parameters": sum(p.numel() for p in model.parameters()),
        "step_seconds": statistics.median(seconds[WARM_UP:]),
        "step_samples": count,
        "kept_bytes": kept / count,
        "macs": sum(layer.macs for layer in layers.values()) / count,
        "operations": sum(layer.operations for layer in layers.values()) / count,
        "hardware": _hardware(run),
    }


def kept_bytes(model: nn.Module, step: Callable[[], None]) -> int:
    """Bytes that autograd keeps for the backward pass of a training step, without the weights of the model.

    Memory that several tensors share counts once.
    """
    weights = {p.untyped_storage().data_ptr() for p in model.parameters()}
    kept: dict[int, int] = {}

    def keep(x: Tensor) -> Tensor:
        # All of them live until the backward pass, so no two have the same address.
        kept[x.untyped_storage().data_ptr()] = x.untyped_storage().nbytes()
        return x

    with saved_tensors_hooks(keep, _as_it_is):
        step()
    return sum(size for address, size in kept.items() if address not in weights)


def _as_it_is(x: Tensor) -> Tensor:
    return x


def _now(device: torch.device) -> float:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter()


def _hardware(run: Run) -> str:
    environment = json.loads((run.folder / "environment.json").read_text(encoding="utf-8"))
    threads = torch.get_num_threads()
    return str(environment["gpu"] or f"{environment['processor']}, {threads} thread{'s' if threads > 1 else ''}")
