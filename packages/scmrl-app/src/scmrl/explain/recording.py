"""Record the outputs of a model's modules with temporary hooks."""

from __future__ import annotations

from collections.abc import Generator, Iterable
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from snn_core import spiking_layers
from snn_fusion import FusionModel

ModuleOutputs = dict[nn.Module, Any]
"""The last output of each recorded module; modules that did not run are missing."""
MAX_UNITS = 200
"""Units per layer in a raster."""


@contextmanager
def record_outputs(modules: Iterable[nn.Module]) -> Generator[ModuleOutputs, None, None]:
    """Record the last output of each of these modules within the block."""
    outputs: ModuleOutputs = {}

    def record(module: nn.Module, _inputs: Any, output: Any) -> None:
        outputs[module] = output

    handles = [module.register_forward_hook(record) for module in modules]
    try:
        yield outputs
    finally:
        for handle in handles:
            handle.remove()


def raster_neurons(model: FusionModel) -> dict[str, nn.Module]:
    """Return the neurons to record, by layer: the last of each encoder, all of the cross-modal branch."""
    neurons: dict[str, nn.Module] = {}
    for name in model.modalities:
        layers = spiking_layers(model.encoders[name])
        for layer in list(layers)[-1:]:
            neurons[f"encoders.{name}.{layer}"] = layers[layer].neuron
    return neurons | {f"fusion.{name}": layer.neuron for name, layer in spiking_layers(model.fusion).items()}


def raster(spikes: Tensor) -> Tensor:
    """Return whether units spike, bool [T, units], from spikes [T, ...]; at most 200 units, evenly spaced."""
    units = spikes.detach().flatten(1)
    count = units.shape[1]
    selected = torch.arange(min(count, MAX_UNITS), device=spikes.device) * count // min(count, MAX_UNITS)
    return units[:, selected] > 0
