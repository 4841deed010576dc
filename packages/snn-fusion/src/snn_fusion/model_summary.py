"""Summarize a model by part: tokens, parameters and neurons, without running it on data."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from itertools import permutations

import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode

from snn_core import spiking_layers
from snn_fusion.encoders.encoder import Encoder
from snn_fusion.methods.residual import pair_name
from snn_fusion.model import FusionModel
from snn_fusion.tables import html_table, text_table

_HEADINGS = ("part", "module", "input", "tokens", "parameters", "layers", "neurons")


@dataclass(frozen=True)
class ModelPart:
    """One part of a model: a modality's encoder, a pair's reader, or a part that all modalities share."""

    name: str
    module: str
    """Class name."""
    input_shape: tuple[int | str, ...] | None
    """Input shape of an encoder, without time and batch; a name stands for a size that is not fixed."""
    tokens: int | None
    """Tokens N per sample of an encoder; None if the input's size is unknown, and for other parts."""
    parameters: int
    layers: int
    """Layers of neurons."""
    neurons: int | None
    """Neurons per sample; None if the input's size is unknown."""


@dataclass(frozen=True)
class ModelSummary:
    """The parts of a model; `print` shows a table."""

    parts: tuple[ModelPart, ...]

    @property
    def parameters(self) -> int:
        """Parameters of the whole model."""
        return sum(part.parameters for part in self.parts)

    @property
    def neurons(self) -> int | None:
        """Neurons of the whole model per sample; None if an input's size is unknown."""
        counts = [part.neurons for part in self.parts if part.neurons is not None]
        return sum(counts) if len(counts) == len(self.parts) else None

    def __str__(self) -> str:
        return text_table(_HEADINGS, self._rows())

    def _repr_html_(self) -> str:
        return html_table(_HEADINGS, self._rows(), caption=f"{self.parameters:,} parameters")

    def _rows(self) -> list[list[str]]:
        total = ModelPart(
            "total", "", None, None, self.parameters, sum(part.layers for part in self.parts), self.neurons
        )
        return [
            [
                part.name,
                part.module,
                "" if part.input_shape is None else " x ".join(map(str, part.input_shape)),
                "" if part.tokens is None else f"{part.tokens:,}",
                f"{part.parameters:,}",
                f"{part.layers:,}",
                "?" if part.neurons is None else f"{part.neurons:,}",
            ]
            for part in (*self.parts, total)
        ]


def summary(model: FusionModel) -> ModelSummary:
    """Summarize a model by modality and by pair, with tokens, parameters and neurons; the model is unchanged.

    Nothing is computed: if the inputs' shapes are known, as in every model from a spec, the model runs on fake tensors
    to count the neurons of each layer.

    Args:
        model: any model; neurons are None if an encoder takes inputs of any size.
    """
    part_of = _parts(model)
    neurons = _neurons(model)
    parameters: dict[str, int] = {}
    layers: dict[str, int] = {}
    counts: dict[str, int] = {}
    for name, parameter in model.named_parameters():
        part = part_of(name)
        parameters[part] = parameters.get(part, 0) + parameter.numel()
    for name in spiking_layers(model):
        part = part_of(name)
        layers[part] = layers.get(part, 0) + 1
        counts[part] = counts.get(part, 0) + (0 if neurons is None else neurons.get(name, 0))

    def row(
        name: str, module: nn.Module, shape: tuple[int | str, ...] | None = None, tokens: int | None = None
    ) -> ModelPart:
        known = None if neurons is None else counts.get(name, 0)
        return ModelPart(
            name, type(module).__name__, shape, tokens, parameters.get(name, 0), layers.get(name, 0), known
        )

    rows: list[ModelPart] = []
    for name, encoder in model.encoders.items():
        assert isinstance(encoder, Encoder)
        sizes = [axis for axis in encoder.axes if isinstance(axis, int)]
        tokens = encoder.count_tokens(sizes) if len(sizes) == len(encoder.axes) else None
        rows.append(row(name, encoder, encoder.axes, tokens))
    for pair in permutations(model.modalities, 2):
        name = _pair_title(pair)
        if name in parameters or name in layers:
            rows.append(row(name, model.fusion))
    others = {"fusion": model.fusion, "readout": model.readout, "alignment": model.alignment}
    rows += [
        row(name, module)
        for name, module in others.items()
        # Skip a loss without parameters, and a method all of whose parts belong to pairs.
        if module is not None and (name == "readout" or name in parameters or name in layers)
    ]
    return ModelSummary(tuple(rows))


def _parts(model: FusionModel) -> Callable[[str], str]:
    """Return a function from a dotted name to the part that it belongs to."""
    pairs = {pair_name(pair): _pair_title(pair) for pair in permutations(model.modalities, 2)}

    def part_of(name: str) -> str:
        first, *rest = name.split(".")
        if first == "encoders":
            return rest[0]
        of_pair = [pairs[word] for word in rest if word in pairs] if first == "fusion" else []
        return of_pair[0] if of_pair else first

    return part_of


def _pair_title(pair: tuple[str, str]) -> str:
    return f"{pair[0]} reads {pair[1]}"


def _neurons(model: FusionModel) -> dict[str, int] | None:
    """Count the neurons of each layer per sample, by dotted name; None if the inputs' shapes are unknown."""
    shapes: dict[str, list[int]] = {}
    for name, encoder in model.encoders.items():
        assert isinstance(encoder, Encoder)
        shapes[name] = [axis for axis in encoder.axes if isinstance(axis, int)]
        if len(shapes[name]) < len(encoder.axes):
            return None
    counts: dict[str, int] = {}

    def count(name: str) -> Callable[[nn.Module, object, Tensor], None]:
        def hook(_module: nn.Module, _inputs: object, spikes: Tensor) -> None:
            # A shared layer runs on the tokens of all modalities in one call: [T, 1 * N, C] for one sample.
            counts[name] = counts.get(name, 0) + spikes.numel() // len(spikes)

        return hook

    parameter = next(model.parameters())
    modes = {module: module.training for module in model.modules()}
    handles = [layer.neuron.register_forward_hook(count(name)) for name, layer in spiking_layers(model).items()]
    try:
        model.eval()
        with torch.no_grad(), FakeTensorMode(allow_non_fake_inputs=True):
            model({name: parameter.new_empty(1, *shape) for name, shape in shapes.items()})
    finally:
        for handle in handles:
            handle.remove()
        for module, training in modes.items():
            module.training = training
    return counts
