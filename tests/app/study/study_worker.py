"""A worker of a study with trivial points: `study_worker.py STORAGE COUNT LOG [HANG]`.

It writes `begin KEY` and `end KEY` into LOG. It hangs at its HANG-th point, so that a test can kill it there.
"""

import sys
import time
from pathlib import Path

from scmrl.study.queue.storage import open_storage
from scmrl.study.queue.work import WorkQueue


def main() -> None:
    """Process points until all have finished."""
    location, count, path, hang = sys.argv[1], int(sys.argv[2]), Path(sys.argv[3]), int((sys.argv[4:] or ["0"])[0])
    keys = [f"point{i}" for i in range(count)]
    queue = WorkQueue(open_storage(location if "://" in location else Path(location)), "study")
    claimed = 0
    while queue.unfinished(keys):
        claim = queue.claim(keys)
        if claim is None:
            time.sleep(0.02)
            continue
        with claim, path.open("a") as file:
            claimed += 1
            print("begin", claim.key, file=file, flush=True)
            time.sleep(600 if claimed == hang else 0.02)
            claim.finish({"by": path.name}, 1.0)
            print("end", claim.key, file=file, flush=True)


main()
