"""What counted in an input: how far the answer's probability falls when a part of it is blanked.

Works for any model, whatever goes on in it (Zeiler and Fergus 2014, arXiv:1311.2901). A part is blanked with the median
of its channel over the input's places and steps, which is the background of most pictures and the silence of most
recordings; for readings without places, the median of all of them.
"""

# PyTorch leaves the types of some of its own methods open.
# pyright: reportUnknownMemberType=false
from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import torch
from torch import Tensor

from scmrl.explain.asking import answered, chances, encoder_of, repeated
from scmrl.explain.geometry import Floats, Geometry
from snn_fusion import FusionModel

PARTS = 64
"""Parts of an input that are blanked one after the other."""
LARGEST = 2**22
"""Numbers of one modality that the model is given at once."""
NOISE = 1e-6
"""Differences of probabilities below this are rounding, which depends on how many samples are computed at once."""


@torch.no_grad()
def occlusion(
    model: FusionModel, inputs: Mapping[str, Tensor], geometries: Mapping[str, Geometry], winner: int
) -> dict[str, Floats]:
    """By modality a map of its plane: the drop of the class's probability when that place's part is blanked.

    Args:
        model: in evaluation mode.
        inputs: a batch of one by modality.
        geometries: by modality where its places are.
        winner: index of the class.
    """
    tokens = {name: encoder_of(model, name)(x) for name, x in inputs.items()}
    before = chances(answered(model, tokens))[0, winner]
    maps: dict[str, Floats] = {}
    for name, x in inputs.items():
        parts, fill = _masks(geometries[name], x.device), _ordinary(x, geometries[name])
        size = max(1, LARGEST // x.numel())
        drops: list[Tensor] = []
        for start in range(0, len(parts), size):
            masks = parts[start : start + size]
            blanked = torch.where(masks, fill, repeated(model, name, x, len(masks)))
            # What the other senses become does not depend on this one.
            batch = {other: each.expand(-1, len(masks), -1, -1) for other, each in tokens.items()}
            batch[name] = encoder_of(model, name)(blanked)
            drops.append(before - chances(answered(model, batch))[:, winner])
        found = torch.cat(drops).float()
        maps[name] = torch.where(found.abs() < NOISE, 0.0, found).cpu().numpy()[geometries[name].cells(PARTS)]
    return maps


def _masks(geometry: Geometry, device: torch.device) -> Tensor:
    """Where each part is, bool [parts, ...] for the axes of a sample."""
    cells = torch.from_numpy(geometry.cells(PARTS)).to(device)
    numbers = torch.arange(int(cells.max()) + 1, device=device)
    cells = cells.view(*[1] * geometry.before, *cells.shape, *[1] * geometry.behind)
    return cells == numbers.view(-1, *[1] * cells.dim())


def _ordinary(x: Tensor, geometry: Geometry) -> Tensor:
    """What a part is blanked with: the median of each channel over steps and places, with axes of 1 for those."""
    last = x.dim() - geometry.behind
    places = range(last - len(geometry.plane), last)
    outside = range(places.start - geometry.before)  # time and batch
    return torch.from_numpy(np.median(x.cpu().numpy(), axis=(*outside, *places), keepdims=True)).to(x)
