"""Compare training steps of networks of our spiking layers, of SpikingJelly's, and with a ReLU.

One process, one thread, thread CPU time of forward, backward and clearing the gradients, all candidates interleaved,
medians. The network with a ReLU is the lower bound. Bytes are those saved for the backward per neuron and time step.
Run on an otherwise idle machine:

    uv run python benchmarks/blocks.py                     prints the table
    uv run python benchmarks/blocks.py --output FILE.md    also writes it
"""

from __future__ import annotations

import argparse
import platform
from collections.abc import Callable
from contextlib import nullcontext
from functools import partial
from pathlib import Path
from typing import Literal

import torch
from spikingjelly.activation_based import functional, layer, neuron
from spikingjelly.activation_based import surrogate as jelly_surrogate
from timing import ROUNDS, measure
from torch import Tensor, nn

from snn_core import LIF, SpikingConv2d, SpikingLinear
from snn_core.ops.lif import which_implementation
from snn_core.packing import spikes_as_bits

NETS = {
    "2 x [Conv 64], T4 B16 32x32": ((4, 16, 3, 32, 32), (64, 64)),
    "3 x [Conv 32], T4 B16 32x32": ((4, 16, 3, 32, 32), (32, 32, 32)),
    "3 x [Linear 512], T16 B256": ((16, 256, 512), (512, 512, 512)),
    "3 x [Linear 256], T8 B64": ((8, 64, 256), (256, 256, 256)),
}
"""Input shape (time first, channels third) and widths of the layers."""


class WithoutTime(nn.Module):
    """Apply modules without a time axis to all time steps at once."""

    def __init__(self, *modules: nn.Module) -> None:
        super().__init__()
        self.inner = nn.Sequential(*modules)

    def forward(self, x: Tensor) -> Tensor:
        """[T, B, ...] -> [T, B, ...]."""
        return self.inner(x.flatten(0, 1)).unflatten(0, x.shape[:2])


def ours(maps: bool, width_in: int, width_out: int, *, implementation: Literal["torch", "native"]) -> nn.Module:
    cell = partial(LIF, implementation=implementation)
    return (SpikingConv2d if maps else SpikingLinear)(width_in, width_out, neuron=cell)


def unfused(maps: bool, width_in: int, width_out: int) -> nn.Module:
    """Our layer without fusion of batch norm and neuron."""
    weighted = (
        nn.Conv2d(width_in, width_out, 3, padding=1, bias=False) if maps else nn.Linear(width_in, width_out, bias=False)
    )
    return nn.Sequential(WithoutTime(weighted, nn.BatchNorm2d(width_out) if maps else nn.BatchNorm1d(width_out)), LIF())


def relu(maps: bool, width_in: int, width_out: int) -> nn.Module:
    weighted = (
        nn.Conv2d(width_in, width_out, 3, padding=1, bias=False) if maps else nn.Linear(width_in, width_out, bias=False)
    )
    return WithoutTime(weighted, nn.BatchNorm2d(width_out) if maps else nn.BatchNorm1d(width_out), nn.ReLU())


def jelly(maps: bool, width_in: int, width_out: int) -> nn.Module:
    """SpikingJelly's own layers."""
    node = neuron.LIFNode(tau=2.0, detach_reset=True, surrogate_function=jelly_surrogate.Sigmoid(4.0), step_mode="m")
    if maps:
        weighted, norm = (
            layer.Conv2d(width_in, width_out, 3, padding=1, bias=False),
            layer.BatchNorm2d(width_out),
        )
    else:
        weighted, norm = layer.Linear(width_in, width_out, bias=False), layer.BatchNorm1d(width_out)
        return nn.Sequential(weighted, WithoutTime(norm), node)
    block = nn.Sequential(weighted, norm, node)
    functional.set_step_mode(block, "m")
    return block


def net(block: Callable[[bool, int, int], nn.Module], shape: tuple[int, ...], widths: tuple[int, ...]) -> nn.Module:
    """Build a sequence of blocks with equal weights for every type of block."""
    torch.manual_seed(0)
    inputs = (shape[2], *widths)
    return nn.Sequential(*[block(len(shape) == 5, a, b) for a, b in zip(inputs, widths, strict=False)])


