"""Which run a command is about when none is named: the newest one."""

from __future__ import annotations

import sys
from pathlib import Path

RUNS = Path("runs")
"""Where `scmrl train` puts runs that were given no folder."""


def run_or_newest(run: Path | None) -> Path:
    """The run that was named, or the one that was finished last below `runs`, which is then told on stderr.

    Raises:
        ValueError: none was named, and there is no finished one.
    """
    if run is not None:
        return run
    finished = [path for path in RUNS.glob("*/summary.json") if (path.parent / "experiment.json").is_file()]
    if not finished:
        raise ValueError(
            f"no run was named, and {RUNS.absolute()} holds no finished one; name the folder of a run, or train one "
            "with `scmrl train`"
        )
    newest = max(finished, key=lambda path: (path.stat().st_mtime_ns, path.parent.name)).parent
    print(f"scmrl: no run was named; taking the newest one, {newest}", file=sys.stderr)
    return newest
