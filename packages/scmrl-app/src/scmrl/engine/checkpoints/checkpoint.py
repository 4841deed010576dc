"""Save and load checkpoints, from which a run resumes exactly; each is written to a temporary folder and renamed.

A checkpoint is a folder `checkpoints/step-000123-0004` (optimizer steps, epoch); `checkpoint_files` lists its files.
"""

from __future__ import annotations

import re
import shutil
from collections.abc import Callable
from contextlib import suppress
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any, cast

import torch
from pydantic import TypeAdapter
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from scmrl.engine.checkpoints.files import (
    CHECKSUMS,
    POSITION,
    Checksum,
    DamagedCheckpoint,
    checksum,
    read_json,
    read_tensors,
    state_file,
    tensor_file,
    verify,
    write_checksums,
    write_tensors,
)
from scmrl.engine.checkpoints.state import Generators, Platform, platform_of, restore_tensors, tensors_of
from scmrl.engine.parallel import Processes, unwrap
from scmrl.run_folder.atomic import write_error_reason
from scmrl.run_folder.files import write_json

NUM_KEPT = 2
"""Checkpoints to keep: the last one, and the one before it in case the last is damaged."""


@dataclass
class Position:
    """Progress of a run and its metrics so far."""

    epoch: int = 1
    """Current epoch, from 1."""
    batch: int = 0
    """Optimizer steps done in the epoch."""
    step: int = 0
    """Optimizer steps done in total."""
    totals: dict[str, float] = field(default_factory=dict[str, float])
    """Sums over the epoch's samples so far."""
    seconds: float = 0.0
    """Training time so far, including the parts before a resume."""
    history: list[dict[str, float]] = field(default_factory=list[dict[str, float]])
    """One record per epoch, as in metrics.jsonl."""
    best_epoch: int = 0
    best: dict[str, Any] | None = None
    """Scores of the best epoch on the selection split."""
    rates_first: dict[str, float] = field(default_factory=dict[str, float])
    """Firing rate of each layer in the first step."""
    rates_last: dict[str, float] = field(default_factory=dict[str, float])
    """Firing rate of each layer in the last step of the last epoch."""
    skipped: int = 0
    """Steps of the epoch that the gradient scaler skipped."""


@dataclass
class TrainingState:
    """All state that training changes; `averaged` is empty without a moving average."""

    net: nn.Module
    optimizer: torch.optim.Optimizer
    scaler: torch.amp.GradScaler  # pyright: ignore[reportPrivateImportUsage]
    averaged: dict[str, Tensor]
    position: Position


@dataclass(frozen=True)
class LoadedCheckpoint:
    """A checkpoint that this rank has read and not yet applied."""

    path: Path
    position: Position
    tensors: dict[str, Tensor]
    scaler: dict[str, Any]
    generators: Generators
    platform: Platform


def complete_checkpoints(folder: Path) -> list[Path]:
    """All complete checkpoints of a run, newest last."""
    by_number: dict[tuple[int, ...], Path] = {}
    for path in (folder / "checkpoints").glob("step-*"):
        if match := re.fullmatch(r"step-(\d+)-(\d+)", path.name):
            by_number[int(match[1]), int(match[2])] = path
    return [by_number[key] for key in sorted(by_number)]


def remove_incomplete(folder: Path) -> None:
    """Delete incomplete checkpoints of killed runs."""
    for path in (folder / "checkpoints").glob("*.part"):
        shutil.rmtree(path, ignore_errors=True)


def save_checkpoint(folder: Path, trained: TrainingState, processes: Processes) -> Path:
    """Write a checkpoint; if the run is killed meanwhile, the previous one remains.

    Raises:
        OSError: it cannot be written on some rank; the previous checkpoints remain.
    """
    position = trained.position
    target = folder / "checkpoints" / f"step-{position.step:06d}-{position.epoch:04d}"
    part = target.with_name(f"{target.name}.part")

    def begin() -> None:
        remove_incomplete(folder)
        part.mkdir(parents=True)

    def complete() -> None:
        write_json(part / POSITION, {**asdict(position), "world": processes.world_size})
        checksums[POSITION] = checksum(part / POSITION)
        write_checksums(part, checksums)
        shutil.rmtree(target, ignore_errors=True)
        part.rename(target)
        _remove_old(folder, target)

    try:
        processes.on_rank0(begin)
        by_rank = processes.all_gather(processes.on_all_ranks(lambda: _write_state(part, trained, processes)))
        checksums = {name: value for rank_checksums in by_rank for name, value in rank_checksums.items()}
        processes.on_rank0(complete)
    except OSError as error:
        if processes.is_rank0:
            shutil.rmtree(part, ignore_errors=True)
        raise OSError(
            f"the checkpoint {target} cannot be written: {write_error_reason(error)}. Earlier checkpoints are kept: "
            f"resume with the same command and --resume --out {folder}"
        ) from error
    return target


