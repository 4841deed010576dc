"""How the samples of a split lie to each other before and after fusion, as maps by t-SNE."""

# PyTorch, matplotlib and scikit-learn leave types of their own open.
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
from scmrl.explain.geometry import Floats
from scmrl.explain.panels import plain
from scmrl.report.figures import GRAY, layout
from snn_datasets import SampleDataset, collate
from snn_fusion import FusedTokens, FusionModel

MOST_SAMPLES = 500
"""Samples of a map, evenly chosen from the split."""
FEWEST_SAMPLES = 5
"""Samples below which there is nothing to see."""
COMPONENTS = 50
"""Principal components that t-SNE sees."""
PERPLEXITY = 30.0
NEIGHBORS = 10
"""Nearest samples of which the class is compared."""
NAMED = 20
"""Classes up to which the legend names them."""
JOINT = "joint representation"


@dataclass(frozen=True, eq=False)
class Features:
    """What a model makes of n samples at one place, averaged over time steps and tokens."""

    sense: str
    """A modality, or the joint representation of all."""
    after: bool
    """Whether after fusion, with the readout's own layers, or before, as the encoder gives them."""
    values: Floats
    """[n, C], without the samples that lack the modality."""
    labels: NDArray[np.int64]
    """True classes [n]."""
    right: NDArray[np.bool_]
    """Whether the model's answer is right [n]."""


@torch.no_grad()
def features(model: FusionModel, dataset: SampleDataset, *, batch_size: int, phase: Phase) -> list[Features]:
    """What the model makes of at most 500 samples, first before and then after fusion, modality by modality."""
    count = min(MOST_SAMPLES, len(dataset))
    chosen = [index * len(dataset) // count for index in range(count)]
    device = next(model.parameters()).device
    found: dict[tuple[str, bool], list[tuple[Tensor, Tensor, Tensor]]] = {}
    met: dict[str, Any] = {}
    hooks = [
        model.fusion.register_forward_pre_hook(lambda _, given: met.update(tokens=given[0])),
        model.fusion.register_forward_hook(lambda _, _given, fused: met.update(fused=fused)),
    ]
    try:
        for batch in DataLoader(Subset(dataset, chosen), batch_size=batch_size, collate_fn=collate):
            output, said, nothing = predict_batch(model, batch, device)
            labels = batch["labels"]
            right = said.argmax(1).cpu() == labels
            tokens, fused = cast("dict[str, Tensor]", met["tokens"]), cast(FusedTokens, met["fused"])
            parts = {(name, False): x.mean((0, 2)) for name, x in tokens.items()}
            parts |= {(name, True): x.mean(0) for name, x in output.features.items()}
            if fused.joint is not None:
                parts[JOINT, True] = fused.joint.mean((0, 2))
            for (name, after), values in parts.items():
                there = batch["present"].get(name, torch.ones_like(right)) & ~nothing.cpu()
                rows = values.float().cpu()[there], labels[there], right[there]
                found.setdefault((name, after), []).append(rows)
            phase.advance(len(labels))
    finally:
        for hook in hooks:
            hook.remove()
    places = sorted(found, key=lambda place: ((*model.modalities, JOINT).index(place[0]), place[1]))
    return [Features(*place, *(torch.cat(x).numpy() for x in zip(*found[place], strict=True))) for place in places]


def neighbors_agree(found: Features) -> float | None:
    """Mean share of a sample's nearest ten others, by Euclidean distance in all C dimensions, that are of its class.

    None where there are no others.
    """
    if len(found.labels) < 2:
        return None
    x = found.values.astype(np.float64)
    squares = (x**2).sum(1)
    distances = squares[:, None] + squares - 2 * x @ x.T
    np.fill_diagonal(distances, math.inf)
    nearest = distances.argsort(1, kind="stable")[:, : min(NEIGHBORS, len(x) - 1)]
    return float((found.labels[nearest] == found.labels[:, None]).mean())


def embedded(values: Floats, *, seed: int) -> Floats | None:
    """A map [n, 2] of features [n, C]: the 50 strongest principal components by t-SNE (van der Maaten and Hinton 2008).

    The two strongest components are where it starts. None where there is nothing to see: fewer than 5 samples, or
    features that are all the same.
    """
    from sklearn.decomposition import PCA
    from sklearn.manifold import TSNE

    n, width = values.shape
    if n < FEWEST_SAMPLES or width < 2 or float(values.std(0).max()) < 1e-6:
        return None
    components: Floats = PCA(min(COMPONENTS, n, width), svd_solver="full").fit_transform(values)
    start = cast(Any, components[:, :2] / components[:, 0].std() * 1e-4)
    return TSNE(init=start, perplexity=min(PERPLEXITY, (n - 1) / 3), random_state=seed).fit_transform(components)


def features_picture(found: Sequence[Features], maps: Sequence[Floats | None], classes: Sequence[str]) -> Figure:
    """A row for each modality, before fusion at the left, after it at the right, samples colored by their class."""
    senses = list(dict.fromkeys(each.sense for each in found))
    named = len(classes) <= NAMED
    scale = colormaps["tab10" if len(classes) <= 10 else "tab20" if named else "nipy_spectral"]
    colors = [scale(k if named else k / len(classes)) for k in range(len(classes))]
    figure = Figure(figsize=(9.4, 3.6 * len(senses) + 0.4), layout=layout())
    grid = figure.subplots(len(senses), 2, squeeze=False)
    for axes in grid.flat:
        axes.set_axis_off()
    for each, points in zip(found, maps, strict=True):
        axes = grid[senses.index(each.sense), int(each.after)]
        axes.set_axis_on()
        axes.set_xticks([])
        axes.set_yticks([])
        stage = "after" if each.after else "before"
        axes.set_title(f"{plain(each.sense)}, {stage} fusion ({len(each.labels)} samples)", fontsize=10)
        agree = neighbors_agree(each)
        if points is None or agree is None:
            axes.text(0.5, 0.5, "no map: too few samples,\nor all alike", ha="center", va="center", color=GRAY)
            continue
        axes.set_xlabel(f"of the nearest ten, {agree:.0%} are of the same class", fontsize=9)
        for right, marker in ((True, "o"), (False, "x")):
            rows = each.right == right
            inks = [colors[label] for label in each.labels[rows]]
            axes.scatter(*points[rows].T, c=inks, marker=marker, s=14 if right else 22, linewidths=0.9)
    marks = [
        Line2D([], [], marker=marker, color=GRAY, linestyle="", label=label)
        for marker, label in (("o", "right answer"), ("x", "wrong answer"))
    ]
    if named:
        shown = [(plain(name), color) for name, color in zip(classes, colors, strict=True)]
        marks += [Line2D([], [], marker="o", color=c, linestyle="", label=f"class {name}") for name, c in shown]
    figure.legend(handles=marks, loc="outside right center", frameon=False, fontsize=8)
    return figure
