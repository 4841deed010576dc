"""Compare our LIF with SpikingJelly's on a CUDA device, and with its memory bandwidth.

Three modes: float32; bfloat16 in and out with float32 potentials, SpikingJelly's through its functional form, which
supports such potentials; and bfloat16 from a layer under autocast, where SpikingJelly's layer creates bfloat16
potentials and does not use its kernels. Medians of interleaved rounds between CUDA events. The fraction of the copy
bandwidth is the time to move the necessary bytes at the speed of `copy_` over the measured time; it is given from 4 M
elements on, where launch overhead is negligible.

    uv run python benchmarks/gpu.py                       prints the tables
    uv run python benchmarks/gpu.py --output FOLDER       also writes them to a file named after the device
"""

from __future__ import annotations

import argparse
import re
import sys
from collections.abc import Callable
from pathlib import Path
from statistics import median

import torch
from torch import Tensor

from snn_core import LIF
from snn_core.ops.common.call import Save
from snn_core.ops.lif import which_implementation

SHAPES = (
    (4, 32, 64, 64, 64),
    (4, 32, 64, 32, 32),
    (16, 32, 64, 32, 32),
    (64, 8, 64, 32, 32),
    (4, 16, 64, 16, 16),
    (16, 32, 128),
)
MODES = ("float32", "bfloat16", "autocast")
SAVES: tuple[Save, ...] = ("d32", "d16", "x", "u8")
ROUNDS = 15
MIN_SECONDS = 0.01
"""A round repeats a candidate until it has run for this long."""
LARGE = 4_000_000
"""Elements from which on the fraction of the copy bandwidth is given."""


def seconds(run: Callable[[], object], repeats: int) -> float:
    """Return device seconds of one run."""
    start, end = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
    start.record()
    for _ in range(repeats):
        run()
    end.record()
    end.synchronize()
    return start.elapsed_time(end) / 1e3 / repeats


def measure(candidates: dict[str, Callable[[], object]]) -> dict[str, float]:
    """Return the median device seconds of each candidate, interleaved."""
    repeats: dict[str, int] = {}
    for name, run in candidates.items():
        seconds(run, 3)  # compiles, and fills the allocator
        repeats[name] = max(1, round(MIN_SECONDS / max(1e-6, seconds(run, 3))))
    rounds: dict[str, list[float]] = {name: [] for name in candidates}
    for _ in range(ROUNDS):
        for name, run in candidates.items():
            rounds[name].append(seconds(run, repeats[name]))
    return {name: median(values) for name, values in rounds.items()}


def peak(run: Callable[[], object]) -> int:
    """Return the peak of the bytes that a run allocates."""
    run()
    torch.cuda.synchronize()
    before = torch.cuda.memory_allocated()
    torch.cuda.reset_peak_memory_stats()
    run()
    torch.cuda.synchronize()
    return torch.cuda.max_memory_allocated() - before


def jelly(mode: str) -> Callable[[Tensor], Tensor]:
    """Return SpikingJelly's layer, or its function with float32 potentials for bfloat16 currents."""
    from spikingjelly.activation_based import functional, neuron, surrogate

    bump = surrogate.Sigmoid(4.0)
    node = neuron.LIFNode(tau=2.0, detach_reset=True, surrogate_function=bump, step_mode="m")

    def layer(x: Tensor) -> Tensor:
        functional.reset_net(node)
        return node(x)

    def function(x: Tensor) -> Tensor:
        v = torch.zeros(x.shape[1:], device=x.device)
        return functional.lif_multi_step(x, v, tau=2.0, surrogate_function=bump, detach_reset=True)[0]

    def autocast(x: Tensor) -> Tensor:
        with torch.autocast("cuda", torch.bfloat16):
            return layer(x)

    return {"float32": layer, "bfloat16": function, "autocast": autocast}[mode]


def bytes_moved(save: Save, size: int, T: int, training: bool) -> float:
    """Return the bytes that our kernels read and write per element and time step; `size` is that of a current."""
    potentials = 4 / T  # the last one forward, the gradient of the first one backward; rest costs nothing
    if not training:
        return 2 * size + potentials
    saved = {"d32": 4, "d16": 2, "x": 0, "u8": 1}[save]
    # x, spikes and saved tensor; then the gradients of both, and the saved tensor or x. More than 8 steps are
    # recomputed from x in two sweeps, with potentials stored at every 8th.
    again = 0.0 if save != "x" else size if T <= 8 else 2 * size + 1
    return 2 * size + saved + 2 * size + saved + again + 2 * potentials


