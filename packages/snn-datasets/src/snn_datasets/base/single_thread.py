"""Limit torch to one thread while many small tensors are prepared."""

from __future__ import annotations

from collections.abc import Generator
from contextlib import contextmanager

import torch


@contextmanager
def single_thread() -> Generator[None, None, None]:
    """Run torch on one thread within the block.

    One image or clip is too little work to parallelize: on a busy machine, threads waiting for each other have cost
    ten times the work itself. One thread also makes sums independent of the number of cores.
    """
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)
