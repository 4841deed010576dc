"""t-SNE maps of the features of a split, before and after fusion."""

# PyTorch, matplotlib and scikit-learn are partly untyped.
# pyright: reportUnknownMemberType=false, reportMissingTypeStubs=false, reportUnknownVariableType=false
from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, cast

import numpy as np
import torch
from matplotlib import colormaps
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import DataLoader, Subset

from scmrl.console.progress import Phase
from scmrl.engine.evaluate import predict_batch
from scmrl.explain.geometry import Float32Array
from scmrl.explain.panels import escape_math
from scmrl.plots.style import GRAY, layout
from snn_datasets import SampleDataset, collate
from snn_fusion import FusedTokens, FusionModel

MAX_SAMPLES = 500
"""Samples in a map, evenly spaced in the split."""
MIN_SAMPLES = 5
"""With fewer samples no map is computed."""
COMPONENTS = 50
"""Principal components that t-SNE gets."""
PERPLEXITY = 30.0
NEIGHBORS = 10
"""Nearest neighbors whose class is compared."""
MAX_LEGEND = 20
"""Number of classes up to which the legend lists them."""
JOINT = "joint representation"


@dataclass(frozen=True, eq=False)
class Features:
    """Features of n samples at one stage of the model, averaged over time steps and tokens."""

    modality: str
    """A modality, or the joint representation of all."""
    is_fused: bool
    """Whether they are readout features after fusion, or encoder features before it."""
    values: Float32Array
    """[n, C], without the samples that lack the modality."""
    labels: NDArray[np.int64]
    """True classes [n]."""
    correct: NDArray[np.bool_]
    """Whether the prediction is correct [n]."""


@torch.no_grad()
def extract_features(model: FusionModel, dataset: SampleDataset, *, batch_size: int, phase: Phase) -> list[Features]:
    """Return the features of at most 500 samples, modality by modality, first before and then after fusion."""
    count = min(MAX_SAMPLES, len(dataset))
    selected = [index * len(dataset) // count for index in range(count)]
    device = next(model.parameters()).device
    rows: dict[tuple[str, bool], list[tuple[Tensor, Tensor, Tensor]]] = {}
    recorded: dict[str, Any] = {}
    hooks = [
        model.fusion.register_forward_pre_hook(lambda _, args: recorded.update(tokens=args[0])),
        model.fusion.register_forward_hook(lambda _, _args, fused: recorded.update(fused=fused)),
    ]
    try:
        for batch in DataLoader(Subset(dataset, selected), batch_size=batch_size, collate_fn=collate):
            output, probabilities, blank = predict_batch(model, batch, device)
            labels = batch["labels"]
            correct = probabilities.argmax(1).cpu() == labels
            tokens, fused = cast("dict[str, Tensor]", recorded["tokens"]), cast(FusedTokens, recorded["fused"])
            parts = {(name, False): x.mean((0, 2)) for name, x in tokens.items()}
            parts |= {(name, True): x.mean(0) for name, x in output.features.items()}
            if fused.joint is not None:
                parts[JOINT, True] = fused.joint.mean((0, 2))
            for (name, is_fused), values in parts.items():
                present = batch["present"].get(name, torch.ones_like(correct)) & ~blank.cpu()
                chunk = values.float().cpu()[present], labels[present], correct[present]
                rows.setdefault((name, is_fused), []).append(chunk)
            phase.advance(len(labels))
    finally:
        for hook in hooks:
            hook.remove()
    stages = sorted(rows, key=lambda stage: ((*model.modalities, JOINT).index(stage[0]), stage[1]))
    return [Features(*stage, *(torch.cat(x).numpy() for x in zip(*rows[stage], strict=True))) for stage in stages]


def neighbor_agreement(features: Features) -> float | None:
    """Return the mean share of a sample's ten nearest neighbors, by Euclidean distance, that have its class.

    None if there are fewer than two samples.
    """
    if len(features.labels) < 2:
        return None
    x = features.values.astype(np.float64)
    squares = (x**2).sum(1)
    distances = squares[:, None] + squares - 2 * x @ x.T
    np.fill_diagonal(distances, math.inf)
    nearest = distances.argsort(1, kind="stable")[:, : min(NEIGHBORS, len(x) - 1)]
    return float((features.labels[nearest] == features.labels[:, None]).mean())


def embed(values: Float32Array, *, seed: int) -> Float32Array | None:
    """Map features [n, C] to [n, 2] by t-SNE of their 50 first principal components (van der Maaten and Hinton 2008).

    Initialized with the first two components. None for fewer than 5 samples or constant features.
    """
    from sklearn.decomposition import PCA
    from sklearn.manifold import TSNE

    n, width = values.shape
    if n < MIN_SAMPLES or width < 2 or float(values.std(0).max()) < 1e-6:
        return None
    components: Float32Array = PCA(min(COMPONENTS, n, width), svd_solver="full").fit_transform(values)
    start = cast(Any, components[:, :2] / components[:, 0].std() * 1e-4)
    return TSNE(init=start, perplexity=min(PERPLEXITY, (n - 1) / 3), random_state=seed).fit_transform(components)


def features_figure(
    features: Sequence[Features], maps: Sequence[Float32Array | None], classes: Sequence[str]
) -> Figure:
    """Draw a row per modality, before fusion left and after fusion right; samples are colored by class."""
    modalities = list(dict.fromkeys(each.modality for each in features))
    has_names = len(classes) <= MAX_LEGEND
    colormap = colormaps["tab10" if len(classes) <= 10 else "tab20" if has_names else "nipy_spectral"]
    colors = [colormap(k if has_names else k / len(classes)) for k in range(len(classes))]
    figure = Figure(figsize=(9.4, 3.6 * len(modalities) + 0.4), layout=layout())
    grid = figure.subplots(len(modalities), 2, squeeze=False)
    for axes in grid.flat:
        axes.set_axis_off()
    for each, points in zip(features, maps, strict=True):
        axes = grid[modalities.index(each.modality), int(each.is_fused)]
        axes.set_axis_on()
        axes.set_xticks([])
        axes.set_yticks([])
        stage = "after" if each.is_fused else "before"
        axes.set_title(f"{escape_math(each.modality)}, {stage} fusion ({len(each.labels)} samples)", fontsize=10)
        agreement = neighbor_agreement(each)
        if points is None or agreement is None:
            message = "no map: too few samples,\nor constant features"
            axes.text(0.5, 0.5, message, ha="center", va="center", color=GRAY)
            continue
        axes.set_xlabel(f"of the nearest ten, {agreement:.0%} are of the same class", fontsize=9)
        for correct, marker in ((True, "o"), (False, "x")):
            rows = each.correct == correct
            point_colors = [colors[label] for label in each.labels[rows]]
            size = 14 if correct else 22
            axes.scatter(*points[rows].T, c=point_colors, marker=marker, s=size, linewidths=0.9)
    handles = [
        Line2D([], [], marker=marker, color=GRAY, linestyle="", label=label)
        for marker, label in (("o", "correct"), ("x", "wrong"))
    ]
    if has_names:
        handles += [
            Line2D([], [], marker="o", color=color, linestyle="", label=f"class {escape_math(name)}")
            for name, color in zip(classes, colors, strict=True)
        ]
    figure.legend(handles=handles, loc="outside right center", frameon=False, fontsize=8)
    return figure
