"""Compare packing spikes into bits with SpikingJelly's, and measure memory and time of `spikes_as_bits` in training.

One process, one thread, thread CPU time, all candidates interleaved, medians. `copy_` writes to mapped memory, `clone`
and `unpack` to fresh memory, whose pages the system must clear first. Run on an otherwise idle machine:

    uv run python benchmarks/packing.py                     prints the tables
    uv run python benchmarks/packing.py --output FILE.md    also writes them
"""

from __future__ import annotations

import argparse
import platform
from contextlib import nullcontext
from pathlib import Path
from typing import cast

import torch
from spikingjelly.activation_based import functional
from spikingjelly.activation_based.memopt import BitSpikeCompressor
from timing import ROUNDS, measure
from torch import Tensor, nn

from snn_core import SpikingConv2d, SpikingLinear
from snn_core.packing import bits_if_binary, pack_if_binary, pack_spikes, restore, spikes_as_bits, unpack_spikes

ELEMENTS = 1 << 23
RATE = 0.2


def packing(dtype: torch.dtype) -> str:
    """Return one row: ns per element of each operation on 8.4 M spikes."""
    x = (torch.rand(ELEMENTS) < RATE).to(dtype)
    target, compressor = torch.empty_like(x), BitSpikeCompressor()
    packed, payload = pack_spikes(x), compressor.compress(x)
    jelly_bits = cast("tuple[torch.Tensor, ...]", payload)[0]
    assert torch.equal(packed.bits, jelly_bits), "packed bits differ; times are not comparable"
    assert torch.equal(unpack_spikes(packed), x)
    seconds = measure(
        {
            "copy": lambda: target.copy_(x),
            "clone": x.clone,
            "pack": lambda: pack_spikes(x),
            "exact": lambda: bits_if_binary(x),
            "unpack": lambda: unpack_spikes(packed),
            "operation's pack": lambda: functional.bit_spike_compress(x),
            "operation's unpack": lambda: functional.bit_spike_decompress(packed.bits, x.shape, dtype),
            "compressor's pack": lambda: compressor.compress(x),
            "compressor's unpack": lambda: compressor.decompress(payload),
        }
    )
    cells = [str(dtype).removeprefix("torch."), *(f"{value / ELEMENTS * 1e9:.2f}" for value in seconds.values())]
    cells += [f"{seconds[name] / seconds['copy']:.2f}" for name in ("pack", "unpack")]
    cells += [
        f"{seconds[their] / seconds[ours]:.1f}"
        for their, ours in (("operation's pack", "pack"), ("operation's unpack", "unpack"))
    ]
    return "| " + " | ".join(cells) + " |"


def saved_bytes(model: nn.Module, x: Tensor, *, packed: bool) -> int:
    """Return the bytes that autograd saves for the backward, each storage once, without parameters."""
    storages, alive = dict[int, int](), list[object]()
    parameters = {p.untyped_storage().data_ptr() for p in model.parameters()}

    def save(tensor: Tensor) -> object:
        saved = pack_if_binary(tensor) if packed else tensor
        alive.append(saved)  # prevents reuse of an address
        storage = (saved if isinstance(saved, Tensor) else saved.memory.bits).untyped_storage()
        storages[storage.data_ptr()] = storage.nbytes()
        return saved

    with torch.autograd.graph.saved_tensors_hooks(save, restore):
        model(x)
    return sum(size for address, size in storages.items() if address not in parameters)


def training(name: str, model: nn.Sequential, x: Tensor) -> str:
    """Return one row: bytes saved per neuron and time step, and time of a training step, without and with bits."""
    elements = len(model) * x.numel()

    def step(packed: bool) -> None:
        model.zero_grad()
        with spikes_as_bits() if packed else nullcontext():
            out = model(x)
        out.sum().backward()

    seconds = measure({"plain": lambda: step(False), "bits": lambda: step(True)})
    plain, bits = (saved_bytes(model, x, packed=packed) / elements for packed in (False, True))
    cells = [name, f"{plain:.2f}", f"{bits:.2f}", *(f"{value * 1e3:.0f}" for value in seconds.values())]
    return "| " + " | ".join([*cells, f"{seconds['bits'] / seconds['plain']:.2f}"]) + " |"


def spikes(*shape: int) -> Tensor:
    return (torch.rand(shape) < RATE).float()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output", type=Path, help="also write the tables to this file")
    options = parser.parse_args()
    torch.set_num_threads(1)
    torch.manual_seed(0)
    lines = [
        "# Spikes as bits",
        "",
        f"PyTorch {torch.__version__}, {platform.machine()}, one thread; medians of {ROUNDS} interleaved rounds of "
        f"thread CPU time; a fraction of {RATE} of the elements are spikes.",
        "",
        f"## Packing {ELEMENTS / 1e6:.1f} M elements, ns per element",
        "",
        "`pack if exact` also verifies that every value is 0 or 1, as `spikes_as_bits` does. `their` is "
        "SpikingJelly's registered operation (`functional.bit_spike_compress`), their compressor that of its memory "
        "optimization.",
        "",
        "| dtype | `copy_` | `clone` | pack | pack if exact | unpack | their pack | their unpack "
        "| their compressor's pack | and unpack | pack / `copy_` | unpack / `copy_` | their pack / ours "
        "| their unpack / ours |",
        "|---" * 14 + "|",
        *map(packing, (torch.float32, torch.bfloat16, torch.bool)),
        "",
        "## Training with `spikes_as_bits`",
        "",
        "Bytes saved for the backward per neuron and time step, and ms per training step.",
        "",
        "| network | saved B | saved B, bits | ms | ms, bits | ratio |",
        "|---" * 6 + "|",
        training(
            "3 x [Conv 64-BN-LIF], T4 B8 32x32",
            nn.Sequential(*(SpikingConv2d(64, 64) for _ in range(3))),
            spikes(4, 8, 64, 32, 32),
        ),
        training(
            "3 x [Linear 512-BN-LIF], T16 B64",
            nn.Sequential(*(SpikingLinear(512, 512) for _ in range(3))),
            spikes(16, 64, 512),
        ),
    ]
    print("\n".join(lines))
    if options.output:
        options.output.write_text("\n".join(lines) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
