"""Measurements of `scmrl study scaling`: accuracies, and cost as parameters, time, memory and operations."""

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
from scmrl.engine.parallel import Processes
from scmrl.engine.run import Run
from scmrl.run_folder.device import pick_device
from scmrl.study.scaling.spec import ScalingSpec
from scmrl.study.training import measure_scores
from snn_core import record_synaptic_operations
from snn_fusion import from_pretrained

WARMUP_STEPS, TIMED_STEPS = 2, 7


def measure(spec: ScalingSpec, run: Run) -> dict[str, Any]:
    """Return accuracies, the amount of training, and the cost of a sample."""
    return {
        **measure_scores(spec, run),
        "modalities": list(run.splits.info.modalities),
        "samples": len(run.splits.train),
        "steps": run.position.step,
        **measure_cost(run),
    }


def measure_cost(run: Run) -> dict[str, Any]:
    """Measure the cost of a run's model on this machine.

    Returns:
        `parameters`; `step_seconds`, the median over `TIMED_STEPS` forward and backward passes of one batch, and
        `step_samples`, the size of the batch; `saved_bytes`, what autograd saves for the backward pass of one sample;
        `macs` and `operations`, dense and spike-driven operations for one sample in evaluation mode; `hardware`, where
        the time was measured.
    """
    options = run.experiment.train
    processes = Processes.single(pick_device(options.device))
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
    saved = saved_bytes(model, step)
    seconds: list[float] = []
    for _ in range(WARMUP_STEPS + TIMED_STEPS):
        began = _now(processes.device)
        step()
        seconds.append(_now(processes.device) - began)
    return {
        "parameters": sum(p.numel() for p in model.parameters()),
        "step_seconds": statistics.median(seconds[WARMUP_STEPS:]),
        "step_samples": count,
        "saved_bytes": saved / count,
        "macs": sum(layer.macs for layer in layers.values()) / count,
        "operations": sum(layer.operations for layer in layers.values()) / count,
        "hardware": _hardware(run),
    }


def saved_bytes(model: nn.Module, step: Callable[[], None]) -> int:
    """Count the bytes that autograd saves for the backward pass of a training step, without the model's weights.

    Memory shared by several tensors counts once.
    """
    weights = {p.untyped_storage().data_ptr() for p in model.parameters()}
    sizes: dict[int, int] = {}

    def pack(x: Tensor) -> Tensor:
        # All of them live until the backward pass, so no two have the same address.
        sizes[x.untyped_storage().data_ptr()] = x.untyped_storage().nbytes()
        return x

    with saved_tensors_hooks(pack, _unpack):
        step()
    return sum(size for address, size in sizes.items() if address not in weights)


def _unpack(x: Tensor) -> Tensor:
    return x


def _now(device: torch.device) -> float:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter()


def _hardware(run: Run) -> str:
    environment = json.loads((run.folder / "environment.json").read_text(encoding="utf-8"))
    threads = torch.get_num_threads()
    return str(environment["gpu"] or f"{environment['processor']}, {threads} thread{'s' if threads > 1 else ''}")
