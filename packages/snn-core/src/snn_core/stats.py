"""What a network does: firing rates and synaptic operations by layer name.

Both are counted by forward hooks that exist within a `with` block only; outside of it nothing is attached.
"""

from __future__ import annotations

from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from snn_core.layers import SpikingLayer


def spiking_layers(model: nn.Module) -> dict[str, SpikingLayer]:
    """Every layer of `model` that ends in a neuron, by its dotted name, in order of definition."""
    return {name: module for name, module in model.named_modules() if isinstance(module, SpikingLayer)}  # pyright: ignore[reportUnknownVariableType]


@contextmanager
def record_firing_rates(model: nn.Module) -> Generator[dict[str, float], None, None]:
    """Within the block, collect the share of (neuron, time step) pairs that fire, by layer name.

    The dictionary is filled when the block ends; layers that never ran are not in it. Several forward passes are
    averaged with each element counted once.

    Yields:
        rates in [0, 1] by the name of each `SpikingLayer` inside `model`.
    """
    rates: dict[str, float] = {}
    spikes: dict[str, Tensor] = {}
    elements: dict[str, int] = {}

    def counter(name: str) -> Any:
        def count(_module: nn.Module, _inputs: Any, output: Tensor) -> None:
            # Kept as a tensor: asking for its value here would wait for the device at every layer.
            fired = output.detach().sum(dtype=torch.float64)
            spikes[name] = spikes[name] + fired if name in spikes else fired
            elements[name] = elements.get(name, 0) + output.numel()

        return count

    handles = [layer.neuron.register_forward_hook(counter(name)) for name, layer in spiking_layers(model).items()]
    try:
        yield rates
    finally:
        for handle in handles:
            handle.remove()
        rates.update({name: float(spikes[name]) / elements[name] for name in spikes if elements[name]})


@dataclass(frozen=True)
class SynapticOperations:
    """What one linear layer or convolution has computed, summed over calls, time steps and samples."""

    macs: int
    """Multiply-accumulates of the dense computation; a convolution's include those on padding."""
    operations: int
    """Those whose input is not 0: for every input element that is not, the number of outputs it reaches."""
    input_rate: float
    """Share of input elements that are not 0, in [0, 1]."""
    spiking: bool
    """Whether every input was 0 or 1, so that `operations` are mere additions of a weight; else they multiply too."""


@contextmanager
def record_synaptic_operations(model: nn.Module) -> Generator[dict[str, SynapticOperations], None, None]:
    """Within the block, count what spikes make the `nn.Linear` and `nn.Conv1d` to `nn.Conv3d` inside `model` compute.

    An input element at the edge of a map reaches fewer outputs than one in the middle; with padding, stride, dilation
    and groups each is counted for what it reaches. Biases, normalisations, neurons and other modules are not counted,
    nor are the two products of attention, which are no modules; its projections are. A layer that computes once for an
    input that stands still (`SpikingConv2d` with `time_steps`) is counted once.

    The dictionary is filled when the block ends; layers that never ran are not in it.

    Yields:
        `SynapticOperations` by the dotted name of each layer.
    """
    results: dict[str, SynapticOperations] = {}
    counts: dict[str, _Counts] = {}

    def counter(name: str, layer: _Synapses) -> Any:
        def count(_module: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
            counts.setdefault(name, _Counts(layer)).add(inputs[0].detach(), output)

        return count

    modules: list[tuple[str, nn.Module]] = list(model.named_modules())  # pyright: ignore[reportUnknownArgumentType]
    handles = [
        layer.register_forward_hook(counter(name, layer)) for name, layer in modules if isinstance(layer, _Synapses)
    ]
    try:
        yield results
    finally:
        for handle in handles:
            handle.remove()
        results.update({name: count.result() for name, count in counts.items()})


_Synapses = nn.Linear | nn.Conv1d | nn.Conv2d | nn.Conv3d


class _Counts:
    """Counts of one layer. Those that depend on values stay on the device until the result is asked for."""

    def __init__(self, layer: _Synapses) -> None:
        self.layer = layer
        self.macs = 0
        self.elements = 0
        self.operations = self.nonzero = torch.zeros((), dtype=torch.int64)
        self.spiking = torch.ones((), dtype=torch.bool)
        self.reach: dict[tuple[int, ...], Tensor] = {}

    @torch.no_grad()
    def add(self, x: Tensor, output: Tensor) -> None:
        self.macs += output.numel() * self.layer.weight[0].numel()
        self.elements += x.numel()
        active = x != 0
        nonzero = active.sum()
        self.nonzero = self.nonzero.to(x.device) + nonzero
        self.spiking = self.spiking.to(x.device) & ((x == 1) == active).all()
        if isinstance(self.layer, nn.Linear):
            operations = nonzero * self.layer.out_features
        else:
            by_place = active.sum(0) if x.dim() == self.layer.weight.dim() else active
            operations = (by_place * self._reach(self.layer, by_place.shape, x.device)).sum()
        self.operations = self.operations.to(x.device) + operations

    def _reach(self, layer: nn.Conv1d | nn.Conv2d | nn.Conv3d, sample: tuple[int, ...], device: torch.device) -> Tensor:
        """How many outputs each element of a sample [C, ...] reaches: the gradient of a sum under weights of 1."""
        if sample not in self.reach:
            with torch.inference_mode(False), torch.enable_grad(), torch.autocast(device.type, enabled=False):
                ones = torch.ones(1, *sample, device=device, requires_grad=True)
                weight = torch.ones(layer.weight.shape, device=device)
                # The convolution itself knows its padding, whatever kind it is, and calling the layer would count it.
                reached = layer._conv_forward(ones, weight, None).sum()  # pyright: ignore[reportPrivateUsage]
                self.reach[sample] = torch.autograd.grad(reached, ones)[0][0].round().long()
        return self.reach[sample]

    def result(self) -> SynapticOperations:
        return SynapticOperations(
            macs=self.macs,
            operations=int(self.operations),
            input_rate=float(self.nonzero) / self.elements if self.elements else 0.0,
            spiking=bool(self.spiking),
        )
