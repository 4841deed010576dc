"""Measure time and peak memory of spiking attention in its two orders, scores first and state first.

One process, one thread, thread CPU time, both interleaved, medians. The peak counts live tensors without the inputs.
Run on an otherwise idle machine:

    uv run python benchmarks/attention.py                     prints the table
    uv run python benchmarks/attention.py --output FILE.md    also writes it
"""

from __future__ import annotations

import argparse
import platform
import weakref
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

import torch
from timing import ROUNDS, measure
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from snn_core import spiking_attention

SIZES = ((64, 16, (4, 16, 8)), (196, 32, (4, 8, 8)), (1024, 32, (4, 2, 4)))
"""Tokens N, width d of a head, and T, B and heads."""
RATE = 0.3


class PeakMemory(TorchDispatchMode):
    """Track bytes of live storages that were created within the block, and their peak."""

    def __init__(self, *inputs: Tensor) -> None:
        super().__init__()
        self.known = {x.untyped_storage()._cdata for x in inputs}
        self.alive = self.peak = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        for x in tree_leaves(result):
            if isinstance(x, Tensor) and x.untyped_storage()._cdata not in self.known:
                storage = x.untyped_storage()
                self.known.add(storage._cdata)
                self.alive += storage.nbytes()
                weakref.finalize(storage, self.forget, storage._cdata, storage.nbytes())
        self.peak = max(self.peak, self.alive)
        return result

    def forget(self, key: int, size: int) -> None:
        """Remove a freed storage."""
        self.known.discard(key)
        self.alive -= size


def peak(run: Callable[[], object], *inputs: Tensor) -> int:
    with PeakMemory(*inputs) as memory:
        run()
    return memory.peak


Order = Literal["scores_first", "state_first"]
ORDERS: tuple[Order, ...] = ("scores_first", "state_first")


def compare(n: int, d: int, leading: tuple[int, int, int]) -> str:
    """Return one row of the table."""
    q, k, v = ((torch.rand(*leading, n, d) < RATE).float().requires_grad_() for _ in range(3))
    upstream = torch.randn(*leading, n, d)
    assert torch.equal(*(spiking_attention(q, k, v, order=order) for order in ORDERS))

    def forward(order: Order) -> Callable[[], object]:
        def run() -> None:
            with torch.no_grad():
                spiking_attention(q, k, v, order=order)

        return run

    def train(order: Order) -> Callable[[], object]:
        return lambda: torch.autograd.grad(spiking_attention(q, k, v, order=order), (q, k, v), upstream)

    runs = {f"{kind.__name__} {order}": kind(order) for kind in (forward, train) for order in ORDERS}
    seconds, peaks = measure(runs), {name: peak(run, q, k, v, upstream) for name, run in runs.items()}
    cells = [f"({n}, {d}), {'x'.join(map(str, leading))}"]
    for kind in ("forward", "train"):
        first, second = f"{kind} scores_first", f"{kind} state_first"
        cells += [f"{seconds[name] * 1e3:.2f}" for name in (first, second)] + [
            f"{seconds[first] / seconds[second]:.1f}"
        ]
        cells += [f"{peaks[name] / 1e6:.1f}" for name in (first, second)] + [f"{peaks[first] / peaks[second]:.1f}"]
    return "| " + " | ".join(cells) + " |"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output", type=Path, help="also write the table to this file")
    options = parser.parse_args()
    torch.set_num_threads(1)
    torch.manual_seed(0)
    columns = [f"{part} {order}" for part in ("ms", "MB") for order in ("scores", "state", "ratio")]
    lines = [
        "# Spiking attention: scores first or state first",
        "",
        f"PyTorch {torch.__version__}, {platform.machine()}, float32, one thread; medians of {ROUNDS} interleaved "
        "rounds of thread CPU time; MB are the peak of live tensors without the inputs. In all rows, "
        '`order="auto"` chooses the state.',
        "",
        "| (N, d), T x B x heads | " + " | ".join([*columns, *(f"f+b {name}" for name in columns)]) + " |",
        "|---" * 13 + "|",
    ]
    print("\n".join(lines))
    for size in SIZES:
        lines.append(compare(*size))
        print(lines[-1], flush=True)
    if options.output:
        options.output.write_text("\n".join(lines) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
