"""Time our LIF against SpikingJelly's on a CUDA device, and against what its memory allows.

Three ways to run them: float32; bfloat16 in and out with float32 potentials, SpikingJelly's through its functional
form, which takes such potentials; and bfloat16 as it comes out of a layer under autocast, where SpikingJelly's layer
makes bfloat16 potentials and leaves its kernels. Medians of interleaved rounds between CUDA events. The share of the
copy is the bytes that our kernels have to move, at the speed of `copy_`, over the time they took; it is given for 4 M
elements and more, where starting the kernels no longer counts.

    uv run python benchmarks/gpu.py                       prints the tables
    uv run python benchmarks/gpu.py --output FOLDER       writes them, too, to a file named after the device
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
from snn_core.ops.lif import Save, which_implementation

SHAPES = (
    (4, 32, 64, 64, 64),
    (4, 32, 64, 32, 32),
    (16, 32, 64, 32, 32),
    (64, 8, 64, 32, 32),
    (4, 16, 64, 16, 16),
    (16, 32, 128),
)
WAYS = ("float32", "bfloat16", "autocast")
SAVES: tuple[Save, ...] = ("d32", "d16", "x", "u8")
ROUNDS = 15
LEAST_SECONDS = 0.01
"""A round repeats a candidate until it has run for this long."""
LARGE = 4_000_000
"""Elements from which on the share of the copy's bandwidth is given."""


def seconds(run: Callable[[], object], repeats: int) -> float:
    """Device seconds of one run."""
    start, end = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
    start.record()
    for _ in range(repeats):
        run()
    end.record()
    end.synchronize()
    return start.elapsed_time(end) / 1e3 / repeats


def timed(candidates: dict[str, Callable[[], object]]) -> dict[str, float]:
    """Median device seconds of each candidate, interleaved."""
    repeats: dict[str, int] = {}
    for name, run in candidates.items():
        seconds(run, 3)  # compiles, and fills the allocator
        repeats[name] = max(1, round(LEAST_SECONDS / max(1e-6, seconds(run, 3))))
    durations: dict[str, list[float]] = {name: [] for name in candidates}
    for _ in range(ROUNDS):
        for name, run in candidates.items():
            durations[name].append(seconds(run, repeats[name]))
    return {name: median(values) for name, values in durations.items()}


def peak(run: Callable[[], object]) -> int:
    """Bytes that a run takes on top of what is there, at the most."""
    run()
    torch.cuda.synchronize()
    before = torch.cuda.memory_allocated()
    torch.cuda.reset_peak_memory_stats()
    run()
    torch.cuda.synchronize()
    return torch.cuda.max_memory_allocated() - before


def jelly(way: str) -> Callable[[Tensor], Tensor]:
    """SpikingJelly's layer, or its function on float32 potentials for bfloat16 currents."""
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

    return {"float32": layer, "bfloat16": function, "autocast": autocast}[way]


def bytes_moved(save: Save, size: int, T: int, training: bool) -> float:
    """Bytes that our kernels read and write, an element and time step; `size` is that of a current."""
    potentials = 4 / T  # the last one forward, the first one's gradient backward; rest costs nothing
    if not training:
        return 2 * size + potentials
    saved = {"d32": 4, "d16": 2, "x": 0, "u8": 1}[save]
    # x and spikes, what is saved; then the gradients of both, and what was saved or x. More than 8 steps are run again
    # from x in two sweeps, with potentials stored at every 8th.
    again = 0.0 if save != "x" else size if T <= 8 else 2 * size + 1
    return 2 * size + saved + 2 * size + saved + again + 2 * potentials


def compare(shape: tuple[int, ...], way: str, copy_bytes_per_second: float) -> list[str]:
    """Rows of the table: SpikingJelly, then ours with each save."""
    dtype = torch.float32 if way == "float32" else torch.bfloat16
    generator = torch.Generator(device="cuda").manual_seed(0)
    x = (torch.randn(shape, generator=generator, device="cuda") + 0.3).to(dtype).requires_grad_()
    upstream = torch.randn(shape, generator=generator, device="cuda").to(dtype)
    layers = {"SpikingJelly": jelly(way)} | {f"ours, {save}": LIF(save=save) for save in SAVES}
    theirs = layers["SpikingJelly"](x)
    differing = float((theirs.float() != layers["ours, d32"](x).float()).float().mean())
    assert way == "autocast" or differing < 1e-5, f"{differing:.1e} of the spikes differ; their times say nothing"

    def train(layer: Callable[[Tensor], Tensor]) -> Callable[[], object]:
        return lambda: torch.autograd.grad(layer(x), x, upstream)

    def infer(layer: Callable[[Tensor], Tensor]) -> Callable[[], object]:
        def run() -> None:
            with torch.no_grad():
                layer(x)

        return run

    trained = timed({name: train(layer) for name, layer in layers.items()})
    inferred = timed({name: infer(layer) for name, layer in layers.items()})
    rows = list[str]()
    for name, layer in layers.items():
        share = ""
        if name != "SpikingJelly" and x.numel() >= LARGE:
            save: Save = next(save for save in SAVES if name.endswith(save))
            shares = (
                bytes_moved(save, x.element_size(), len(x), training) * x.numel() / copy_bytes_per_second / took[name]
                for training, took in ((True, trained), (False, inferred))
            )
            share = " / ".join(f"{value:.0%}" for value in shares)
        cells = [
            f"{list(shape)} {way}",
            name,
            f"{trained[name] * 1e6:.0f}",
            f"{trained['SpikingJelly'] / trained[name]:.2f}",
            f"{inferred[name] * 1e6:.0f}",
            f"{inferred['SpikingJelly'] / inferred[name]:.2f}",
            share,
            f"{peak(train(layer)) / x.numel():.1f}",
            f"{differing:.1e}",
        ]
        rows.append("| " + " | ".join(cells) + " |")
    return rows


def copy_speed() -> float:
    """Bytes a second that `copy_` reads and writes together, on 256 MiB."""
    source, target = (torch.zeros(1 << 26, device="cuda") for _ in range(2))
    return 2 * source.nbytes / timed({"copy": lambda: target.copy_(source)})["copy"]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output", type=Path, help="also write the tables to a file in this folder")
    options = parser.parse_args()
    if not torch.cuda.is_available():
        sys.exit("PyTorch finds no CUDA device, and this benchmark is about one; run it where `nvidia-smi` lists one")
    chosen = which_implementation(torch.zeros(1, 1, device="cuda"))
    if chosen.implementation != "triton":
        sys.exit(f"this benchmark is about the Triton kernels, but they do not run: {chosen.reason}")
    device, speed = torch.cuda.get_device_name(), copy_speed()
    lines = [
        f"# LIF on {device}",
        "",
        f"PyTorch {torch.__version__}; `copy_` moves {speed / 1e9:.0f} GB/s. Microseconds of one layer, forward and "
        f"backward (f+b) and forward alone; ratios above 1 mean that ours is faster; shares are f+b / forward; peak "
        "bytes are those of f+b, an element and time step; the last column is the share of spikes that differ.",
        "",
        "| currents | neuron | f+b us | ratio | forward us | ratio | share of copy | peak B | differ |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    print("\n".join(lines))
    for way in WAYS:
        for shape in SHAPES:
            rows = compare(shape, way, speed)
            lines += rows
            print("\n".join(rows), flush=True)
    if options.output:
        name = re.sub(r"[^a-z0-9]+", "-", device.lower()).strip("-")
        (options.output / f"gpu-{name}.md").write_text("\n".join(lines) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
