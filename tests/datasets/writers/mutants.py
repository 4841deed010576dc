"""Damaged files: a good one with some of its bytes changed at random, and what a reader makes of many of them.

Run as a program it reads a batch in a separate process, since a crash would take the tests with it: it takes a
`Batch` as JSON from its input, and writes a line before each file and a `Report` as JSON at the end.
"""

import json
import random
import resource
import signal
import sys
import time
from collections import Counter
from pathlib import Path
from typing import Any, TypedDict

LONGEST_SECONDS = 5
"""Processor time of one read; the system ends a process that takes longer."""
MOST_BYTES = 4 * 2**30
"""Of addresses, which is more than memory in use; keeps what goes wrong from taking the machine with it."""
HEADER = 512
"""Half of the damage is done among so many bytes, where most formats say how large things are."""


class Original(TypedDict):
    """A good file."""

    path: str
    fields: dict[str, Any]
    """Of the reader."""
    part: list[str | int | float]


class Batch(TypedDict):
    """What one process reads."""

    kind: str
    originals: list[Original]
    files: int
    """Damaged files of each original."""


class Report(TypedDict):
    """What came of it."""

    read: int
    refused: dict[str, int]
    """By the error that the reader made its own of; "" where it found the fault itself."""
    seconds: float
    """The longest read, processor time."""
    megabytes: float
    """The most memory that was in use."""


def mutated(whole: bytes, rng: random.Random) -> bytes:
    """The file, damaged in one to four places."""
    data = bytearray(whole)
    for _ in range(rng.randint(1, 4)):
        at = rng.randrange(1 + min(len(data), HEADER if rng.random() < 0.5 else len(data)))
        block = data[at : at + rng.choice((1, 4, 16, 64, 256))]
        match rng.choice(("flip", "huge", "zero", "repeat", "insert", "cut")):
            case "flip":
                for index in range(at, at + min(len(block), 4)):
                    data[index] ^= 1 << rng.randrange(8)
            case "huge":
                number = _huge(rng)
                data[at : at + len(number)] = number
            case "zero":
                data[at : at + len(block)] = bytes(len(block))
            case "repeat":
                data[at:at] = block
            case "insert":
                data[at:at] = rng.randbytes(rng.choice((1, 4, 16, 64, 256)))
            case _:
                del data[at:]
    return bytes(data)


def _huge(rng: random.Random) -> bytes:
    """A number at or near the end of its range: in digits, or of 2, 4 or 8 bytes in either order."""
    size = rng.choice((0, 2, 4, 8))
    if not size:
        return b"9" * rng.choice((5, 10, 20, 400))
    number = rng.choice((2 ** (8 * size) - 1, 2 ** (8 * size - 1), 2 ** (8 * size - 1) - 1, 2 ** (6 * size)))
    return (number - rng.choice((0, 0, 1, 8))).to_bytes(size, rng.choice(("little", "big")))


def read_all(batch: Batch) -> Report:
    """Read every damaged file; one that is neither read nor refused as documented ends the process and is kept."""
    from snn_datasets.base.reader import ReadError, Source
    from snn_datasets.base.registries import READERS

    report = Report(read=0, refused={}, seconds=0.0, megabytes=0.0)
    refused: Counter[str] = Counter()
    for original in batch["originals"]:
        path, part = Path(original["path"]), tuple(original["part"])
        reader = READERS[batch["kind"]].model_validate(original["fields"])
        reader.read(Source(path, part))
        whole = path.read_bytes()
        for seed in range(batch["files"]):
            # Not always the same name: readers may remember the file they read last.
            damaged = path.with_name(f"{seed}-{path.name}")
            damaged.write_bytes(mutated(whole, random.Random(f"{path.name} {seed}")))
            print(damaged, flush=True)
            begun = time.process_time()
            signal.setitimer(signal.ITIMER_PROF, LONGEST_SECONDS)
            try:
                reader.read(Source(damaged, part))
                report["read"] += 1
            except (ReadError, FileNotFoundError) as error:
                if str(damaged) not in str(error):
                    raise
                refused[type(error.__cause__).__name__ if error.__cause__ else ""] += 1
            signal.setitimer(signal.ITIMER_PROF, 0)
            report["seconds"] = max(report["seconds"], time.process_time() - begun)
            damaged.unlink()
    report["refused"] = dict(refused)
    # Not that of getrusage, which begins with the memory of the process that started this one.
    status = Path("/proc/self/status").read_text(encoding="utf-8")
    report["megabytes"] = int(status.split("VmHWM:")[1].split()[0]) / 1000
    return report


if __name__ == "__main__":
    resource.setrlimit(resource.RLIMIT_AS, (MOST_BYTES, MOST_BYTES))
    print(json.dumps(read_all(json.load(sys.stdin))))
