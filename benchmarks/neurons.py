"""Time our LIF against SpikingJelly's: forward plus backward, forward alone, bytes kept for the backward.

One process, one thread, thread CPU time, all candidates interleaved, medians. Every row names the same run's `copy_` of
the same tensor, which is what memory allows. Run on an otherwise idle machine:

    uv run python benchmarks/neurons.py                     prints the table
    uv run python benchmarks/neurons.py --out FILE.md       writes it, too
"""

from __future__ import annotations

import argparse
import platform
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median

import torch
from spikingjelly.activation_based import functional, neuron
from spikingjelly.activation_based import surrogate as jelly_surrogate
from torch import Tensor

from snn_core import LIF
from snn_core.ops.lif import Implementation

SHAPES = ((4, 32, 64, 32, 32), (16, 8, 64, 32, 32), (4, 16, 64, 16, 16), (4, 8, 16, 8, 8), (4, 32, 128))
SURROGATES = (("sigmoid", 4.0), ("atan", 2.0))
ROUNDS = 9
LEAST_SECONDS = 0.02
"""A round repeats a candidate until it has run for this long."""


def timed(candidates: dict[str, Callable[[], object]]) -> dict[str, float]:
    """Median thread CPU seconds of each candidate, interleaved."""
    repeats: dict[str, int] = {}
    for name, run in candidates.items():
        run()
        start = time.thread_time()
        run()
        repeats[name] = max(1, round(LEAST_SECONDS / max(1e-6, time.thread_time() - start)))
    seconds: dict[str, list[float]] = {name: [] for name in candidates}
    for _ in range(ROUNDS):
        for name, run in candidates.items():
            start = time.thread_time()
            for _ in range(repeats[name]):
                run()
            seconds[name].append((time.thread_time() - start) / repeats[name])
    return {name: median(values) for name, values in seconds.items()}


def bytes_kept(layer: Callable[[Tensor], Tensor], x: Tensor) -> int:
    """Bytes of all tensors that autograd keeps for the backward, each storage once."""
    kept: dict[int, int] = {}

    def pack(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        kept[storage.data_ptr()] = storage.nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        output = layer(x)
    assert output.requires_grad
    return sum(kept.values())


def compare(shape: tuple[int, ...], surrogate: str, slope: float, implementation: Implementation) -> str:
    """One row of the table."""
    ours = LIF(surrogate=surrogate, slope=slope, implementation=implementation)
    bump = jelly_surrogate.Sigmoid(slope) if surrogate == "sigmoid" else jelly_surrogate.ATan(slope)
    node = neuron.LIFNode(tau=2.0, detach_reset=True, surrogate_function=bump, step_mode="m")

    def theirs(x: Tensor) -> Tensor:
        functional.reset_net(node)
        return node(x)

    generator = torch.Generator().manual_seed(0)
    x = (torch.randn(shape, generator=generator) + 0.3).requires_grad_()
    upstream, target, source = torch.randn(shape, generator=generator), torch.empty(shape), x.detach()
    assert torch.equal(ours(x), theirs(x)), "the two disagree; their times say nothing"

    def train(layer: Callable[[Tensor], Tensor]) -> Callable[[], None]:
        def run() -> None:
            x.grad = None
            layer(x).backward(upstream)

        return run

    def infer(layer: Callable[[Tensor], Tensor]) -> Callable[[], None]:
        def run() -> None:
            with torch.no_grad():
                layer(x)

        return run

    took = timed(
        {
            "copy": lambda: target.copy_(source),
            "ours": train(ours),
            "theirs": train(theirs),
            "ours forward": infer(ours),
            "theirs forward": infer(theirs),
        }
    )
    n = x.numel()
    nanoseconds = {name: seconds / n * 1e9 for name, seconds in took.items()}
    cells = [
        f"{list(shape)} {surrogate}",
        f"{nanoseconds['copy']:.2f}",
        f"{nanoseconds['theirs']:.1f}",
        f"{nanoseconds['ours']:.1f}",
        f"{took['theirs'] / took['ours']:.2f}",
        f"{nanoseconds['theirs forward']:.1f}",
        f"{nanoseconds['ours forward']:.1f}",
        f"{took['theirs forward'] / took['ours forward']:.2f}",
        f"{bytes_kept(theirs, x) / n:.1f}",
        f"{bytes_kept(ours, x) / n:.1f}",
    ]
    return "| " + " | ".join(cells) + " |"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, help="also write the table to this file")
    parser.add_argument("--implementation", default="native")
    options = parser.parse_args()
    torch.set_num_threads(1)
    lines = [
        "# LIF against SpikingJelly",
        "",
        f"PyTorch {torch.__version__}, {platform.machine()}, one thread; ns and bytes are per element and time step; "
        f"medians of {ROUNDS} interleaved rounds of thread CPU time. Ratios above 1 mean that ours is faster.",
        "",
        "| shape and surrogate | copy ns | theirs f+b ns | ours f+b ns | ratio | theirs fwd ns | ours fwd ns | ratio "
        "| theirs kept B | ours kept B |",
        "|---|---|---|---|---|---|---|---|---|---|",
    ]
    print("\n".join(lines))
    for surrogate, slope in SURROGATES:
        for shape in SHAPES:
            lines.append(compare(shape, surrogate, slope, options.implementation))
            print(lines[-1], flush=True)
    if options.out:
        options.out.write_text("\n".join(lines) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