def step(model: nn.Module, x: Tensor, upstream: Tensor, *, bits: bool = False) -> None:
    """Run forward and backward and clear the gradients."""
    functional.reset_net(model)
    with spikes_as_bits() if bits else nullcontext():
        out = model(x)
    out.backward(upstream)
    for parameter in model.parameters():
        parameter.grad = None


def saved_bytes(model: nn.Module, x: Tensor, *, bits: bool = False) -> int:
    """Return the bytes that autograd saves for the backward, each storage once, without input and parameters."""
    from snn_core import packing

    others = {tensor.untyped_storage().data_ptr() for tensor in (x, *model.parameters(), *model.buffers())}
    sizes: dict[int, int] = {}

    def save(tensor: Tensor) -> object:
        saved = packing.pack_if_binary(tensor) if bits else tensor
        storage = (saved if isinstance(saved, Tensor) else saved.memory.bits).untyped_storage()
        if storage.data_ptr() not in others:
            sizes[storage.data_ptr()] = storage.nbytes()
        return saved

    functional.reset_net(model)
    with torch.autograd.graph.saved_tensors_hooks(save, packing.restore):
        out = model(x)
    assert out.requires_grad
    return sum(sizes.values())


def compare(name: str) -> list[str]:
    """Return the rows of one network."""
    shape, widths = NETS[name]
    x = (torch.rand(shape, generator=torch.Generator().manual_seed(1)) < 0.3).float()
    models = {"SpikingJelly": net(jelly, shape, widths), "ReLU": net(relu, shape, widths)}
    kinds: list[Literal["torch", "native"]] = ["torch"]
    if which_implementation(x).implementation == "native":
        kinds.append("native")
    for kind in kinds:
        models[f"ours, {kind}"] = net(partial(ours, implementation=kind), shape, widths)
    models["ours, unfused"] = net(unfused, shape, widths)
    candidates: dict[str, tuple[nn.Module, bool]] = {label: (model, False) for label, model in models.items()}
    candidates["ours, spikes as bits"] = (models[f"ours, {kinds[-1]}"], True)

    outputs = {}
    for label, model in models.items():
        functional.reset_net(model)
        outputs[label] = model(x)
    expected = outputs["SpikingJelly"]
    for label, out in outputs.items():
        differing = (out != expected).float().mean().item()
        assert label == "ReLU" or differing < 1e-4, f"{label}: {differing:.2e} of all spikes differ"
    upstream = torch.randn(expected.shape, generator=torch.Generator().manual_seed(2))
    seconds = measure(
        {label: partial(step, model, x, upstream, bits=bits) for label, (model, bits) in candidates.items()}
    )
    neurons = sum(expected.numel() // widths[-1] * width for width in widths)
    rows = []
    for label, (model, bits) in candidates.items():
        saved = saved_bytes(model, x, bits=bits) / neurons
        rows.append(
            f"| {name} | {label} | {seconds[label] * 1e3:.1f} | {seconds['SpikingJelly'] / seconds[label]:.2f} "
            f"| {seconds[label] / seconds['ReLU']:.2f} | {saved:.2f} |"
        )
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output", type=Path, help="also write the table to this file")
    options = parser.parse_args()
    torch.set_num_threads(1)
    lines = [
        "# Training steps of whole blocks",
        "",
        f"PyTorch {torch.__version__}, {platform.machine()}, one thread; medians of {ROUNDS} interleaved rounds of "
        "thread CPU time. `ours, unfused` does not fuse batch norm and neuron; `spikes as bits` is the "
        "fastest of ours within `snn_core.packing.spikes_as_bits`. Bytes are saved per neuron and time step.",
        "",
        "| network | implementation | ms per step | speedup over SpikingJelly | time / ReLU | bytes saved |",
        "|---|---|---|---|---|---|",
    ]
    print("\n".join(lines))
    for name in NETS:
        rows = compare(name)
        lines += rows
        print("\n".join(rows), flush=True)
    if options.output:
        options.output.write_text("\n".join(lines) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
