"""A worker of a study whose points cost nothing: `study_worker.py STORAGE COUNT NOTES [HANG]`.

It writes `begin KEY` and `end KEY` into NOTES. At the HANG-th of its points it stays, as one that trains for long, to
be killed there.
"""

import sys
import time
from pathlib import Path

from scmrl.study.storage import open_storage
from scmrl.study.work import WorkList


def main() -> None:
    """Take points until all are done."""
    where, count, notes, hang = sys.argv[1], int(sys.argv[2]), Path(sys.argv[3]), int((sys.argv[4:] or ["0"])[0])
    keys = [f"point{i}" for i in range(count)]
    work = WorkList(open_storage(where if "://" in where else Path(where)), "study")
    taken = 0
    while work.unfinished(keys):
        claim = work.take(keys)
        if claim is None:
            time.sleep(0.02)
            continue
        with claim, notes.open("a") as file:
            taken += 1
            print("begin", claim.key, file=file, flush=True)
            time.sleep(600 if taken == hang else 0.02)
            claim.finish({"by": notes.name}, 1.0)
            print("end", claim.key, file=file, flush=True)


main()
