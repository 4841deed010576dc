"""Preparing many small tensors on one thread."""

from __future__ import annotations

from collections.abc import Generator
from contextlib import contextmanager

import torch


@contextmanager
def single_thread() -> Generator[None, None, None]:
    """Let torch compute on one thread within the block, and on as many as before after it.

    One picture or clip is too little work to share. On a busy machine the threads would wait for each other at every
    operation, which has been seen to cost ten times the work itself; and sums do not depend on the number of cores.
    """
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)
