"""Everything that a run needs to go on exactly where it was, written beside and renamed.

A checkpoint is a folder `checkpoints/step-000123-0004` (optimizer steps, epoch); `checkpoint_files` says what is in it.
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

from scmrl.engine.atomic import reason
from scmrl.engine.checkpoint_files import (
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
from scmrl.engine.parallel import Processes, unwrap
from scmrl.engine.run_folder import write_json
from scmrl.engine.training_state import Generators, Platform, platform_of, restore_tensors, tensors_of

KEPT = 2
"""Checkpoints that stay: the last one, and one before it in case the last is damaged."""


@dataclass
class Position:
    """How far a run is, and what it has measured so far."""

    epoch: int = 1
    """The epoch under way, from 1."""
    batch: int = 0
    """Optimizer steps done in it."""
    step: int = 0
    """Optimizer steps done in all."""
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
    skipped: int = 0
    """Steps of the epoch that the gradient scaler skipped."""


@dataclass
class TrainingState:
    """What changes while training; `averaged` is empty without a moving average."""

    net: nn.Module
    optimizer: torch.optim.Optimizer
    scaler: torch.amp.GradScaler  # pyright: ignore[reportPrivateImportUsage]
    averaged: dict[str, Tensor]
    position: Position


@dataclass(frozen=True)
class Stored:
    """A checkpoint as this process read it; nothing is changed yet."""

    path: Path
    position: Position
    tensors: dict[str, Tensor]
    scaler: dict[str, Any]
    generators: Generators
    platform: Platform


def complete_checkpoints(folder: Path) -> list[Path]:
    """Every complete checkpoint of a run, the newest last."""
    by_number: dict[tuple[int, ...], Path] = {}
    for path in (folder / "checkpoints").glob("step-*"):
        if match := re.fullmatch(r"step-(\d+)-(\d+)", path.name):
            by_number[int(match[1]), int(match[2])] = path
    return [by_number[key] for key in sorted(by_number)]


def remove_unfinished(folder: Path) -> None:
    """Delete what killed runs left of checkpoints that were never completed."""
    for path in (folder / "checkpoints").glob("*.part"):
        shutil.rmtree(path, ignore_errors=True)


def save_checkpoint(folder: Path, trained: TrainingState, processes: Processes) -> Path:
    """Write a checkpoint; a kill at any moment leaves the one before it.

    Raises:
        OSError: it cannot be written, in whichever process; the checkpoints before it are still there.
    """
    position = trained.position
    target = folder / "checkpoints" / f"step-{position.step:06d}-{position.epoch:04d}"
    part = target.with_name(f"{target.name}.part")

    def begin() -> None:
        remove_unfinished(folder)
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
        every = processes.all_gather(processes.on_all_ranks(lambda: _write_state(part, trained, processes)))
        checksums = {name: value for mine in every for name, value in mine.items()}
        processes.on_rank0(complete)
    except OSError as error:
        if processes.is_rank0:
            shutil.rmtree(part, ignore_errors=True)
        raise OSError(
            f"the checkpoint {target} cannot be written: {reason(error)}. What was saved before is kept: go on "
            f"with the same command and --resume --out {folder}"
        ) from error
    return target


def load_newest_checkpoint(
    folder: Path, trained: TrainingState, processes: Processes, warn: Callable[[str], None]
) -> tuple[Path, Generators] | None:
    """Put the state of the newest checkpoint that is not damaged in place; None if there is no checkpoint at all.

    The generators are to be restored right before the first step, after everything else that may draw from them.

    Args:
        folder: of the run.
        trained: changed in place.
        processes: all of which choose the same checkpoint.
        warn: called for what the user should know: damage, or another platform.

    Raises:
        ValueError: every checkpoint is damaged, or the last one was written by another number of processes or is of
            another model.
    """
    damage: list[str] = []
    for path in reversed(processes.on_rank0(lambda: complete_checkpoints(folder))):
        try:
            stored = processes.on_all_ranks(lambda path=path: _read(path, processes, trained))
        except DamagedCheckpoint as error:
            damage.append(f"{path.name} is damaged ({error})")
            continue
        if damage:
            warn(f"checkpoint {'; '.join(damage)}: going on from {path.name}, the one before it")
        return path, _restore(stored, trained, processes, warn)
    if damage:
        raise ValueError(
            f"no checkpoint in {folder / 'checkpoints'} can be used: {'; '.join(damage)}; put back a copy of one, or "
            "start anew with another --out"
        )
    return None


def _write_state(part: Path, trained: TrainingState, processes: Processes) -> dict[str, Checksum]:
    """Write this process's files."""
    generators = Generators.current(processes.device)
    tensors = tensors_of(trained.net, trained.optimizer, trained.averaged)
    if isinstance(trained.net, DistributedDataParallel) and not processes.is_rank0:
        buffers = {f"model/{name}" for name, _ in unwrap(trained.net).named_buffers()}
        tensors = {name: tensor for name, tensor in tensors.items() if name in buffers}  # the first writes the rest
    write_tensors(part / tensor_file(processes.rank), {**tensors, **generators.tensors()})
    state = {
        "generators": generators.json(),
        "scaler": trained.scaler.state_dict(),
        "platform": platform_of(processes.device),
    }
    write_json(part / state_file(processes.rank), state)
    return {name: checksum(part / name) for name in (tensor_file(processes.rank), state_file(processes.rank))}


