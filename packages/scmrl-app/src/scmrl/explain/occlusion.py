"""Occlusion maps: how much the predicted class's probability drops when a part of the input is blanked.

Works for any model (Zeiler and Fergus 2014, arXiv:1311.2901). A part is replaced by the median of its channel over
positions and time steps, which is the background of most images and the silence of most recordings; in a vector, by the
median of all its values.
"""

# PyTorch leaves some of its methods untyped.
# pyright: reportUnknownMemberType=false
from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import torch
from torch import Tensor

from scmrl.explain.geometry import Float32Array, Geometry
from scmrl.explain.inference import class_probabilities, encoder_of, logits_from_tokens, repeat_sample
from snn_fusion import FusionModel

MAX_PARTS = 64
"""Parts per input, each blanked once."""
MAX_ELEMENTS = 2**22
"""Input elements of one modality per batch."""
ROUNDING = 1e-6
"""Differences of probabilities below this depend on the batch size and count as 0."""


@torch.no_grad()
def occlusion_maps(
    model: FusionModel, inputs: Mapping[str, Tensor], geometries: Mapping[str, Geometry], predicted: int
) -> dict[str, Float32Array]:
    """Return by modality a map of its plane: the drop of the class's probability when that part is blanked.

    Args:
        model: in evaluation mode.
        inputs: by modality, a batch of one.
        geometries: by modality.
        predicted: class index.
    """
    tokens = {name: encoder_of(model, name)(x) for name, x in inputs.items()}
    original = class_probabilities(logits_from_tokens(model, tokens))[0, predicted]
    maps: dict[str, Float32Array] = {}
    for name, x in inputs.items():
        parts, fill = _part_masks(geometries[name], x.device), _channel_medians(x, geometries[name])
        size = max(1, MAX_ELEMENTS // x.numel())
        drops: list[Tensor] = []
        for start in range(0, len(parts), size):
            masks = parts[start : start + size]
            blanked = torch.where(masks, fill, repeat_sample(model, name, x, len(masks)))
            # The tokens of the other modalities do not depend on this one.
            batch = {other: each.expand(-1, len(masks), -1, -1) for other, each in tokens.items()}
            batch[name] = encoder_of(model, name)(blanked)
            drops.append(original - class_probabilities(logits_from_tokens(model, batch))[:, predicted])
        drop = torch.cat(drops).float()
        by_part = torch.where(drop.abs() < ROUNDING, 0.0, drop).cpu().numpy()
        maps[name] = by_part[geometries[name].part_indices(MAX_PARTS)]
    return maps


def _part_masks(geometry: Geometry, device: torch.device) -> Tensor:
    """Return a mask per part, bool [parts, ...] with the axes of a sample."""
    indices = torch.from_numpy(geometry.part_indices(MAX_PARTS)).to(device)
    parts = torch.arange(int(indices.max()) + 1, device=device)
    indices = indices.view(*[1] * geometry.leading_axes, *indices.shape, *[1] * geometry.trailing_axes)
    return indices == parts.view(-1, *[1] * indices.dim())


def _channel_medians(x: Tensor, geometry: Geometry) -> Tensor:
    """Return the median of each channel over time steps and positions, with axes of length 1 for those."""
    end = x.dim() - geometry.trailing_axes
    plane = range(end - len(geometry.plane), end)
    time_and_batch = range(plane.start - geometry.leading_axes)
    return torch.from_numpy(np.median(x.cpu().numpy(), axis=(*time_and_batch, *plane), keepdims=True)).to(x)
