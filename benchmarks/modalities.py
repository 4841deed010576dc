"""Cost of each additional modality: parameters, time and memory of the fusion part for 1 to 8 modalities.

Only the fusion part (without encoders and readout), forward and backward in training mode, thread CPU time, medians,
all candidates of a row interleaved. The exponent is fitted to the times of 2 to 8 modalities: 2 means that time grows
with the square of their number. The peak is the largest amount of live tensor memory during forward and backward:
results, saved tensors and gradients, without the tokens and parameters that existed before. It counts bytes of tensors,
so it is the same in every run.

    uv run python benchmarks/modalities.py                       prints the table
    uv run python benchmarks/modalities.py --output FILE.md      also writes it
"""

from __future__ import annotations

import argparse
import math
import platform
from collections.abc import Callable
from pathlib import Path

import torch
from attention import peak
from timing import measure
from torch import Tensor

from snn_fusion import METHODS, LIFSpec
from snn_fusion.methods.base import FusionMethod

T, B, N, C, HEADS = 4, 16, 64, 64, 16
COUNTS = (1, 2, 3, 4, 6, 8)
ROUNDS = 7
CANDIDATES: tuple[tuple[str, dict[str, object]], ...] = (
    ("ccssa, sharing pair", {"kind": "ccssa", "sharing": "pair"}),
    ("ccssa, sharing source", {"kind": "ccssa", "sharing": "source"}),
    ("ccssa, sharing all", {"kind": "ccssa", "sharing": "all"}),
    ("ccssa, sharing pair, ring", {"kind": "ccssa", "topology": "ring"}),
    ("ccssa, sharing pair, star", {"kind": "ccssa", "topology": "star:m0"}),
    ("qk", {"kind": "qk"}),
)


def method_of(fields: dict[str, object], modalities: int) -> FusionMethod:
    names = [f"m{i}" for i in range(modalities)]
    torch.manual_seed(0)
    spec = METHODS.parse({**fields, "num_heads": HEADS})
    return spec.build(dict.fromkeys(names, N), channels=C, neuron=LIFSpec())


def tokens_of(modalities: int) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(1)
    return {f"m{i}": (torch.rand(T, B, N, C, generator=generator) < 0.2).float() for i in range(modalities)}


def step(method: FusionMethod, tokens: dict[str, Tensor]) -> Callable[[], None]:
    """Return one forward and backward pass of the fusion part; the tokens require gradients, as an encoder's do."""

    def run() -> None:
        leaves = {name: x.requires_grad_() for name, x in tokens.items()}
        fused = method(dict(leaves)).tokens
        loss = torch.stack([x.mean() for x in fused.values()]).sum()
        loss.backward()
        for leaf in leaves.values():
            leaf.grad = None
        method.zero_grad()

    return run


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output", type=Path, help="also write the table to this file")
    options = parser.parse_args()
    torch.set_num_threads(1)
    seconds: dict[str, dict[int, float]] = {name: {} for name, _ in CANDIDATES}
    parameters: dict[str, dict[int, int]] = {name: {} for name, _ in CANDIDATES}
    memory: dict[str, dict[int, float]] = {name: {} for name, _ in CANDIDATES}
    for count in COUNTS:
        runs: dict[str, Callable[[], None]] = {}
        for name, fields in CANDIDATES:
            method, tokens = method_of(fields, count), tokens_of(count)
            parameters[name][count] = sum(p.numel() for p in method.parameters())
            runs[name] = step(method, tokens)
            existing = [*tokens.values(), *method.parameters(), *method.buffers()]
            memory[name][count] = peak(runs[name], *existing) / 1e6
        # A single modality has no source.
        for name, value in (measure(runs, rounds=ROUNDS) if count > 1 else dict.fromkeys(runs, 0.0)).items():
            seconds[name][count] = value
    lines = [
        "# Cost of each additional modality",
        "",
        f"Only the fusion part, T = {T}, B = {B}, {N} tokens of width {C} per modality, {HEADS} heads; PyTorch "
        f"{torch.__version__}, {platform.machine()}, one thread, medians of {ROUNDS} interleaved "
        "rounds of thread CPU time; MB are the peak of live tensors without tokens and parameters.",
        "",
    ]
    for title, unit, values, form in (
        ("Forward and backward", "ms", {n: {c: s * 1e3 for c, s in of.items()} for n, of in seconds.items()}, ".1f"),
        ("Peak", "MB", memory, ".1f"),
        ("Parameters", "thousands", {n: {c: p / 1e3 for c, p in of.items()} for n, of in parameters.items()}, ".1f"),
    ):
        extra = ["2 to 4", "exponent"] if unit == "ms" else []
        lines += [f"## {title} ({unit})", ""]
        lines.append("| method | " + " | ".join([*map(str, COUNTS), *extra]) + " |")
        lines.append("|---" * (len(COUNTS) + len(extra) + 1) + "|")
        for name, of in values.items():
            cells = [format(of[count], form) for count in COUNTS]
            if extra:
                cells += [f"{of[4] / of[2]:.2f} times", f"{exponent(of):.2f}"]
            lines.append(f"| {name} | " + " | ".join(cells) + " |")
        lines.append("")
    print("\n".join(lines))
    if options.output:
        options.output.write_text("\n".join(lines), encoding="utf-8")


def exponent(times: dict[int, float]) -> float:
    """Return the slope of log time over log modalities, from 2 on."""
    points = [(math.log(count), math.log(value)) for count, value in times.items() if count > 1]
    x_mean = sum(x for x, _ in points) / len(points)
    y_mean = sum(y for _, y in points) / len(points)
    return sum((x - x_mean) * (y - y_mean) for x, y in points) / sum((x - x_mean) ** 2 for x, _ in points)


if __name__ == "__main__":
    main()
