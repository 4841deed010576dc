"""Count what a model computes for a sample, and put it down as multiplications and additions by two conventions."""

# PyTorch leaves the types of some of its own methods open.
# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false
from __future__ import annotations

from collections.abc import Callable, Generator, Iterable, Sequence
from contextlib import contextmanager
from copy import deepcopy
from dataclasses import dataclass
from typing import Any, cast

import torch
from torch import Tensor, nn

from scmrl.engine.evaluate import predict_batch
from snn_core import ALIF, SynapticOperations, record_synaptic_operations, spiking_layers
from snn_core.neurons.neuron import ConfiguredNeuron, Neuron
from snn_core.stats import Values
from snn_datasets import Batch
from snn_fusion import FusionModel
from snn_fusion.encoders.encoder import Encoder


@dataclass(frozen=True)
class Cost:
    """Operations for one sample, a mean over samples."""

    mac: float = 0.0
    """Multiplications with an addition."""
    ac: float = 0.0
    """Additions alone."""

    def __add__(self, other: Cost) -> Cost:
        return Cost(self.mac + other.mac, self.ac + other.ac)


@dataclass(frozen=True)
class Layer:
    """One linear layer or convolution, or one product of activations such as attention's."""

    name: str
    inputs: Values
    """What it got in all samples: spikes (0 or 1), whole numbers, or any."""
    rate: float
    """Share of its inputs that are not 0."""
    dense: float
    """Multiply-accumulates for one sample, were there no spikes."""
    paper: Cost
    strict: Cost


@dataclass(frozen=True)
class NeuronLayer:
    """One layer of neurons."""

    name: str
    updates: float
    """Neurons times time steps, for one sample."""
    rate: float
    """Share of the updates that fire."""
    cost: Cost


@dataclass(frozen=True)
class Account:
    """What a model computes for one sample."""

    samples: int
    """How many were counted."""
    time_steps: int
    layers: tuple[Layer, ...]
    """In the order in which they run."""
    neurons: tuple[NeuronLayer, ...]
    dense: Cost
    """The twin without spikes over as many time steps."""
    dense_once: Cost
    """The twin without spikes over one time step."""
    timed: tuple[str, ...]
    """Modalities whose input has a time axis, of which the twin of one step saw the first step only."""
    unlayered: tuple[str, ...]
    """Modalities whose encoder computes nothing, so that real-valued input may reach other layers."""

    @property
    def paper(self) -> Cost:
        """All layers, by the literature's convention."""
        return sum((layer.paper for layer in self.layers), Cost())

    @property
    def strict(self) -> Cost:
        """All layers, where only spikes save multiplications."""
        return sum((layer.strict for layer in self.layers), Cost())

    @property
    def updates(self) -> Cost:
        """All neurons."""
        return sum((neurons.cost for neurons in self.neurons), Cost())


def account(
    model: FusionModel, batches: Iterable[Batch], device: torch.device, done: Callable[[int], None] = lambda _: None
) -> Account:
    """Run a model over batches and count; it stays as it was.

    Args:
        model: on the device; counted in evaluation mode.
        batches: at least one.
        device: where to compute.
        done: told how many samples are done, after each batch.
    """
    once = one_step(model)
    mode = model.training
    model.eval()
    samples, steps = 0, 0
    timed: dict[str, None] = {}
    with (
        torch.no_grad(),
        record_synaptic_operations(model) as operations,
        record_synaptic_operations(once) as operations_once,
        record_updates(model) as updates,
    ):
        for batch in batches:
            output, _, _ = predict_batch(model, batch, device)
            steps = next(iter(output.features.values())).shape[0]
            first, shortened = first_step(model, batch)
            timed.update(dict.fromkeys(shortened))
            predict_batch(once, first, device)
            samples += len(batch["ids"])
            done(samples)
    model.train(mode)
    firsts = {name: first_of(f"encoders.{name}", operations) for name in model.modalities}
    return Account(
        samples,
        steps,
        tuple(_layer(name, found, samples, name in firsts.values()) for name, found in operations.items()),
        tuple(found.result(samples) for found in updates.values()),
        Cost(mac=sum(found.macs for found in operations.values()) / samples),
        Cost(mac=sum(found.macs for found in operations_once.values()) / samples),
        tuple(timed),
        tuple(name for name, first in firsts.items() if first is None),
    )


