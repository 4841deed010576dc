"""Time whole training steps: nets of spiking layers, the same nets of SpikingJelly's, and the same with a ReLU.

One process, one thread, thread CPU time of forward, backward and clearing the gradients, all candidates interleaved,
medians. The ReLU net is the lower bound: nothing is left there of the neuron but one comparison. Bytes are those held
for the backward, for each neuron and time step. Run on an otherwise idle machine:

    uv run python benchmarks/blocks.py                     prints the table
    uv run python benchmarks/blocks.py --output FILE.md    writes it, too
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
from neurons import ROUNDS, timed
from spikingjelly.activation_based import functional, layer, neuron
from spikingjelly.activation_based import surrogate as jelly_surrogate
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


class Flat(nn.Module):
    """A module without time steps on the elements of all of them."""

    def __init__(self, *modules: nn.Module) -> None:
        super().__init__()
        self.inner = nn.Sequential(*modules)

    def forward(self, x: Tensor) -> Tensor:
        """[T, B, ...] -> [T, B, ...]."""
        return self.inner(x.flatten(0, 1)).unflatten(0, x.shape[:2])


def ours(maps: bool, before: int, after: int, *, implementation: Literal["torch", "native"]) -> nn.Module:
    cell = partial(LIF, implementation=implementation)
    return (SpikingConv2d if maps else SpikingLinear)(before, after, neuron=cell)


def unfused(maps: bool, before: int, after: int) -> nn.Module:
    """Our layer with batch norm and neuron as two operations."""
    weighted = nn.Conv2d(before, after, 3, padding=1, bias=False) if maps else nn.Linear(before, after, bias=False)
    return nn.Sequential(Flat(weighted, nn.BatchNorm2d(after) if maps else nn.BatchNorm1d(after)), LIF())


def relu(maps: bool, before: int, after: int) -> nn.Module:
    weighted = nn.Conv2d(before, after, 3, padding=1, bias=False) if maps else nn.Linear(before, after, bias=False)
    return Flat(weighted, nn.BatchNorm2d(after) if maps else nn.BatchNorm1d(after), nn.ReLU())


def jelly(maps: bool, before: int, after: int) -> nn.Module:
    """SpikingJelly's own layers."""
    node = neuron.LIFNode(tau=2.0, detach_reset=True, surrogate_function=jelly_surrogate.Sigmoid(4.0), step_mode="m")
    if maps:
        weighted, norm = layer.Conv2d(before, after, 3, padding=1, bias=False), layer.BatchNorm2d(after)
    else:
        weighted, norm = layer.Linear(before, after, bias=False), layer.BatchNorm1d(after)
        return nn.Sequential(weighted, Flat(norm), node)
    block = nn.Sequential(weighted, norm, node)
    functional.set_step_mode(block, "m")
    return block


def net(block: Callable[[bool, int, int], nn.Module], shape: tuple[int, ...], widths: tuple[int, ...]) -> nn.Module:
    """Blocks one after the other, with the same weights whatever the block."""
    torch.manual_seed(0)
    befores = (shape[2], *widths)
    return nn.Sequential(*[block(len(shape) == 5, a, b) for a, b in zip(befores, widths, strict=False)])


def step(model: nn.Module, x: Tensor, upstream: Tensor, *, bits: bool = False) -> None:
    """Forward, backward, and gradients gone."""
    functional.reset_net(model)
    with spikes_as_bits() if bits else nullcontext():
        out = model(x)
    out.backward(upstream)
    for parameter in model.parameters():
        parameter.grad = None


def bytes_held(model: nn.Module, x: Tensor, *, bits: bool = False) -> int:
    """Bytes of all that autograd keeps for the backward, each memory once, without input and parameters."""
    from snn_core import packing

    others = {tensor.untyped_storage().data_ptr() for tensor in (x, *model.parameters(), *model.buffers())}
    sizes: dict[int, int] = {}

    def keep(tensor: Tensor) -> object:
        held = packing.pack_if_binary(tensor) if bits else tensor
        storage = (held if isinstance(held, Tensor) else held.memory.bits).untyped_storage()
        if storage.data_ptr() not in others:
            sizes[storage.data_ptr()] = storage.nbytes()
        return held

    functional.reset_net(model)
    with torch.autograd.graph.saved_tensors_hooks(keep, packing.restore):
        out = model(x)
    assert out.requires_grad
    return sum(sizes.values())


def compare(name: str) -> list[str]:
    """The table's rows of one net."""
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
        assert label == "ReLU" or differing < 1e-4, f"{label}: {differing:.2e} of all spikes differ; times say nothing"
    upstream = torch.randn(expected.shape, generator=torch.Generator().manual_seed(2))
    took = timed({label: partial(step, model, x, upstream, bits=bits) for label, (model, bits) in candidates.items()})
    neurons = sum(expected.numel() // widths[-1] * width for width in widths)
    rows = []
    for label, (model, bits) in candidates.items():
        held = bytes_held(model, x, bits=bits) / neurons
        rows.append(
            f"| {name} | {label} | {took[label] * 1e3:.1f} | {took['SpikingJelly'] / took[label]:.2f} "
            f"| {took[label] / took['ReLU']:.2f} | {held:.2f} |"
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
        "thread CPU time. `ours, unfused` runs batch norm and neuron as two operations; `spikes as bits` is the "
        "fastest of ours within `snn_core.packing.spikes_as_bits`. Bytes held are for each neuron and time step.",
        "",
        "| net | what | ms a step | times faster than SpikingJelly | times the ReLU net | bytes held |",
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
