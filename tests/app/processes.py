"""Runs of `scmrl train` in one or two separate processes, which may be killed."""

from __future__ import annotations

import multiprocessing
import os
import signal
import socket
import sys
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

CONTEXT = multiprocessing.get_context("forkserver")
# The server imports what takes long once; its children begin as copies of it, in which nothing has run yet.
CONTEXT.set_forkserver_preload(["scmrl.engine.train", "scmrl.report.summary"])

Moment = tuple[str, int]
"""A function of the engine, and at which call to kill the process."""


def _die_at(moment: Moment) -> None:
    """Kill this process in the middle of a function of the engine."""
    from scmrl.engine import train
    from scmrl.engine.checkpoints import checkpoint

    name, call = moment
    module: Any = {"step": train.Trainer, "predict_split": train, "save_pretrained": train}.get(name, checkpoint)
    original, calls = getattr(module, name), 0

    def deadly(*arguments: Any, **named: Any) -> Any:
        nonlocal calls
        calls += 1
        if calls == call:
            if name in ("write_tensors", "write_json"):  # half of a checkpoint is written
                original(*arguments, **named)
            os.kill(os.getpid(), signal.SIGKILL)
        return original(*arguments, **named)

    setattr(module, name, deadly)


def _train(options: Sequence[str], rank: int, world: int, port: int, moment: Moment | None, log: Path) -> None:
    if world > 1:
        os.environ |= {
            "RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": str(world), "MASTER_ADDR": "127.0.0.1",
            "MASTER_PORT": str(port), "GLOO_SOCKET_IFNAME": "lo",
        }  # fmt: skip
    import torch

    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    with log.open("w") as file:
        sys.stdout = sys.stderr = file
        if moment is not None:
            _die_at(moment)
        from scmrl import cli

        sys.argv = ["scmrl", "train", *options]
        cli.main()


def run(
    options: Sequence[str], *, log: Path, world: int = 1, moment: Moment | None = None, by_hand: bool = False
) -> list[int | None]:
    """Train and return the exit codes, -9 if killed. If one of two is killed, so is the other, as torchrun does.

    Started by hand, only the last process is killed, and the others end on their own.
    """
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    children = [
        CONTEXT.Process(target=_train, args=(options, rank, world, port, at, log.with_suffix(f".{rank}")))
        for rank, at in enumerate([None if by_hand and rank < world - 1 else moment for rank in range(world)])
    ]
    for child in children:
        child.start()
    while any(child.is_alive() for child in children):
        for child in children:
            child.join(0.1)
        if not by_hand and any(child.exitcode not in (None, 0) for child in children):
            for child in children:
                child.join(5)
                child.kill()
    return [child.exitcode for child in children]


def in_processes(world: int, work: Callable[..., None], *arguments: Any, seconds: float = 120) -> list[int | None]:
    """Run `work(rank, *arguments)` in the processes of one process group, with a timeout."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    children = [CONTEXT.Process(target=_joined, args=(rank, world, port, work, arguments)) for rank in range(world)]
    for child in children:
        child.start()
    for child in children:
        child.join(seconds)
        child.kill()
    return [child.exitcode for child in children]


def _joined(rank: int, world: int, port: int, work: Callable[..., None], arguments: tuple[Any, ...]) -> None:
    import torch
    import torch.distributed as dist

    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    os.environ["GLOO_SOCKET_IFNAME"] = "lo"
    dist.init_process_group("gloo", init_method=f"tcp://127.0.0.1:{port}", rank=rank, world_size=world)
    work(rank, *arguments)
    dist.destroy_process_group()
