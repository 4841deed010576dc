"""Runs that are stopped after a given step, and a fusion method with random draws in its forward pass."""

from __future__ import annotations

import json
import os
import random
import signal
from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, ClassVar, Literal

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from app.tiny import tiny_options
from scmrl.config.experiment import Experiment
from scmrl.config.overlay import load
from scmrl.console.progress import Progress
from scmrl.engine.checkpoints.checkpoint import complete_checkpoints
from scmrl.engine.interruption import Stopped
from scmrl.engine.parallel import Processes
from scmrl.engine.run import Run
from scmrl.engine.train import Trainer, train
from snn_datasets import RecordedDataset, Sample
from snn_fusion import METHODS, MethodSpec, NeuronSpec
from snn_fusion.methods.base import FusedTokens, FusionMethod
from snn_fusion.presence import ALL_PRESENT, Presence

TIMING = {"samples_per_second", "memory_mb"}
STEPS = 3
"""Optimizer steps per epoch: 32 training samples, a quarter of them for validation, 8 per step."""


class DroppedMean(FusionMethod):
    """Every modality gets the mean of all, with dropout; `unused` has no effect."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.dropout, self.linear = nn.Dropout(0.3), nn.Linear(channels, channels)
        self.unused = nn.Parameter(torch.zeros(3))

    def forward(self, tokens: dict[str, Tensor], presence: Presence = ALL_PRESENT) -> FusedTokens:
        mean = torch.stack([x.mean(2) for x in tokens.values()]).mean(0)
        read = {name: self.dropout(self.linear(mean)).unsqueeze(2).expand_as(x) for name, x in tokens.items()}
        residuals = {(target, source): read[target] for target in tokens for source in tokens if source != target}
        return FusedTokens({name: x + read[name] for name, x in tokens.items()}, residuals=residuals)


class DroppedMeanSpec(MethodSpec):
    makes_residuals: ClassVar[bool] = True
    kind: Literal["dropped_mean"] = "dropped_mean"

    def build(self, tokens: Mapping[str, int], *, channels: int, neuron: NeuronSpec) -> FusionMethod:
        return DroppedMean(channels)


@contextmanager
def plugin() -> Generator[None]:
    """Within the block, the fusion method dropped_mean is registered."""
    METHODS.register(DroppedMeanSpec)
    try:
        yield
    finally:
        METHODS._models.pop("dropped_mean")


@contextmanager
def drawing_dataset() -> Generator[None]:
    """Within the block, samples are read with noise from the global generators of Python, NumPy and PyTorch."""
    read = RecordedDataset.__getitem__

    def noisy(self: RecordedDataset, index: int | tuple[int, int]) -> Sample:
        sample = read(self, index)
        if isinstance(index, tuple):
            for x in sample.inputs.values():
                x += 0.1 * torch.rand_like(x) + 0.1 * random.random() + 0.1 * float(np.random.rand())
        return sample

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(RecordedDataset, "__getitem__", noisy)
        yield


def options(data: Path, out: Path, *more: str) -> list[str]:
    """A run of two epochs."""
    small = ("--train.epochs", "2", "--model.time-steps", "2", "--model.channels", "8", "--model.fusion.num-heads", "2")
    arguments = [*tiny_options(data, out)]
    kind = more[more.index("--model.fusion.kind") + 1] if "--model.fusion.kind" in more else ""
    for name in (*small[::2], *more[::2]):
        if name in arguments:
            index = arguments.index(name)
            del arguments[index : index + 2]
    small_options = small[:-2] if kind == "dropped_mean" else small
    rest = [
        x for pair in zip(small_options[::2], small_options[1::2], strict=True) if pair[0] not in more for x in pair
    ]
    return [*arguments, *rest, *more]


def run(arguments: Sequence[str], *, stop_after: int | None = None, progress: Progress | None = None) -> Run | None:
    """Train in this process; with `stop_after`, send SIGTERM in that step. None if the run was stopped."""
    step, calls = Trainer.step, 0

    def counted(*values: Any, **named: Any) -> Any:
        nonlocal calls
        calls += 1
        result = step(*values, **named)
        if calls == stop_after:
            os.kill(os.getpid(), signal.SIGTERM)
        return result

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Trainer, "step", counted)
        try:
            return train(load(Experiment, list(arguments)), progress or Progress.create().mute())
        except Stopped:
            return None


def tensors(path: Path) -> dict[str, tuple[torch.dtype, bytes]]:
    """The tensors of a file as bytes; the order of its header does not matter."""
    return {name: (x.dtype, x.contiguous().numpy().tobytes()) for name, x in load_file(path).items()}


def outcome(out: Path) -> tuple[dict[str, Any], list[dict[str, float]]]:
    """The saved weights, and the metrics without timings."""
    lines = (out / "metrics.jsonl").read_text().splitlines()
    metrics = [{k: v for k, v in json.loads(line).items() if k not in TIMING} for line in lines]
    return tensors(out / "model.safetensors"), metrics


def final_state(out: Path) -> list[dict[str, Any]]:
    """The tensors of the last checkpoint, by process: model, optimizer, averaged weights, generators."""
    return [tensors(path) for path in sorted(complete_checkpoints(out)[-1].glob("*.safetensors"))]


def differing_stops(arguments_of: Callable[[Path], list[str]], folder: Path, stops: Sequence[int]) -> list[int]:
    """The steps after which a stopped and resumed run ended differently from an uninterrupted one."""
    assert run(arguments_of(folder / "whole")) is not None
    expected = outcome(folder / "whole"), final_state(folder / "whole")
    differing: list[int] = []
    for stop in stops:
        out = folder / f"stopped-{stop}"
        assert run(arguments_of(out), stop_after=stop) is None, stop
        assert run([*arguments_of(out), "--resume"]) is not None
        if (outcome(out), final_state(out)) != expected:
            differing.append(stop)
    return differing


def every_stop_in_two_processes(rank: int, data: str, folder: str, more: tuple[str, ...]) -> None:
    """Run `differing_stops` in each of two processes of one process group."""
    processes = Processes(rank, 2, torch.device("cpu"), torch.distributed.new_group())
    with pytest.MonkeyPatch.context() as patch, plugin():
        patch.setattr("scmrl.engine.train.join_processes", lambda device: processes)
        patch.setattr("scmrl.engine.train.leave_processes", lambda processes: None)
        differing = differing_stops(lambda out: options(Path(data), out, *more), Path(folder), range(1, 2 * STEPS))
    (Path(folder) / f"differing-{rank}.json").write_text(json.dumps(differing))