def _read(path: Path, processes: Processes, trained: TrainingState) -> Stored:
    """Read and check what this process needs of a checkpoint.

    Raises:
        DamagedCheckpoint: it is not as it was written.
        ValueError: another number of processes wrote it.
    """
    verify(path, [POSITION])
    content = read_json(path / POSITION)
    world = content.pop("world", None)
    if world != processes.world_size:
        raise ValueError(
            f"{path} was written by {world} processes, and there are {processes.world_size} now; start as many again"
        )
    names = [tensor_file(processes.rank)]
    if isinstance(trained.net, DistributedDataParallel) and not processes.is_rank0:
        names.insert(0, tensor_file(0))
    verify(path, [*names, state_file(processes.rank)])
    tensors = {name: tensor for file in names for name, tensor in read_tensors(path / file).items()}
    state = read_json(path / state_file(processes.rank))
    try:
        return Stored(
            path,
            TypeAdapter(Position).validate_python(content),
            {name: tensor for name, tensor in tensors.items() if not name.startswith("generator/")},
            dict(state["scaler"]),
            Generators.parse(tensors, state["generators"]),
            {**state["platform"], "threads": int(state["platform"]["threads"])},
        )
    except (ValueError, TypeError, LookupError, OverflowError, RuntimeError) as error:
        raise DamagedCheckpoint(f"its content cannot be used: {str(error).splitlines()[0]}") from error


def _restore(stored: Stored, trained: TrainingState, processes: Processes, warn: Callable[[str], None]) -> Generators:
    try:
        processes.on_all_ranks(
            lambda: restore_tensors(trained.net, trained.optimizer, trained.averaged, stored.tensors)
        )
    except ValueError as error:
        raise ValueError(f"the run cannot go on from {stored.path}: {error}") from error
    trained.scaler.load_state_dict(stored.scaler)
    for each in fields(Position):
        setattr(trained.position, each.name, getattr(stored.position, each.name))
    _restore_threads(stored, warn)
    now = platform_of(processes.device)
    changed = [
        f"{name} {old} then, {now.get(name)} now" for name, old in stored.platform.items() if old != now.get(name)
    ]
    if changed:
        warn(f"the run began on another platform ({'; '.join(changed)}), so its results may differ in the last digits")
    return stored.generators


def _restore_threads(stored: Stored, warn: Callable[[str], None]) -> None:
    """Compute with as many threads as the run began with: sums depend on how they are shared out."""
    then, now = cast(int, stored.platform["threads"]), torch.get_num_threads()
    if then != now:
        torch.set_num_threads(then)
        warn(f"computing with {then} threads, as the run did before, not {now}: its results depend on their number")


def _remove_old(folder: Path, newest: Path) -> None:
    """Keep the newest checkpoints; those of later steps are damaged, or the run would have gone on from them."""
    every = complete_checkpoints(folder)
    last = every.index(newest)
    for path in (*every[: max(0, last + 1 - KEPT)], *every[last + 1 :]):
        # Without its checksums it is no checkpoint, should this be killed halfway.
        with suppress(OSError):
            (path / CHECKSUMS).unlink()
        shutil.rmtree(path, ignore_errors=True)
