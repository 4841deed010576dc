"""Explain one prediction: attention, occlusion, contributions and spikes."""

# PyTorch leaves some of its methods untyped.
# pyright: reportUnknownMemberType=false
from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from scmrl.explain.attention import attention_maps, find_probes
from scmrl.explain.contribution import shapley_values
from scmrl.explain.geometry import Float32Array, PlaneKind, geometry_of
from scmrl.explain.inference import class_probabilities, encoder_of, run_model
from scmrl.explain.occlusion import occlusion_maps
from scmrl.explain.recording import raster, raster_neurons, record_outputs
from snn_datasets import DatasetInfo, Sample, collate
from snn_fusion import FusionModel, Pair, WeightAttention


@dataclass(frozen=True, eq=False)
class Explanation:
    """What a model computed for one sample; arrays are float32 unless noted.

    The plane of a modality holds its positions: [H, W] of an input [C, H, W], [L] of [C, L], [C] of [C], and [N] if the
    input is N tokens.
    """

    classes: tuple[str, ...]
    """Names of the K classes."""
    probabilities: Float32Array
    """Of each class [K]."""
    label: int | None
    """Index of the true class, if known."""
    inputs: dict[str, Float32Array]
    """By present modality, the model's input: [C, H, W], [C, L] or [C], with T first if it has time steps."""
    kinds: dict[str, str]
    """By modality, the kind of recording: image, video, waveform, events or series."""
    plane_kinds: dict[str, PlaneKind]
    """By modality, what the positions of its plane are."""
    timed: frozenset[str]
    """Modalities whose input has T first."""
    attention: dict[Pair, Float32Array]
    """(target, source): how much the target read from each position of the SOURCE, on the source's plane; (m, m) within
    a modality. 1 is uniform attention; 0 everywhere means that nothing was read. If tokens have no position in the
    input, one value per token [N]. Empty for methods without attention over tokens."""
    target_attention: dict[Pair, Float32Array]
    """(target, source): how much each position of the TARGET read, on the target's plane."""
    saliency: dict[str, Float32Array]
    """By modality, the importance of each position of its plane in [0, 1]: the mean attention, or the occlusion map if
    there is no attention."""
    saliency_source: dict[str, str]
    """By modality, attention or occlusion."""
    occlusion: dict[str, Float32Array]
    """By modality, the drop of the predicted class's probability when a position of its plane is blanked; negative if
    the probability rises."""
    weights: dict[str, Float32Array]
    """By modality, the weight of its tokens at each time step [T]; empty for methods without such weights."""
    rasters: dict[str, NDArray[np.bool_]]
    """By layer, spikes of its units, bool [T, units], at most 200 units, evenly spaced: the last layer of each encoder,
    and all layers of the cross-modal branch."""
    residuals: dict[Pair, Float32Array]
    """(target, source): mean |alpha * residual| at each time step [T]."""
    contributions: dict[str, float]
    """By modality, the Shapley value for the predicted class's probability; see `scmrl.explain.contribution`."""

    @property
    def prediction(self) -> int:
        """Index of the most probable class."""
        return int(self.probabilities.argmax())