def _layer(name: str, found: SynapticOperations, samples: int, first: bool) -> Layer:
    dense = found.macs / samples
    by_paper = Cost(mac=dense) if first and not found.spiking else Cost(ac=found.input_rate * dense)
    strict = Cost(ac=found.operations / samples) if found.spiking else Cost(mac=dense)
    return Layer(name, found.inputs, found.input_rate, dense, by_paper, strict)


def first_of(module: str, names: Iterable[str]) -> str | None:
    """The first layer or product, by name, that is within a module."""
    return next((name for name in names if name.startswith((f"{module}.", f"{module}["))), None)


def one_step(model: FusionModel) -> FusionModel:
    """A copy in evaluation mode that shows static inputs for one time step."""
    copy = deepcopy(model).eval()
    for module in copy.modules():
        if isinstance(module, Encoder):
            module.time_steps = 1
    return copy


def first_step(model: FusionModel, batch: Batch) -> tuple[Batch, Sequence[str]]:
    """The batch with the first time step alone of inputs that have a time axis, and which these are."""
    inputs, shortened = dict(batch["inputs"]), list[str]()
    for name, x in inputs.items():
        if cast(Encoder, model.encoders[name]).batch_axis(x) == 1:
            inputs[name] = x[:1]
            shortened.append(name)
    return {**batch, "inputs": inputs}, shortened


@dataclass
class Updates:
    """Counts of one layer of neurons, over all samples."""

    name: str
    neuron: nn.Module
    total: int = 0
    fired: float | Tensor = 0.0

    def add(self, _module: nn.Module, _inputs: Any, output: Tensor | tuple[Tensor, ...]) -> None:
        """Take in what the neurons fire [T, ...]."""
        spikes = output if isinstance(output, Tensor) else output[0]
        self.total += spikes.numel()
        self.fired = self.fired + spikes.sum(dtype=torch.float64)

    def result(self, samples: int) -> NeuronLayer:
        """The mean over samples."""
        updates, each = self.total / samples, update_cost(self.neuron)
        rate = float(self.fired) / self.total if self.total else 0.0
        return NeuronLayer(self.name, updates, rate, Cost(each.mac * updates, each.ac * updates))


def update_cost(neuron: nn.Module) -> Cost:
    """What one neuron computes in a time step besides comparing with its threshold.

    Its potential times what is left of it, plus the current: one MAC, or one AC where nothing leaks (IF). An adapting
    neuron has a second state and adds it to the threshold. Neurons of other packages count as leaky ones. The current's
    factor is folded into weights.
    """
    if isinstance(neuron, Neuron) and neuron.leak()[0] == 1:
        return Cost(ac=1)
    return Cost(mac=2, ac=1) if isinstance(neuron, ALIF) else Cost(mac=1)


@contextmanager
def record_updates(model: nn.Module) -> Generator[dict[str, Updates], None, None]:
    """Within the block, count updates of every layer of neurons in `model`; those that never ran are not in it.

    Yields:
        counts by the dotted name of the layer that the neurons end, or of the neurons where they are no layer's.
    """
    results: dict[str, Updates] = {}
    layers = {layer.neuron: name for name, layer in spiking_layers(model).items()}
    alone = {module: name for name, module in model.named_modules() if isinstance(module, ConfiguredNeuron)}
    counts = [Updates(name, neuron) for neuron, name in {**alone, **layers}.items()]
    handles = [count.neuron.register_forward_hook(count.add) for count in counts]
    try:
        yield results
    finally:
        for handle in handles:
            handle.remove()
        results.update({count.name: count for count in counts if count.total})
