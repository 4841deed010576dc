"""Compare our LIF, in PyTorch and in C, with SpikingJelly's: forward plus backward, forward alone, bytes saved.

One process, one thread, thread CPU time, all candidates interleaved, medians. Every row includes `copy_` of the same
tensor, the bound set by memory. Run on an otherwise idle machine:

    uv run python benchmarks/neurons.py                      prints the tables
    uv run python benchmarks/neurons.py --output FILE.md     also writes them
    uv run python benchmarks/neurons.py --warm               with an allocator that keeps freed memory, which avoids
                                                             page faults
"""

from __future__ import annotations

import argparse
import ctypes
import os
import platform
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from statistics import geometric_mean
from typing import Literal

import torch
from spikingjelly.activation_based import functional, neuron
from spikingjelly.activation_based import surrogate as jelly_surrogate
from timing import ROUNDS, measure
from torch import Tensor

from snn_core import LIF

SHAPES = ((4, 32, 64, 32, 32), (16, 8, 64, 32, 32), (4, 16, 64, 16, 16), (4, 8, 16, 8, 8), (4, 32, 128))
SURROGATES = (("sigmoid", 4.0), ("atan", 2.0))
OURS: tuple[Literal["torch", "native"], ...] = ("torch", "native")
BYTES = 20
"""Bytes that forward plus backward move per element and time step: x, spikes, and three tensors of the backward."""

FIRST_RESULT = """
import sys, time, torch
torch.set_num_threads(1)
method, T, B = sys.argv[1], 4, 8
if method == "native":
    from snn_core import LIF
    layer = LIF(implementation="native")
else:
    from snn_core.ops.lif.reference import lif_reference
    from snn_core import SURROGATES
    def plain(x):
        v = torch.zeros(x.shape[1:])
        return lif_reference(x, v, tau=2.0, v_threshold=1.0, v_reset=0.0, decay_input=True, detach_reset=True,
                             detach_membrane=False, surrogate=SURROGATES["sigmoid"], slope=4.0)[0]
    layer = torch.compile(plain)
seconds = []
for T, B in ((4, 8), (4, 16), (4, 5), (8, 8), (8, 16), (16, 8), (16, 4), (5, 8)):
    x = torch.randn(T, B, 64, requires_grad=True)
    start = time.perf_counter()
    layer(x).sum().backward()
    seconds.append(time.perf_counter() - start)
print(*seconds)
"""


def bytes_saved(layer: Callable[[Tensor], Tensor], x: Tensor) -> int:
    """Return the bytes that autograd saves for the backward, each storage once."""
    sizes: dict[int, int] = {}

    def pack(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        sizes[storage.data_ptr()] = storage.nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        output = layer(x)
    assert output.requires_grad
    return sum(sizes.values())


def compare(shape: tuple[int, ...], surrogate: str, slope: float, ratios: dict[str, list[float]]) -> str:
    """Return one row of the table and add its ratios."""
    bump = jelly_surrogate.Sigmoid(slope) if surrogate == "sigmoid" else jelly_surrogate.ATan(slope)
    node = neuron.LIFNode(tau=2.0, detach_reset=True, surrogate_function=bump, step_mode="m")

    def theirs(x: Tensor) -> Tensor:
        functional.reset_net(node)
        return node(x)

    layers: dict[str, Callable[[Tensor], Tensor]] = {"theirs": theirs}
    for implementation in OURS:
        layers[implementation] = LIF(surrogate=surrogate, slope=slope, implementation=implementation)
    generator = torch.Generator().manual_seed(0)
    x = (torch.randn(shape, generator=generator) + 0.3).requires_grad_()
    upstream, target, source = torch.randn(shape, generator=generator), torch.empty(shape), x.detach()
    expected = theirs(x)
    assert all(torch.equal(layer(x), expected) for layer in layers.values()), "spikes differ; times are not comparable"

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

    candidates: dict[str, Callable[[], object]] = {"copy": lambda: target.copy_(source)}
    for name, layer in layers.items():
        candidates[name], candidates[f"{name} forward"] = train(layer), infer(layer)
    seconds = measure(candidates)
    n = x.numel()
    ns = {name: value / n * 1e9 for name, value in seconds.items()}
    cells = [f"{list(shape)} {surrogate}", f"{ns['copy']:.2f}"]
    for part in ("", " forward"):
        cells.append(f"{ns['theirs' + part]:.1f}")
        for name in OURS:
            ratio = seconds["theirs" + part] / seconds[name + part]
            ratios.setdefault(name + part, []).append(ratio)
            cells.append(f"{ns[name + part]:.2f} ({ratio:.2f})")
    share = BYTES / 8 * ns["copy"] / ns["native"]
    cells += [f"{share:.0%}", f"{bytes_saved(theirs, x) / n:.1f}", f"{bytes_saved(layers['native'], x) / n:.1f}"]
    return "| " + " | ".join(cells) + " |"


def first_results() -> list[str]:
    """Return rows of wall seconds to the first result and for seven more (T, batch) pairs, in a fresh cache."""
    lines = ["| | first result s | largest of 7 further (T, batch) pairs s |", "|---|---|---|"]
    for method in ("native", "torch.compile"):
        with tempfile.TemporaryDirectory() as cache:
            variables = {**os.environ, "SNN_CORE_CACHE": cache, "TORCHINDUCTOR_CACHE_DIR": cache}
            command = [sys.executable, "-c", FIRST_RESULT, method]
            completed = subprocess.run(command, env=variables, capture_output=True, text=True, check=True)
            first, *others = map(float, completed.stdout.split())
        lines.append(f"| {method} | {first:.2f} | {max(others):.4f} |")
    return lines


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output", type=Path, help="also write the tables to this file")
    parser.add_argument("--warm", action="store_true", help="keep freed memory in the process (glibc)")
    options = parser.parse_args()
    torch.set_num_threads(1)
    if options.warm:
        libc = ctypes.CDLL(None)
        assert libc.mallopt(-3, 1 << 30), "mmap threshold"
        assert libc.mallopt(-1, 2**31 - 1), "trim threshold"
    state = "freed memory kept in the process" if options.warm else "default allocator"
    lines = [
        "# LIF against SpikingJelly",
        "",
        f"PyTorch {torch.__version__}, {platform.machine()}, one thread, {state}; ns and bytes are per element and "
        f"time step; medians of {ROUNDS} interleaved rounds of thread CPU time. In brackets: speedup over "
        f"SpikingJelly. The fraction of copy bandwidth is that of native, at {BYTES} bytes forward plus backward.",
        "",
        "| shape and surrogate | copy | theirs f+b | torch f+b | native f+b | theirs fwd | torch fwd | native fwd "
        "| bandwidth | theirs saved B | ours saved B |",
        "|---" * 11 + "|",
    ]
    print("\n".join(lines))
    ratios: dict[str, list[float]] = {}
    for surrogate, slope in SURROGATES:
        for shape in SHAPES:
            lines.append(compare(shape, surrogate, slope, ratios))
            print(lines[-1], flush=True)
    means = ", ".join(
        f"{name} {'' if 'forward' in name else 'f+b '}{geometric_mean(values):.2f} (min {min(values):.2f})"
        for name, values in ratios.items()
    )
    tail = ["", f"Geometric means of the ratios: {means}.", ""]
    if not options.warm:
        tail += first_results()
    print("\n".join(tail))
    if options.output:
        options.output.write_text("\n".join([*lines, *tail]) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
