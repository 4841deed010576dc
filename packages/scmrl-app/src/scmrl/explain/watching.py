"""What a model's modules give while it runs, seen by hooks that exist within a block only."""

from __future__ import annotations

from collections.abc import Generator, Iterable
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from snn_core import spiking_layers
from snn_fusion import FusionModel

Seen = dict[nn.Module, Any]
"""The last output of each watched module; one that did not run is not in it."""
MOST_UNITS = 200
"""Units of a layer that a raster shows at most."""


@contextmanager
def watched(modules: Iterable[nn.Module]) -> Generator[Seen, None, None]:
    """Within the block, keep the last output of each of these modules."""
    seen: Seen = {}

    def keep(module: nn.Module, _inputs: Any, output: Any) -> None:
        seen[module] = output

    handles = [module.register_forward_hook(keep) for module in modules]
    try:
        yield seen
    finally:
        for handle in handles:
            handle.remove()


def shown_layers(model: FusionModel) -> dict[str, nn.Module]:
    """The neurons whose spikes are shown, by layer: the last of each encoder, all of the cross-modal branch."""
    neurons: dict[str, nn.Module] = {}
    for name in model.modalities:
        layers = spiking_layers(model.encoders[name])
        for layer in list(layers)[-1:]:
            neurons[f"encoders.{name}.{layer}"] = layers[layer].neuron
    return neurons | {f"fusion.{name}": layer.neuron for name, layer in spiking_layers(model.fusion).items()}


def raster(spikes: Tensor) -> Tensor:
    """Spikes [T, ...] of one sample -> whether units fire, bool [T, units], at most 200 units, evenly chosen."""
    units = spikes.detach().flatten(1)
    count = units.shape[1]
    chosen = torch.arange(min(count, MOST_UNITS), device=spikes.device) * count // min(count, MOST_UNITS)
    return units[:, chosen] > 0
