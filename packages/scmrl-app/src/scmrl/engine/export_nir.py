"""The encoder of one modality as a NIR file, where NIR can express it."""

# nir has no stubs.
# pyright: reportMissingTypeStubs=false, reportUnknownMemberType=false, reportUnknownVariableType=false
# pyright: reportUnknownArgumentType=false
from __future__ import annotations

from collections.abc import Mapping
from io import BytesIO
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from snn_datasets import Batch
from snn_fusion import Encoder, FittedEncoder, FusionModel
from snn_fusion.encoders.vector import VectorEncoder

TIME_STEP = 1e-4
"""Seconds that one time step stands for in the file."""
MOST = 1e-3
"""Share of spikes that may differ by rounding."""


def save_nir(model: FusionModel, modality: str, path: Path) -> None:
    """Write the encoder of a modality: from vectors as maps of one pixel (C, 1, 1) to tokens one after the other.

    Raises:
        ValueError: NIR cannot express the encoder.
        ImportError: the package nir is not installed.
    """
    from snn_core.interop.nir import to_nir

    encoder = _vector_encoder(model, modality)
    try:
        graph = to_nir(encoder.embed, input_shape=(encoder.axes[0], 1, 1), dt=TIME_STEP)  # pyright: ignore[reportArgumentType]
    except ValueError as error:
        raise ValueError(f"the encoder of {modality} cannot be written as NIR: {error}") from error

    import nir

    # Not to the file itself: where the disk is full, HDF5's library ends the whole process.
    content = BytesIO()
    nir.write(content, graph)  # pyright: ignore[reportArgumentType]  it takes any file
    path.write_bytes(content.getbuffer())


def compare_nir(path: Path, model: FusionModel, modality: str, batch: Batch) -> tuple[int, int]:
    """Step through a stored graph by NIR's equations: how many spikes differ from the encoder's, of how many.

    Raises:
        ValueError: more differ than rounding explains.
    """
    import nir

    x, encoder = batch["inputs"][modality], _vector_encoder(model, modality)
    with torch.no_grad():
        expected: Tensor = model.encoders[modality](x)
    timed = model.encoders[modality].batch_axis(x) == 1  # pyright: ignore[reportCallIssue]
    currents = (x if timed else x.expand(encoder.time_steps, *x.shape)).flatten(2)
    spikes = _step_through(nir.read(str(path)), currents[..., None, None])
    found = spikes.flatten(2).unflatten(2, (encoder.num_tokens, -1))
    different, total = int((found != expected).sum()), expected.numel()
    if different > MOST * total:
        raise ValueError(f"the NIR graph is not the same: {different} of {total} spikes differ; nothing was written")
    return different, total


def _vector_encoder(model: FusionModel, modality: str) -> VectorEncoder:
    """The encoder, if it is one that NIR knows the parts of; of one that flattens its input, what comes after.

    Raises:
        ValueError: it is not.
    """
    encoder: Encoder = model.encoders[modality]  # pyright: ignore[reportAssignmentType]
    if isinstance(encoder, FittedEncoder) and not encoder.padding:
        encoder = encoder.encoder
    if type(encoder) is VectorEncoder:
        return encoder
    pools = any(isinstance(module, nn.MaxPool2d) for module in encoder.modules())
    why = "takes the largest of neighboring spikes and adds positions" if pools else "has parts"
    raise ValueError(
        f"the encoder of {modality}, {type(encoder).__name__}, {why}, which NIR cannot express; of this library's "
        "encoders it can express the one of vectors; --format pt2 and onnx take whole models of all kinds"
    )


def _step_through(graph: Any, x: Tensor) -> Tensor:
    """Spikes of a chain of convolutions and LIF or IF neurons on currents [T, B, C, 1, 1], by forward Euler."""
    nodes: Mapping[str, Any] = graph.nodes
    following: dict[str, str] = dict(graph.edges)
    name = following["input"]
    while name != "output":
        node = nodes[name]
        if hasattr(node, "weight"):
            weight, bias = torch.from_numpy(node.weight).float(), torch.from_numpy(node.bias).float()
            x = F.conv2d(x.flatten(0, 1), weight, bias).unflatten(0, x.shape[:2])
        else:
            x = _fire(node, x)
        name = following[name]
    return x


def _fire(node: Any, x: Tensor) -> Tensor:
    threshold, reset, r = (torch.from_numpy(constant).float() for constant in (node.v_threshold, node.v_reset, node.r))
    leaks = hasattr(node, "tau")
    share = torch.from_numpy(TIME_STEP / node.tau).float() if leaks else torch.full_like(r, TIME_STEP)
    v, spikes = reset.expand(x.shape[1:]), list[Tensor]()
    for current in x:
        pull = torch.from_numpy(node.v_leak).float() - v if leaks else torch.zeros_like(v)
        v = v + share * (pull + r * current)
        fired = v > threshold
        spikes.append(fired.float())
        v = torch.where(fired, reset, v)
    return torch.stack(spikes)