def load_newest_checkpoint(
    folder: Path, trained: TrainingState, processes: Processes, warn: Callable[[str], None]
) -> tuple[Path, Generators] | None:
    """Load the newest intact checkpoint into the training state; return None if there is no checkpoint.

    Restore the returned generators right before the first step, after everything else that may draw from them.

    Args:
        folder: of the run.
        trained: changed in place.
        processes: the process group; all ranks load the same checkpoint.
        warn: called with warnings about damage or a changed platform.

    Raises:
        ValueError: all checkpoints are damaged, or the last one has another world size or another model.
    """
    damage: list[str] = []
    for path in reversed(processes.on_rank0(lambda: complete_checkpoints(folder))):
        try:
            stored = processes.on_all_ranks(lambda path=path: _read(path, processes, trained))
        except DamagedCheckpoint as error:
            damage.append(f"{path.name} is damaged ({error})")
            continue
        if damage:
            warn(f"checkpoint {'; '.join(damage)}: resuming from {path.name}, the one before it")
        return path, _restore(stored, trained, processes, warn)
    if damage:
        raise ValueError(
            f"no checkpoint in {folder / 'checkpoints'} can be used: {'; '.join(damage)}; restore one from a backup, "
            "or start a new run with another --out"
        )
    return None


def _write_state(part: Path, trained: TrainingState, processes: Processes) -> dict[str, Checksum]:
    """Write this rank's files and return their checksums."""
    generators = Generators.current(processes.device)
    tensors = tensors_of(trained.net, trained.optimizer, trained.averaged)
    if isinstance(trained.net, DistributedDataParallel) and not processes.is_rank0:
        buffers = {f"model/{name}" for name, _ in unwrap(trained.net).named_buffers()}
        tensors = {name: tensor for name, tensor in tensors.items() if name in buffers}  # rank 0 writes the rest
    write_tensors(part / tensor_file(processes.rank), {**tensors, **generators.tensors()})
    state = {
        "generators": generators.json(),
        "scaler": trained.scaler.state_dict(),
        "platform": platform_of(processes.device),
    }
    write_json(part / state_file(processes.rank), state)
    return {name: checksum(part / name) for name in (tensor_file(processes.rank), state_file(processes.rank))}


def _read(path: Path, processes: Processes, trained: TrainingState) -> LoadedCheckpoint:
    """Read and verify the files of a checkpoint that this rank needs.

    Raises:
        DamagedCheckpoint: it is damaged.
        ValueError: it was written with another world size.
    """
    verify(path, [POSITION])
    content = read_json(path / POSITION)
    world = content.pop("world", None)
    if world != processes.world_size:
        raise ValueError(
            f"{path} was written by {world} processes, but {processes.world_size} are running; start {world}"
        )
    names = [tensor_file(processes.rank)]
    if isinstance(trained.net, DistributedDataParallel) and not processes.is_rank0:
        names.insert(0, tensor_file(0))
    verify(path, [*names, state_file(processes.rank)])
    tensors = {name: tensor for file in names for name, tensor in read_tensors(path / file).items()}
    state = read_json(path / state_file(processes.rank))
    try:
        return LoadedCheckpoint(
            path,
            TypeAdapter(Position).validate_python(content),
            {name: tensor for name, tensor in tensors.items() if not name.startswith("generator/")},
            dict(state["scaler"]),
            Generators.parse(tensors, state["generators"]),
            {**state["platform"], "threads": int(state["platform"]["threads"])},
        )
    except (ValueError, TypeError, LookupError, OverflowError, RuntimeError) as error:
        raise DamagedCheckpoint(f"its content is invalid: {str(error).splitlines()[0]}") from error


def _restore(
    stored: LoadedCheckpoint, trained: TrainingState, processes: Processes, warn: Callable[[str], None]
) -> Generators:
    try:
        processes.on_all_ranks(
            lambda: restore_tensors(trained.net, trained.optimizer, trained.averaged, stored.tensors)
        )
    except ValueError as error:
        raise ValueError(f"the run cannot resume from {stored.path}: {error}") from error
    trained.scaler.load_state_dict(stored.scaler)
    for position_field in fields(Position):
        setattr(trained.position, position_field.name, getattr(stored.position, position_field.name))
    _restore_threads(stored, warn)
    current = platform_of(processes.device)
    changed = [
        f"{name} was {old}, is {current.get(name)}" for name, old in stored.platform.items() if old != current.get(name)
    ]
    if changed:
        warn(f"the run began on another platform ({'; '.join(changed)}); its results may differ in the last digits")
    return stored.generators


def _restore_threads(stored: LoadedCheckpoint, warn: Callable[[str], None]) -> None:
    """Use as many threads as the run began with: the order of summation depends on their number."""
    before, current = cast(int, stored.platform["threads"]), torch.get_num_threads()
    if before != current:
        torch.set_num_threads(before)
        warn(f"using {before} threads as before, not {current}, because results depend on the number of threads")


def _remove_old(folder: Path, newest: Path) -> None:
    """Keep the newest checkpoints. Later ones are damaged, or the run would have resumed from them."""
    checkpoints = complete_checkpoints(folder)
    last = checkpoints.index(newest)
    for path in (*checkpoints[: max(0, last + 1 - NUM_KEPT)], *checkpoints[last + 1 :]):
        # Remove checksums.json first, so that a kill halfway leaves no checkpoint that looks complete.
        with suppress(OSError):
            (path / CHECKSUMS).unlink()
        shutil.rmtree(path, ignore_errors=True)
