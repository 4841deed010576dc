"""Data-dependent initialization: every layer fires near a target rate before the first training step.

As published, S-CMRL's cross-modal branch starts silent: neither the attention neuron reaches its threshold on a scaled
count of coinciding spikes, nor the projection neuron after it, so residuals and most of the branch's gradients are
exactly zero. Here one pass over a batch visits the neurons in execution order. It scales and shifts each neuron's
input, through the normalization, scale or bias before it, so that it fires near the target rate; later layers see the
calibrated spikes. Labels are not used, and the result is deterministic. The idea is that of LSUV (Mishkin & Matas 2016,
arXiv:1511.06422) with a firing rate instead of a variance.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from snn_core import ScaledSpike, SpikingLayer, spiking_layers
from snn_fusion.inputs import check_inputs, nonfinite_samples, zero_nonfinite
from snn_fusion.layer_health import running_statistics
from snn_fusion.methods.residual import SourceGates
from snn_fusion.model import FusionModel
from snn_fusion.presence import Presence

_ROUNDS = 16
"""Bisection rounds: more than enough for a rate within 0.001."""
_SAMPLE = 1 << 16
"""Neurons of a layer on which rates are compared during the bisection; their rate is within 0.002 of that of all."""
_LARGEST_SCALE = 16.0
"""Largest scale on attention counts that is tried; with tau up to 16, one coincidence then fires at once."""


@torch.no_grad()
def calibrate(
    model: FusionModel,
    inputs: Mapping[str, Tensor],
    *,
    present: Presence | None = None,
    target_rate: float = 0.2,
    only: str = "",
) -> dict[str, float]:
    """Adjust each layer in place so that it fires near `target_rate` on `inputs`.

    A layer with normalization or bias is shifted; without normalization its drive is first scaled to unit standard
    deviation. A scaled count (the attention score) is scaled; if even the largest scale cannot reach the target because
    most counts are zero, the nearest reachable rate is used.

    Args:
        model: the model; the running statistics of batch norms whose name starts with `only` become those of `inputs`,
            so that layers fire in evaluation mode as they do in training.
        inputs: a batch of training inputs by modality, a few dozen samples or more.
        present: see `FusionModel.forward`.
        target_rate: fraction of (neuron, time step) pairs that fire, in (0, 1).
        only: prefix of the dotted names of the layers to calibrate, such as "fusion"; all by default.

    Returns:
        the rate that each calibrated layer reached, by its dotted name.

    Raises:
        ValueError: target_rate outside (0, 1), no layer's name starts with `only`, or inputs that do not fit the model
            or contain NaN or inf.
    """
    if not 0 < target_rate < 1:
        raise ValueError(f"target_rate must be between 0 and 1, but it is {target_rate}")
    # Gates start open; a target rate would close them.
    gates = tuple(f"{name}." for name, module in model.named_modules() if isinstance(module, SourceGates))  # pyright: ignore[reportUnknownVariableType]
    layers = {
        name: layer
        for name, layer in spiking_layers(model).items()
        if name.startswith(only) and not (gates and name.startswith(gates))
    }
    if not layers:
        raise ValueError(
            f"no spiking layer's name starts with {only!r}; the model has {', '.join(spiking_layers(model))}"
        )
    _check_finite(model, inputs, present)
    rates: dict[str, float] = {}

    def calibrate_before(name: str, layer: SpikingLayer) -> Any:
        def hook(neuron: nn.Module, args: tuple[Tensor, ...]) -> tuple[Tensor]:
            gain, offset, rates[name] = _find_drive(layer, neuron, args[0], target_rate)
            layer.adjust_drive(gain, offset)
            return (args[0] * gain + offset,)

        return hook

    was_training = model.training
    handles = [layer.neuron.register_forward_pre_hook(calibrate_before(name, layer)) for name, layer in layers.items()]
    try:
        model.train()
        with running_statistics(model, 0):
            model(inputs, present)
            while handles:
                handles.pop().remove()
            with running_statistics(model, 1, under=only):
                model(inputs, present)
    finally:
        for handle in handles:
            handle.remove()
        model.train(was_training)
    return rates


def _check_finite(model: FusionModel, inputs: Mapping[str, Tensor], present: Presence | None) -> None:
    """Raise `ValueError` for NaN or inf: the model would replace them with zeros, and calibrate on these."""
    axes = check_inputs(inputs, model.encoders, next(model.parameters(), None))
    _, finite = zero_nonfinite(inputs, axes)
    invalid = nonfinite_samples(finite, present or {})
    if invalid.any():
        first = int(invalid.nonzero()[0])
        raise ValueError(f"sample {first} of the batch has NaN or inf: calibrate on finite samples")


def _find_drive(
    layer: SpikingLayer, neuron: nn.Module, drive: Tensor, target_rate: float
) -> tuple[float, float, float]:
    """Return the gain and offset with which `neuron` fires near the target rate on `drive`, and the rate reached."""
    sample = _sample_of(drive)

    def rate(gain: float, offset: float, currents: Tensor = sample) -> float:
        # Call forward directly to skip the pre-hooks on this neuron.
        return float(neuron.forward(currents * gain + offset).mean(dtype=torch.float64))

    if isinstance(layer, ScaledSpike):
        # Counts are integers: beyond some scale every count above 0 fires at once. The smallest scale that reaches the
        # target, or the highest reachable rate, keeps the surrogate in its range.
        low, high = 0.0, _LARGEST_SCALE / float(layer.scale)
        goal = min(target_rate, 0.99 * rate(high, 0.0))
        for _ in range(_ROUNDS):
            middle = (low + high) / 2
            low, high = (middle, high) if rate(middle, 0.0) < goal else (low, middle)
        return high, 0.0, rate(high, 0.0, drive)

    spread = float(drive.std())
    normalized = getattr(layer, "norm", None) is not None
    gain = 1.0 if normalized or spread == 0 else 1 / spread
    reach = 8.0 * max(1.0, gain * spread) + gain * abs(float(drive.mean()))
    low, high = -reach, reach
    for _ in range(_ROUNDS):
        middle = (low + high) / 2
        low, high = (middle, high) if rate(gain, middle) < target_rate else (low, middle)
    return gain, high, rate(gain, high, drive)


def _sample_of(drive: Tensor) -> Tensor:
    """Return the drive [T, n] of random neurons, the same in every call, or [T, ...] of all if they are few."""
    neurons = drive[0].numel()
    if neurons <= _SAMPLE:
        return drive
    chosen = torch.randint(neurons, (_SAMPLE,), generator=torch.Generator().manual_seed(0))
    return drive.flatten(1)[:, chosen.to(drive.device)]
