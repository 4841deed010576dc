"""The newest run, for commands that are given none."""

from __future__ import annotations

import sys
from pathlib import Path

RUNS = Path("runs")
"""Where `scmrl train` writes runs without --out."""


def run_or_newest(run: Path | None) -> Path:
    """Return the run, or if it is None the most recently finished one in `runs`, which is then named on stderr.

    Raises:
        ValueError: no run was given, and none is finished.
    """
    if run is not None:
        return run
    finished = [path for path in RUNS.glob("*/summary.json") if (path.parent / "experiment.json").is_file()]
    if not finished:
        raise ValueError(
            f"no run was given, and {RUNS.absolute()} holds no finished one; name the folder of a run, or train one "
            "with `scmrl train`"
        )
    newest = max(finished, key=lambda path: (path.stat().st_mtime_ns, path.parent.name)).parent
    print(f"scmrl: no run was given; using the newest one, {newest}", file=sys.stderr)
    return newest
