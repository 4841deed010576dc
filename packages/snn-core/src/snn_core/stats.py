"""What the neurons of a network do: firing rates by layer name. Nothing is attached while nothing is recorded."""

from __future__ import annotations

from collections.abc import Generator
from contextlib import contextmanager
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