def compare(shape: tuple[int, ...], mode: str, copy_bytes_per_second: float) -> list[str]:
    """Return rows of the table: SpikingJelly, then ours with each save."""
    dtype = torch.float32 if mode == "float32" else torch.bfloat16
    generator = torch.Generator(device="cuda").manual_seed(0)
    x = (torch.randn(shape, generator=generator, device="cuda") + 0.3).to(dtype).requires_grad_()
    upstream = torch.randn(shape, generator=generator, device="cuda").to(dtype)
    layers = {"SpikingJelly": jelly(mode)} | {f"ours, {save}": LIF(save=save) for save in SAVES}
    theirs = layers["SpikingJelly"](x)
    differing = float((theirs.float() != layers["ours, d32"](x).float()).float().mean())
    assert mode == "autocast" or differing < 1e-5, f"{differing:.1e} of the spikes differ; times are not comparable"

    def train(layer: Callable[[Tensor], Tensor]) -> Callable[[], object]:
        return lambda: torch.autograd.grad(layer(x), x, upstream)

    def infer(layer: Callable[[Tensor], Tensor]) -> Callable[[], object]:
        def run() -> None:
            with torch.no_grad():
                layer(x)

        return run

    trained = measure({name: train(layer) for name, layer in layers.items()})
    inferred = measure({name: infer(layer) for name, layer in layers.items()})
    rows = list[str]()
    for name, layer in layers.items():
        fraction = ""
        if name != "SpikingJelly" and x.numel() >= LARGE:
            save: Save = next(save for save in SAVES if name.endswith(save))
            fractions = (
                bytes_moved(save, x.element_size(), len(x), training) * x.numel() / copy_bytes_per_second / took[name]
                for training, took in ((True, trained), (False, inferred))
            )
            fraction = " / ".join(f"{value:.0%}" for value in fractions)
        cells = [
            f"{list(shape)} {mode}",
            name,
            f"{trained[name] * 1e6:.0f}",
            f"{trained['SpikingJelly'] / trained[name]:.2f}",
            f"{inferred[name] * 1e6:.0f}",
            f"{inferred['SpikingJelly'] / inferred[name]:.2f}",
            fraction,
            f"{peak(train(layer)) / x.numel():.1f}",
            f"{differing:.1e}",
        ]
        rows.append("| " + " | ".join(cells) + " |")
    return rows


def copy_speed() -> float:
    """Return the bytes per second that `copy_` reads and writes, on 256 MiB."""
    source, target = (torch.zeros(1 << 26, device="cuda") for _ in range(2))
    return 2 * source.nbytes / measure({"copy": lambda: target.copy_(source)})["copy"]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output", type=Path, help="also write the tables to a file in this folder")
    options = parser.parse_args()
    if not torch.cuda.is_available():
        sys.exit("PyTorch finds no CUDA device, which this benchmark needs; run it where `nvidia-smi` lists one")
    choice = which_implementation(torch.zeros(1, 1, device="cuda"))
    if choice.implementation != "triton":
        sys.exit(f"this benchmark needs the Triton kernels, but they cannot run: {choice.reason}")
    device, speed = torch.cuda.get_device_name(), copy_speed()
    lines = [
        f"# LIF on {device}",
        "",
        f"PyTorch {torch.__version__}; `copy_` moves {speed / 1e9:.0f} GB/s. Microseconds of one layer, forward and "
        f"backward (f+b) and forward alone; ratios above 1 mean that ours is faster; fractions of the copy "
        "are f+b / forward; peak bytes are those of f+b, per element and time step; the last column is the fraction of "
        "spikes that differ.",
        "",
        "| currents | neuron | f+b us | ratio | forward us | ratio | fraction of copy | peak B | differ |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    print("\n".join(lines))
    for mode in MODES:
        for shape in SHAPES:
            rows = compare(shape, mode, speed)
            lines += rows
            print("\n".join(rows), flush=True)
    if options.output:
        name = re.sub(r"[^a-z0-9]+", "-", device.lower()).strip("-")
        (options.output / f"gpu-{name}.md").write_text("\n".join(lines) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
