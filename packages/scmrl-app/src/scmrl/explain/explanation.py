"""All there is to show of one sample: what the model said, what was read where, what counted, which neurons fired."""

# PyTorch leaves the types of some of its own methods open.
# pyright: reportUnknownMemberType=false
from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from scmrl.explain.asking import asked, chances, encoder_of
from scmrl.explain.attention import maps, readers_of
from scmrl.explain.contribution import contributions
from scmrl.explain.geometry import Floats, Kind, geometry_of
from scmrl.explain.occlusion import occlusion
from scmrl.explain.watching import raster, shown_layers, watched
from snn_datasets import DatasetInfo
from snn_fusion import FusionModel, Pair, WeightAttention


@dataclass(frozen=True, eq=False)
class Explanation:
    """What a model did with one sample; arrays are float32 unless said.

    A modality's plane is where its places lie: [H, W] of an input [C, H, W], [L] of [C, L], [C] of [C], and [N] where
    the input is N ready-made tokens.
    """

    classes: tuple[str, ...]
    """Names of the K classes."""
    probabilities: Floats
    """Of each class [K]; the largest is the answer."""
    label: int | None
    """Index of the true class, if it is known."""
    inputs: dict[str, Floats]
    """By modality that the sample has, as the model got it: [C, H, W], [C, L] or [C], with T first where timed."""
    kinds: dict[str, str]
    """By modality what it was recorded as: image, video, waveform, events or series."""
    places: dict[str, Kind]
    """By modality what the places of its plane are: picture, series, vector or tokens."""
    timed: frozenset[str]
    """Modalities whose input has T first."""
    attention: dict[Pair, Floats]
    """(target, source): how much of each place of the SOURCE the target read, on the source's plane; (m, m) within a
    modality. In units of the even share: 1 means as much as if all places were read alike, 0 everywhere that nothing
    was read. For encoders whose tokens have no place in the input one number a token [N]. Empty for methods without
    attention over places."""
    reading: dict[Pair, Floats]
    """The same reading seen from the other end: how much each place of the TARGET read, on the target's plane."""
    saliency: dict[str, Floats]
    """By modality how much each place of its plane counted, 0 to 1: the mean attention to it, or where there is none
    what `occlusion` found."""
    saliency_from: dict[str, str]
    """By modality where its saliency comes from: attention or occlusion."""
    occlusion: dict[str, Floats]
    """By modality how far the winning class's probability falls when a place of its plane is blanked; below 0 where
    it rises."""
    weights: dict[str, Floats]
    """By modality what its tokens are multiplied by at each time step [T], from methods that do so."""
    rasters: dict[str, NDArray[np.bool_]]
    """By layer whether its units fire, bool [T, units], at most 200 units, evenly chosen: the last layer of each
    encoder, and all layers of the cross-modal branch."""
    residuals: dict[Pair, Floats]
    """(target, source): mean magnitude of alpha times what was read, at each time step [T]."""
    contribution: dict[str, float]
    """By modality its Shapley value for the winning class's probability, see `scmrl.explain.contribution`."""

    @property
    def answer(self) -> int:
        """Index of the most probable class."""
        return int(self.probabilities.argmax())