@torch.no_grad()
def explain(
    model: FusionModel, inputs: Mapping[str, Tensor], info: DatasetInfo, *, label: int | None = None
) -> Explanation:
    """Explain the prediction for one sample.

    Args:
        model: any fusion model, on the device of the inputs; it is not changed.
        inputs: by modality, a batch of one, [1, ...] or [T, 1, ...]; missing modalities are absent.
        info: of the dataset: class names and kinds of recording.
        label: the true class, if known.

    Raises:
        ValueError: the batch size is not 1, there is no input, or the model does not take these inputs.
    """
    _check_inputs(model, inputs)
    inputs = {name: inputs[name] for name in model.modalities if name in inputs}
    was_training = model.training
    model.eval()
    try:
        probes, neurons = find_probes(model), raster_neurons(model)
        weight_modules = {name: module for name, module in _weight_modules(model).items() if name in inputs}
        token_counts: dict[str, int] = {}
        hook = model.fusion.register_forward_pre_hook(lambda _, args: token_counts.update(_num_tokens(args[0])))
        modules = {module for probe in probes for module in probe.modules}
        try:
            with record_outputs([*modules, *neurons.values(), *weight_modules.values()]) as recorded:
                output = run_model(model, inputs)
        finally:
            hook.remove()
        probabilities = class_probabilities(output.logits)[0]
        predicted = int(probabilities.argmax())
        geometries = {name: geometry_of(encoder_of(model, name), x) for name, x in inputs.items()}
        attention: dict[Pair, Float32Array] = {}
        target_attention: dict[Pair, Float32Array] = {}
        for (target, source), (by_target, of_source) in attention_maps(probes, recorded, token_counts).items():
            target_attention[target, source] = geometries[target].interpolate(by_target.cpu().numpy())
            attention[target, source] = geometries[source].interpolate(of_source.cpu().numpy())
        occlusion = occlusion_maps(model, inputs, geometries, predicted)
        mean_attention = {name: _mean_attention(name, drops.shape, attention) for name, drops in occlusion.items()}
        return Explanation(
            classes=info.classes,
            probabilities=_to_numpy(probabilities),
            label=label,
            inputs={
                name: _to_numpy(x.select(encoder_of(model, name).batch_axis(x), 0).clone())
                for name, x in inputs.items()
            },
            kinds={name: info.modalities[name].kind for name in inputs},
            plane_kinds={name: geometry.kind for name, geometry in geometries.items()},
            timed=frozenset(name for name, x in inputs.items() if encoder_of(model, name).batch_axis(x) == 1),
            attention=attention,
            target_attention=target_attention,
            saliency={
                name: _scale_to_one(occlusion[name] if mean is None else mean) for name, mean in mean_attention.items()
            },
            saliency_source={
                name: "occlusion" if mean is None else "attention" for name, mean in mean_attention.items()
            },
            occlusion=occlusion,
            weights={
                name: _to_numpy(recorded[module].flatten())
                for name, module in weight_modules.items()
                if module in recorded
            },
            rasters={
                layer: raster(recorded[neuron]).cpu().numpy() for layer, neuron in neurons.items() if neuron in recorded
            },
            residuals=_residual_magnitudes(model, output.residuals),
            contributions=shapley_values(model, inputs, predicted),
        )
    finally:
        model.train(was_training)


def explain_sample(model: FusionModel, sample: Sample, info: DatasetInfo) -> Explanation:
    """Explain the prediction for one sample of a dataset; `info` describes the dataset."""
    device = next(model.parameters()).device
    batch = collate([sample])
    inputs = {name: x.to(device) for name, x in batch["inputs"].items() if name not in sample.absent}
    return explain(model, inputs, info, label=sample.label)


def _check_inputs(model: FusionModel, inputs: Mapping[str, Tensor]) -> None:
    for name, x in inputs.items():
        if name not in model.modalities:
            raise ValueError(f"the model has no modality {name!r}; it has {', '.join(model.modalities)}")
        if x.shape[encoder_of(model, name).batch_axis(x)] != 1:
            raise ValueError(f"explain one sample at a time, with a batch size of 1; {name} has shape {tuple(x.shape)}")


def _weight_modules(model: FusionModel) -> dict[str, nn.Module]:
    """Return the modules that compute a weight per modality, if the fusion method has them."""
    return dict(model.fusion.weights.items()) if isinstance(model.fusion, WeightAttention) else {}


def _num_tokens(tokens: Mapping[str, Tensor]) -> dict[str, int]:
    return {name: x.shape[2] for name, x in tokens.items()}


def _residual_magnitudes(model: FusionModel, residuals: Mapping[Pair, Tensor]) -> dict[Pair, Float32Array]:
    alphas = model.fusion.alphas
    return {
        pair: abs(alphas.get(pair, 1.0)) * _to_numpy(residual.abs().mean((1, 2, 3)))
        for pair, residual in residuals.items()
    }


def _mean_attention(name: str, plane: tuple[int, ...], attention: Mapping[Pair, Float32Array]) -> Float32Array | None:
    """Return the mean attention of all targets to a modality, on its plane; None if there is none."""
    maps = [m for (_, source), m in attention.items() if source == name and m.shape == plane and m.any()]
    return np.mean(maps, axis=0) if maps else None


def _scale_to_one(values: Float32Array) -> Float32Array:
    """Clip negative values and divide by the maximum; all 0 if nothing is positive."""
    values = values.clip(min=0)
    maximum = values.max()
    return values / maximum if maximum > 0 else values


def _to_numpy(x: Tensor) -> Float32Array:
    return x.float().cpu().numpy()
