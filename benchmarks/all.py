"""Run every benchmark of the CPU and write its tables to benchmarks/results, named after the processor and its cores.

About an hour; run it on an otherwise idle machine. A benchmark that fails is reported at the end, and the others still
run.

    uv run --with tonic python benchmarks/all.py                 all
    uv run python benchmarks/all.py neurons model                some
"""

from __future__ import annotations

import argparse
import os
import platform
import re
import subprocess
import sys
import time
from pathlib import Path

FOLDER = Path(__file__).parent
BENCHMARKS: dict[str, tuple[str, ...]] = {
    "neurons": ("neurons.py",),
    "neurons-warm": ("neurons.py", "--warm"),
    "model": ("model.py",),
    "model-2-threads": ("model.py", "--threads", "2"),
    "attention": ("attention.py",),
    "blocks": ("blocks.py",),
    "modalities": ("modalities.py",),
    "packing": ("packing.py",),
    "life": ("life.py",),
    "preparation": ("preparation.py",),
    "published": ("published.py",),
}


def hardware() -> str:
    """Return processor and number of cores for a file's name: `intel-xeon-2-cores`."""
    try:
        text = Path("/proc/cpuinfo").read_text(encoding="utf-8")
    except OSError:
        text = ""
    model = re.search(r"model name\s*: (.*)", text)
    name = model.group(1) if model else platform.processor() or platform.machine()
    # Without marks of trade, clock rate and the word that every name has.
    words = re.sub(r"\(.*?\)|@.*|\b(cpu|processor)\b", " ", name.lower()).split()
    return "-".join([*re.findall(r"[a-z0-9]+", " ".join(words))[:4], str(os.cpu_count()), "cores"])


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", metavar="name", help=f"of {', '.join(BENCHMARKS)}; default: all")
    names: list[str] = parser.parse_args().names or list(BENCHMARKS)
    unknown = [name for name in names if name not in BENCHMARKS]
    if unknown:
        parser.error(f"no such benchmark: {', '.join(unknown)}; there are {', '.join(BENCHMARKS)}")
    load = os.getloadavg()[0]
    if load > 0.5:
        print(f"the load of this machine is {load:.1f}: times will be too long", file=sys.stderr)
    failed = list[str]()
    for name in names:
        output = FOLDER / "results" / f"{name}-{hardware()}.md"
        script, *options = BENCHMARKS[name]
        print(f"== {name} -> {output.relative_to(FOLDER.parent)}", flush=True)
        start = time.monotonic()
        command = [sys.executable, str(FOLDER / script), *options, "--output", str(output)]
        if subprocess.run(command, check=False).returncode:
            failed.append(name)
        print(f"== {name}: {time.monotonic() - start:.0f} s", flush=True)
    if failed:
        print(f"failed: {', '.join(failed)}", file=sys.stderr)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
