"""Resource limits of the process that decodes an untrusted file; for Linux and macOS."""

from __future__ import annotations

import math
import resource
from pathlib import Path

MEMORY = 2 * 2**30
"""Bytes of address space for decoding a file, beyond what the process has already."""


def limit_process(seconds: float) -> None:
    """Limit processor time and memory of this process, and forbid it to write files.

    Where the system does not limit address spaces (macOS), memory is not limited.
    """
    used = resource.getrusage(resource.RUSAGE_SELF)
    processor = math.ceil(used.ru_utime + used.ru_stime + seconds)
    _lower(resource.RLIMIT_CPU, processor, processor + 1)
    _lower(resource.RLIMIT_AS, _address_space() + MEMORY)
    _lower(resource.RLIMIT_FSIZE, 0)
    _lower(resource.RLIMIT_CORE, 0)


def _lower(limit: int, soft: int, hard: int | None = None) -> None:
    """Set a limit of this process unless the present one is stricter."""
    maximum = soft if hard is None else hard
    present = resource.getrlimit(limit)[1]
    if present != resource.RLIM_INFINITY:
        maximum = min(maximum, present)
    resource.setrlimit(limit, (min(soft, maximum), maximum))


def _address_space() -> int:
    """Return the mapped bytes of this process; 0 if unknown, on systems that do not limit address spaces either."""
    try:
        pages = Path("/proc/self/statm").read_text(encoding="ascii").split()[0]
    except OSError:
        return 0
    return int(pages) * resource.getpagesize()
