"""Everything that a run needs to go on exactly where it was, written beside and renamed.

A checkpoint is a folder `checkpoints/step-000123`: the tensors of model, optimiser, averaged weights and random number
generators as torch.distributed.checkpoint writes them, each process its own, and `position.json`. One without that name
is not finished, and is not looked at.
"""

# torch leaves some of its own signatures open.
# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false
from __future__ import annotations

import json
import random
import shutil
import warnings
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.distributed.checkpoint.state_dict import get_state_dict, set_state_dict
from torch.distributed.checkpoint.state_dict_loader import load as load_tensors
from torch.distributed.checkpoint.state_dict_saver import save as save_tensors

from scmrl.engine.parallel import Processes
from scmrl.engine.run_folder import write_json

KEPT = 2
"""Checkpoints that stay: the last one, and one before it in case the disk fails."""


@dataclass
class Position:
    """How far a run is, and what it has measured so far."""

    epoch: int = 1
    """The epoch under way, from 1."""
    batch: int = 0
    """Optimiser steps done in it."""
    step: int = 0
    """Optimiser steps done in all."""
    totals: dict[str, float] = field(default_factory=dict[str, float])
    """Sums over the epoch's samples so far."""
    seconds: float = 0.0
    """Time spent so far, earlier runs included."""
    history: list[dict[str, float]] = field(default_factory=list[dict[str, float]])
    """One record an epoch, as in metrics.jsonl."""
    best_epoch: int = 0
    best: dict[str, Any] | None = None
    """What the best epoch reached on the selecting split."""
    rates_first: dict[str, float] = field(default_factory=dict[str, float])
    """Firing rate of every layer in the first step."""
    rates_last: dict[str, float] = field(default_factory=dict[str, float])
    """The same in the last step of the last epoch."""


@dataclass
class Trained:
    """What changes while training; `averaged` is empty without a moving average."""

    net: nn.Module
    optimiser: torch.optim.Optimizer
    scaler: torch.amp.GradScaler  # pyright: ignore[reportPrivateImportUsage]
    averaged: dict[str, Tensor]
    position: Position


def save(folder: Path, trained: Trained, processes: Processes) -> Path:
    """Write a checkpoint; a kill at any moment leaves the one before it."""
    target = folder / "checkpoints" / f"step-{trained.position.step:06d}-{trained.position.epoch:04d}"
    part = target.with_name(f"{target.name}.part")
    if processes.first:
        shutil.rmtree(part, ignore_errors=True)
        part.mkdir(parents=True)
    processes.wait()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that there is one process is no news
        save_tensors(_tensors(trained, processes), checkpoint_id=part, no_dist=processes.world == 1)
    rank_file = part / f"generators-{processes.rank}.json"
    write_json(rank_file, {"python": random.getstate(), "numpy": _numpy_state(), "scaler": trained.scaler.state_dict()})
    processes.wait()
    if processes.first:
        write_json(part / "position.json", {**asdict(trained.position), "world": processes.world})
        shutil.rmtree(target, ignore_errors=True)
        part.rename(target)
        for old in finished(folder)[:-KEPT]:
            shutil.rmtree(old, ignore_errors=True)
    processes.wait()
    return target


def finished(folder: Path) -> list[Path]:
    """Every whole checkpoint of a run, the newest last."""
    return sorted(path for path in (folder / "checkpoints").glob("step-*") if path.suffix != ".part")


def load(checkpoint: Path, trained: Trained, processes: Processes) -> None:
    """Put everything back in place, random number generators included.

    Raises:
        ValueError: another number of processes wrote it, which could not go on exactly.
    """
    said = json.loads((checkpoint / "position.json").read_text(encoding="utf-8"))
    world = said.pop("world")
    if world != processes.world:
        raise ValueError(
            f"{checkpoint} was written by {world} processes, and there are {processes.world} now; start as many again"
        )
    tensors = _tensors(trained, processes)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        load_tensors(tensors, checkpoint_id=checkpoint, no_dist=processes.world == 1)
    set_state_dict(
        trained.net, trained.optimiser, model_state_dict=tensors["model"], optim_state_dict=tensors["optimiser"]
    )
    trained.averaged.update(tensors["averaged"])
    for name in (f.name for f in fields(Position)):
        setattr(trained.position, name, said[name])
    generators = json.loads((checkpoint / f"generators-{processes.rank}.json").read_text(encoding="utf-8"))
    version, state, gauss = generators["python"]
    random.setstate((version, tuple(state), gauss))
    name, keys, *rest = generators["numpy"]
    np.random.set_state((name, np.array(keys, dtype=np.uint32), *rest))
    trained.scaler.load_state_dict(generators["scaler"])
    torch.set_rng_state(tensors[f"generator {processes.rank}"])
    if processes.device.type == "cuda":
        torch.cuda.set_rng_state(tensors[f"cuda generator {processes.rank}"], processes.device)


def _tensors(trained: Trained, processes: Processes) -> dict[str, Any]:
    model, optimiser = get_state_dict(trained.net, trained.optimiser)
    tensors: dict[str, Any] = {
        "model": model,
        "optimiser": optimiser,
        "averaged": trained.averaged,
        f"generator {processes.rank}": torch.get_rng_state(),
    }
    if processes.device.type == "cuda":
        tensors[f"cuda generator {processes.rank}"] = torch.cuda.get_rng_state(processes.device)
    return tensors


def _numpy_state() -> list[Any]:
    name, keys, *rest = np.random.get_state(legacy=True)
    assert isinstance(keys, np.ndarray)
    return [name, keys.tolist(), *rest]
