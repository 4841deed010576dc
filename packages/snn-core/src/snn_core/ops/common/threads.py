"""Running compiled code on several threads: Python's own, because ctypes lets go of the interpreter while C runs.

A second OpenMP runtime beside PyTorch's would fight it for the processor. As many threads work as PyTorch is told to
use (`torch.set_num_threads`).
"""

from __future__ import annotations

import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import torch

LEAST_WORK = 1 << 16
"""Elements (neurons times steps) below which a thread costs more than it gives."""

_pools: dict[int, ThreadPoolExecutor] = {}
# Threads do not survive a fork: a child process makes its own.
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_pools.clear)


def split(run: Callable[[int, int], None], n: int, *, steps: int, multiple: int) -> None:
    """Call `run(start, stop)` on parts of 0 ... n-1 at once; parts begin at multiples of `multiple`."""
    tiles = -(-n // multiple)
    workers = min(torch.get_num_threads(), tiles, n * steps // LEAST_WORK)
    if workers < 2:
        run(0, n)
        return
    each = -(-tiles // workers) * multiple
    parts = [(start, min(start + each, n)) for start in range(0, n, each)]
    pool = _pools.setdefault(workers, ThreadPoolExecutor(workers - 1, thread_name_prefix="snn-core"))
    others = [pool.submit(run, *part) for part in parts[1:]]
    run(*parts[0])
    for other in others:
        other.result()