@torch.no_grad()
def explain(
    model: FusionModel, inputs: Mapping[str, Tensor], info: DatasetInfo, *, label: int | None = None
) -> Explanation:
    """Explain what a model says of one sample.

    Args:
        model: any fusion model, on the device of the inputs; it is left as it was.
        inputs: by modality a batch of one, [1, ...] or [T, 1, ...]; one that is left out is absent.
        info: the dataset's description, for class names and kinds of recording.
        label: the true class, if it is known.

    Raises:
        ValueError: a batch of another size, no input at all, or inputs that the model does not take.
    """
    _check(model, inputs)
    inputs = {name: inputs[name] for name in model.modalities if name in inputs}
    was_training = model.training
    model.eval()
    try:
        readers, layers = readers_of(model), shown_layers(model)
        weighing = {name: module for name, module in _weighing(model).items() if name in inputs}
        tokens: dict[str, int] = {}
        counting = model.fusion.register_forward_pre_hook(lambda _, given: tokens.update(_counts(given[0])))
        modules = {module for reader in readers for module in reader.modules}
        try:
            with watched([*modules, *layers.values(), *weighing.values()]) as seen:
                output = asked(model, inputs)
        finally:
            counting.remove()
        probabilities = chances(output.logits)[0]
        winner = int(probabilities.argmax())
        geometries = {name: geometry_of(encoder_of(model, name), x) for name, x in inputs.items()}
        attention: dict[Pair, Floats] = {}
        reading: dict[Pair, Floats] = {}
        for (target, source), (by_target, of_source) in maps(readers, seen, tokens).items():
            reading[target, source] = geometries[target].spread(by_target.cpu().numpy())
            attention[target, source] = geometries[source].spread(of_source.cpu().numpy())
        blanking = occlusion(model, inputs, geometries, winner)
        read = {name: _read_of(name, found.shape, attention) for name, found in blanking.items()}
        return Explanation(
            classes=info.classes,
            probabilities=_floats(probabilities),
            label=label,
            inputs={
                name: _floats(x.select(encoder_of(model, name).batch_axis(x), 0).clone()) for name, x in inputs.items()
            },
            kinds={name: info.modalities[name].kind for name in inputs},
            places={name: geometry.kind for name, geometry in geometries.items()},
            timed=frozenset(name for name, x in inputs.items() if encoder_of(model, name).batch_axis(x) == 1),
            attention=attention,
            reading=reading,
            saliency={name: _scaled(blanking[name] if found is None else found) for name, found in read.items()},
            saliency_from={name: "occlusion" if found is None else "attention" for name, found in read.items()},
            occlusion=blanking,
            weights={name: _floats(seen[module].flatten()) for name, module in weighing.items() if module in seen},
            rasters={name: raster(seen[n]).cpu().numpy() for name, n in layers.items() if n in seen},
            residuals=_sizes(model, output.residuals),
            contribution=contributions(model, inputs, winner),
        )
    finally:
        model.train(was_training)


def _check(model: FusionModel, inputs: Mapping[str, Tensor]) -> None:
    for name, x in inputs.items():
        if name not in model.modalities:
            raise ValueError(f"the model reads {', '.join(model.modalities)}, and {name!r} is not among them")
        if x.shape[encoder_of(model, name).batch_axis(x)] != 1:
            raise ValueError(f"one sample is explained at a time, but {name} has the shape {tuple(x.shape)}")


def _weighing(model: FusionModel) -> dict[str, nn.Module]:
    """What gives each modality its weight, in methods that multiply modalities by one."""
    return dict(model.fusion.weights.items()) if isinstance(model.fusion, WeightAttention) else {}


def _counts(tokens: Mapping[str, Tensor]) -> dict[str, int]:
    return {name: x.shape[2] for name, x in tokens.items()}


def _sizes(model: FusionModel, residuals: Mapping[Pair, Tensor]) -> dict[Pair, Floats]:
    alphas = model.fusion.alphas
    return {
        pair: abs(alphas.get(pair, 1.0)) * _floats(residual.abs().mean((1, 2, 3)))
        for pair, residual in residuals.items()
    }


def _read_of(name: str, plane: tuple[int, ...], attention: Mapping[Pair, Floats]) -> Floats | None:
    """The mean of what all readers read of a modality, on its plane; None where nothing tells."""
    read = [m for (_, source), m in attention.items() if source == name and m.shape == plane and m.any()]
    return np.mean(read, axis=0) if read else None


def _scaled(found: Floats) -> Floats:
    """0 to 1, and 0 everywhere where nothing counted."""
    found = found.clip(min=0)
    most = found.max()
    return found / most if most > 0 else found


def _floats(x: Tensor) -> Floats:
    return x.float().cpu().numpy()
