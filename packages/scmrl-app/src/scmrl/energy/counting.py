"""Count the multiply-accumulates and accumulates of a model for one sample, by two conventions."""

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
from snn_core import LeakyNeuron, Neuron, SynapticOperations, record_synaptic_operations, spiking_layers
from snn_core.stats import Values
from snn_datasets import Batch
from snn_fusion import FusionModel
from snn_fusion.encoders.encoder import Encoder


@dataclass(frozen=True)
class Operations:
    """Operations for one sample, mean over samples."""

    mac: float = 0.0
    """Multiply-accumulates."""
    ac: float = 0.0
    """Accumulates."""

    def __add__(self, other: Operations) -> Operations:
        return Operations(self.mac + other.mac, self.ac + other.ac)


@dataclass(frozen=True)
class LayerOperations:
    """Operations of one linear layer, one convolution, or one product of activations such as in attention."""

    name: str
    inputs: Values
    """Values of its inputs over all samples: spikes (0 or 1), integers, or real numbers."""
    rate: float
    """Fraction of its inputs that are not 0."""
    dense: float
    """Multiply-accumulates for one sample without spikes."""
    paper: Operations
    strict: Operations


@dataclass(frozen=True)
class NeuronOperations:
    """Operations of one layer of neurons."""

    name: str
    updates: float
    """Neurons times time steps, for one sample."""
    rate: float
    """Fraction of updates with a spike."""
    operations: Operations


@dataclass(frozen=True)
class ModelOperations:
    """Operations of a model for one sample."""

    samples: int
    """Number of samples averaged."""
    time_steps: int
    layers: tuple[LayerOperations, ...]
    """In execution order."""
    neurons: tuple[NeuronOperations, ...]
    dense: Operations
    """The network without spikes, over the same number of time steps."""
    dense_once: Operations
    """The network without spikes, over one time step."""
    timed: tuple[str, ...]
    """Modalities whose input has a time axis; for these, `dense_once` counts the first step only."""
    unlayered: tuple[str, ...]
    """Modalities whose encoder has no layers, so that real-valued input may reach other layers."""

    @property
    def paper(self) -> Operations:
        """All layers, by the convention of the literature."""
        return sum((layer.paper for layer in self.layers), Operations())

    @property
    def strict(self) -> Operations:
        """All layers, where only spikes save multiplications."""
        return sum((layer.strict for layer in self.layers), Operations())

    @property
    def updates(self) -> Operations:
        """Updates of all neurons."""
        return sum((neurons.operations for neurons in self.neurons), Operations())


def count_operations(
    model: FusionModel, batches: Iterable[Batch], device: torch.device, on_batch: Callable[[int], None] = lambda _: None
) -> ModelOperations:
    """Run a model over batches and count its operations; the model is not changed.

    Args:
        model: on the device; counted in evaluation mode.
        batches: at least one.
        device: where to compute.
        on_batch: called after each batch with the number of samples so far.
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
            on_batch(samples)
    model.train(mode)
    firsts = {name: first_name_within(f"encoders.{name}", operations) for name in model.modalities}
    return ModelOperations(
        samples,
        steps,
        tuple(_layer(name, counts, samples, name in firsts.values()) for name, counts in operations.items()),
        tuple(counter.result(samples) for counter in updates.values()),
        Operations(mac=sum(counts.macs for counts in operations.values()) / samples),
        Operations(mac=sum(counts.macs for counts in operations_once.values()) / samples),
        tuple(timed),
        tuple(name for name, first in firsts.items() if first is None),
    )


def _layer(name: str, counts: SynapticOperations, samples: int, first: bool) -> LayerOperations:
    dense = counts.macs / samples
    paper = Operations(mac=dense) if first and not counts.spiking else Operations(ac=counts.input_rate * dense)
    strict = Operations(ac=counts.operations / samples) if counts.spiking else Operations(mac=dense)
    return LayerOperations(name, counts.inputs, counts.input_rate, dense, paper, strict)


def first_name_within(module: str, names: Iterable[str]) -> str | None:
    """Return the first name of a layer or product inside a module."""
    return next((name for name in names if name.startswith((f"{module}.", f"{module}["))), None)


def one_step(model: FusionModel) -> FusionModel:
    """Return a copy in evaluation mode that repeats static inputs for one time step only."""
    copy = deepcopy(model).eval()
    for module in copy.modules():
        if isinstance(module, Encoder):
            module.time_steps = 1
    return copy


def first_step(model: FusionModel, batch: Batch) -> tuple[Batch, Sequence[str]]:
    """Return the batch with only the first time step of inputs that have a time axis, and the names of these inputs."""
    inputs, shortened = dict(batch["inputs"]), list[str]()
    for name, x in inputs.items():
        if cast(Encoder, model.encoders[name]).batch_axis(x) == 1:
            inputs[name] = x[:1]
            shortened.append(name)
    return {**batch, "inputs": inputs}, shortened


@dataclass
class UpdateCounter:
    """Counts the updates of one layer of neurons over all samples."""

    name: str
    neuron: nn.Module
    total: int = 0
    fired: float | Tensor = 0.0

    def add(self, _module: nn.Module, _inputs: Any, output: Tensor | tuple[Tensor, ...]) -> None:
        """Add the output of the neurons [T, ...]; a forward hook."""
        spikes = output if isinstance(output, Tensor) else output[0]
        self.total += spikes.numel()
        self.fired = self.fired + spikes.sum(dtype=torch.float64)

    def result(self, samples: int) -> NeuronOperations:
        """Return the mean over samples."""
        updates, each = self.total / samples, update_operations(self.neuron)
        rate = float(self.fired) / self.total if self.total else 0.0
        return NeuronOperations(self.name, updates, rate, Operations(each.mac * updates, each.ac * updates))


def update_operations(neuron: nn.Module) -> Operations:
    """Return the operations of one neuron in one time step, without the comparison with its threshold.

    Leak times potential plus current is one MAC, or one AC without leak (IF). Each further state, such as the
    adaptation of ALIF, adds one MAC and one AC. Neurons of other packages count as leaky. The current's factor is
    folded into weights.
    """
    if isinstance(neuron, LeakyNeuron) and neuron.leak()[0] == 1:
        return Operations(ac=1)
    extra = len(neuron.extra_states) if isinstance(neuron, Neuron) else 0
    return Operations(mac=1 + extra, ac=extra)


@contextmanager
def record_updates(model: nn.Module) -> Generator[dict[str, UpdateCounter], None, None]:
    """Within the block, count the updates of every layer of neurons in `model`.

    Yields:
        a dictionary, filled when the block ends, of counters by the dotted name of the layer that contains the
        neurons, or of the neurons outside layers; neurons that never ran are left out.
    """
    results: dict[str, UpdateCounter] = {}
    layers = {layer.neuron: name for name, layer in spiking_layers(model).items()}
    neurons = {module: name for name, module in model.named_modules() if isinstance(module, Neuron)}
    counters = [UpdateCounter(name, neuron) for neuron, name in {**neurons, **layers}.items()]
    handles = [counter.neuron.register_forward_hook(counter.add) for counter in counters]
    try:
        yield results
    finally:
        for handle in handles:
            handle.remove()
        results.update({counter.name: counter for counter in counters if counter.total})
