"""Run C code on several Python threads; ctypes releases the interpreter lock while C runs.

A second OpenMP runtime would compete with PyTorch's for the processor. The number of threads is PyTorch's
(`torch.set_num_threads`).
"""

from __future__ import annotations

import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import torch

MIN_WORK = 1 << 16
"""Elements (neurons times steps) per thread below which a thread costs more than it saves."""

_pools: dict[int, ThreadPoolExecutor] = {}
# Threads do not survive a fork: a child process creates its own.
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_pools.clear)


def split(run: Callable[[int, int], None], n: int, *, steps: int, multiple: int) -> None:
    """Call `run(start, stop)` on parts of 0 ... n-1 in parallel; parts begin at multiples of `multiple`."""
    tiles = -(-n // multiple)
    workers = min(torch.get_num_threads(), tiles, n * steps // MIN_WORK)
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
