"""Encode inputs and explanations as JSON for the page.

The page draws them itself: a moved slider then costs a few kilobytes and no image on the server, and overlays, time
steps and dark mode need no request.
"""

from __future__ import annotations

import base64
from typing import Any

import numpy as np
from numpy.typing import NDArray

from scmrl.explain.explanation import Explanation
from snn_datasets import DatasetInfo, ModalityInfo

Float32Array = NDArray[np.float32]


def encode_explanation(explanation: Explanation, info: DatasetInfo) -> dict[str, Any]:
    """Return everything that the page shows of an explanation; `info` describes the dataset."""
    return {
        "contributions": explanation.contributions,
        "overlays": {
            name: _overlays(explanation, name, timed=info.modalities[name].is_timed) for name in explanation.inputs
        },
        "rasters": [
            {"layer": layer, "rate": float(spikes.mean()), **_encode_plane(spikes.T)}
            for layer, spikes in explanation.rasters.items()
        ],
        "residuals": [
            {"target": target, "source": source, "steps": steps.tolist()}
            for (target, source), steps in explanation.residuals.items()
        ],
    }


def encode_frames(value: Float32Array, clean: Float32Array, info: ModalityInfo) -> list[dict[str, Any]]:
    """Encode an input as images: one if it is static, else the mean over time followed by one per time step.

    RGB channels stay colors, other channels are summed. Inputs without a plane become images of channels (down) by
    positions or time steps (across).

    Args:
        value: the input, with T first if it has time steps.
        clean: the same before noise; its minimum is black, its maximum white.
        info: of the modality.
    """
    images, reference = (_to_images(x, info) for x in (value, clean))
    # The channels of a series are different quantities with different units.
    axes = (0, 1, 3) if info.kind == "series" else (0, 1, 2, 3)
    low, high = reference.min(axes, keepdims=True), reference.max(axes, keepdims=True)
    if info.kind in ("image", "video") and low.min() >= 0 and high.max() <= 1:
        low, high = np.zeros_like(low), np.ones_like(high)
    scaled = ((images - low) / np.where(high > low, high - low, 1)).clip(0, 1)
    if len(scaled) > 1:
        scaled = np.concatenate([scaled.mean(0, keepdims=True), scaled])
    return [_encode_plane(np.moveaxis(image, 0, 2)) for image in scaled]


def is_flipped(info: ModalityInfo) -> bool:
    """Return whether the first row is at the bottom, as in a spectrogram, where low frequencies come first."""
    return info.kind == "waveform" and len(info.shape) == 3


def axes_label(info: ModalityInfo) -> str:
    """Describe the axes of a modality's image; "" if they are spatial."""
    if is_flipped(info):
        return "frequencies up, time across"
    return "channels down, time across" if len(info.shape) < 3 else ""


def _to_images(value: Float32Array, info: ModalityInfo) -> Float32Array:
    """Return [frames, channels (1 or 3), height, width]."""
    timed = info.is_timed
    if len(info.shape) == 1:
        # [T, C] is one image: channels down, time across.
        return (value.T if timed else value[None])[None, None]
    frames = value if timed else value[None]
    if len(info.shape) == 2:
        return frames[:, None]
    is_rgb = info.kind in ("image", "video") and info.shape[0] == 3
    return frames if is_rgb else frames.sum(1, keepdims=True)


def _overlays(explanation: Explanation, name: str, *, timed: bool) -> list[dict[str, Any]]:
    """Return the overlays of a modality's image, most informative first; the page stretches each to the image."""
    plane = explanation.saliency[name].shape
    maps = [("occlusion", "", explanation.occlusion[name])]
    if explanation.saliency_source[name] == "attention":
        maps.insert(0, ("saliency", "", explanation.saliency[name]))
    maps += [("attention", target, read) for (target, source), read in explanation.attention.items() if source == name]
    overlays: list[dict[str, Any]] = []
    for kind, target, values in maps:
        if values.shape != plane:
            continue  # of tokens without a position in the input
        low, high = float(values.min()), float(values.max())
        scaled = (values - low) / ((high - low) or 1.0)
        if scaled.ndim == 1:
            scaled = scaled[:, None] if timed and explanation.inputs[name].ndim == 2 else scaled[None]
        overlays.append({"kind": kind, "target": target, "low": low, "high": high, **_encode_plane(scaled)})
    return overlays


def _encode_plane(values: NDArray[Any]) -> dict[str, Any]:
    """Encode values in [0, 1], [height, width] or [height, width, channels], as bytes, row by row."""
    data = (values * 255 + 0.5).astype(np.uint8).tobytes()
    return {
        "height": values.shape[0],
        "width": values.shape[1],
        "channels": values.shape[2] if values.ndim == 3 else 1,
        "data": base64.b64encode(data).decode(),
    }
