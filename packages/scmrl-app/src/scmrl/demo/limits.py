"""What the system lets a process take that reads a file of unknown origin; for Linux and macOS."""

from __future__ import annotations

import math
import resource
from pathlib import Path

MEMORY = 2 * 2**30
"""Bytes of address space that reading a file may take, beyond what the process has already."""


def limit(seconds: float) -> None:
    """From here on, let the system end this process when it computes too long, and refuse it memory and files.

    Where the system does not limit address spaces (macOS), memory is not limited.
    """
    used = resource.getrusage(resource.RUSAGE_SELF)
    processor = math.ceil(used.ru_utime + used.ru_stime + seconds)
    _lower(resource.RLIMIT_CPU, processor, processor + 1)
    _lower(resource.RLIMIT_AS, _address_space() + MEMORY)
    _lower(resource.RLIMIT_FSIZE, 0)
    _lower(resource.RLIMIT_CORE, 0)


def _lower(which: int, soft: int, hard: int | None = None) -> None:
    """Set a limit of this process, or leave one that is stricter."""
    most = soft if hard is None else hard
    present = resource.getrlimit(which)[1]
    if present != resource.RLIM_INFINITY:
        most = min(most, present)
    resource.setrlimit(which, (min(soft, most), most))


def _address_space() -> int:
    """Bytes that this process has mapped; 0 where the system does not tell, as it does not limit them either."""
    try:
        pages = Path("/proc/self/statm").read_text(encoding="ascii").split()[0]
    except OSError:
        return 0
    return int(pages) * resource.getpagesize()
