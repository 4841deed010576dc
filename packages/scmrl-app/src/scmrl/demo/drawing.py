"""An explanation as JSON that the page draws: numbers as they are, pictures as bytes.

The page draws them itself, because a moved slider then costs some kilobytes and no picture has to be made on the
server, and because what is switched on and off (what was read, time steps, dark colors) needs no request.
"""

from __future__ import annotations

import base64
from typing import Any

import numpy as np
from numpy.typing import NDArray

from scmrl.explain.explanation import Explanation
from snn_datasets import DatasetInfo, ModalityInfo

Floats = NDArray[np.float32]


def drawn(explanation: Explanation, info: DatasetInfo) -> dict[str, Any]:
    """Everything that the page shows of an explanation; info is of the dataset."""
    return {
        "contribution": explanation.contribution,
        "overlays": {
            name: _overlays(explanation, name, timed=info.modalities[name].time_steps is not None)
            for name in explanation.inputs
        },
        "rasters": [
            {"layer": layer, "rate": float(spikes.mean()), **_plane(spikes.T)}
            for layer, spikes in explanation.rasters.items()
        ],
        "residuals": [
            {"target": target, "source": source, "steps": steps.tolist()}
            for (target, source), steps in explanation.residuals.items()
        ],
    }


def frames_of(value: Floats, clean: Floats, info: ModalityInfo) -> list[dict[str, Any]]:
    """One input as pictures: one where it is static, else the mean over time and then one a time step.

    Colors stay colors, other channels are added up. Inputs without a plane are pictures of channels (down) by places
    or time steps (across).

    Args:
        value: the input, with T first where it has time.
        clean: the same before noise; its lowest value is black, its highest white.
        info: of the modality.
    """
    pictures, reference = (_pictures(x, info) for x in (value, clean))
    # The channels of a series are different things in different units.
    axes = (0, 1, 3) if info.kind == "series" else (0, 1, 2, 3)
    low, high = reference.min(axes, keepdims=True), reference.max(axes, keepdims=True)
    if info.kind in ("image", "video") and low.min() >= 0 and high.max() <= 1:
        low, high = np.zeros_like(low), np.ones_like(high)
    scaled = ((pictures - low) / np.where(high > low, high - low, 1)).clip(0, 1)
    if len(scaled) > 1:
        scaled = np.concatenate([scaled.mean(0, keepdims=True), scaled])
    return [_plane(np.moveaxis(picture, 0, 2)) for picture in scaled]


def is_flipped(info: ModalityInfo) -> bool:
    """Whether rows count upwards: those of a spectrogram do, low frequencies first."""
    return info.kind == "waveform" and len(info.shape) == 3


def axes_of(info: ModalityInfo) -> str:
    """What the axes of a sense's picture are, where it is no view of the world."""
    if is_flipped(info):
        return "frequencies up, time across"
    return "channels down, time across" if len(info.shape) < 3 else ""


def _pictures(value: Floats, info: ModalityInfo) -> Floats:
    """[frames, channels (1 or 3), height, width]."""
    timed = info.time_steps is not None
    if len(info.shape) == 1:
        # [T, C] is a picture of its own: channels down, time across.
        return (value.T if timed else value[None])[None, None]
    frames = value if timed else value[None]
    if len(info.shape) == 2:
        return frames[:, None]
    colored = info.kind in ("image", "video") and info.shape[0] == 3
    return frames if colored else frames.sum(1, keepdims=True)


def _overlays(explanation: Explanation, name: str, *, timed: bool) -> list[dict[str, Any]]:
    """What may be laid over a sense's picture, the most telling first; each stretches to the picture's size."""
    plane = explanation.saliency[name].shape
    found = [("occlusion", "", explanation.occlusion[name])]
    if explanation.saliency_from[name] == "attention":
        found.insert(0, ("saliency", "", explanation.saliency[name]))
    found += [("attention", target, read) for (target, source), read in explanation.attention.items() if source == name]
    overlays: list[dict[str, Any]] = []
    for kind, reader, values in found:
        if values.shape != plane:
            continue  # of tokens that have no place in the input
        low, high = float(values.min()), float(values.max())
        shares = (values - low) / ((high - low) or 1.0)
        if shares.ndim == 1:
            shares = shares[:, None] if timed and explanation.inputs[name].ndim == 2 else shares[None]
        overlays.append({"kind": kind, "reader": reader, "low": low, "high": high, **_plane(shares)})
    return overlays


def _plane(values: NDArray[Any]) -> dict[str, Any]:
    """Values 0..1 [height, width] or [height, width, channels] as bytes, row by row."""
    data = (values * 255 + 0.5).astype(np.uint8).tobytes()
    return {
        "height": values.shape[0],
        "width": values.shape[1],
        "channels": values.shape[2] if values.ndim == 3 else 1,
        "data": base64.b64encode(data).decode(),
    }
