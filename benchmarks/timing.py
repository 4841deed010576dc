"""Time candidates side by side: interleaved in one process, medians."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from statistics import median

ROUNDS = 9
MIN_SECONDS = 0.02
"""A round repeats a candidate until it has run for this long."""


def measure(
    candidates: Mapping[str, Callable[[], object]],
    *,
    rounds: int = ROUNDS,
    clock: Callable[[], float] = time.thread_time,
) -> dict[str, float]:
    """Return the median seconds of each candidate, interleaved; two runs of each before the first round warm up.

    Args:
        candidates: what to run, by name.
        rounds: rounds of which the median is taken.
        clock: CPU time of this thread; with several threads it must be wall time instead.
    """
    repeats: dict[str, int] = {}
    for name, run in candidates.items():
        run()
        start = clock()
        run()
        repeats[name] = max(1, round(MIN_SECONDS / max(1e-6, clock() - start)))
    seconds: dict[str, list[float]] = {name: [] for name in candidates}
    for _ in range(rounds):
        for name, run in candidates.items():
            start = clock()
            for _ in range(repeats[name]):
                run()
            seconds[name].append((clock() - start) / repeats[name])
    return {name: median(values) for name, values in seconds.items()}
