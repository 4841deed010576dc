"""Export the encoder of one modality to a NIR file, if NIR can express it."""

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
"""Seconds per time step in the file."""
MAX_DIFFERENT = 1e-3
"""Largest allowed fraction of spikes that differ by rounding."""


def save_nir(model: FusionModel, modality: str, path: Path) -> None:
    """Write the encoder of a modality: input vectors as one-pixel maps (C, 1, 1), output tokens concatenated.

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

    # Written to memory first: on a full disk the HDF5 library terminates the process.
    content = BytesIO()
    nir.write(content, graph)  # pyright: ignore[reportArgumentType]  it accepts any file object
    path.write_bytes(content.getbuffer())


def compare_nir(path: Path, model: FusionModel, modality: str, batch: Batch) -> tuple[int, int]:
    """Simulate a stored graph by NIR's equations and return the number of spikes that differ, and of all spikes.

    Raises:
        ValueError: more differ than rounding explains.
    """
    import nir

    x, encoder = batch["inputs"][modality], _vector_encoder(model, modality)
    with torch.no_grad():
        expected: Tensor = model.encoders[modality](x)
    timed = model.encoders[modality].batch_axis(x) == 1  # pyright: ignore[reportCallIssue]
    currents = (x if timed else x.expand(encoder.time_steps, *x.shape)).flatten(2)
    spikes = _simulate(nir.read(str(path)), currents[..., None, None])
    tokens = spikes.flatten(2).unflatten(2, (encoder.num_tokens, -1))
    different, total = int((tokens != expected).sum()), expected.numel()
    if different > MAX_DIFFERENT * total:
        raise ValueError(f"the NIR graph differs in {different} of {total} spikes; nothing was written")
    return different, total


def _vector_encoder(model: FusionModel, modality: str) -> VectorEncoder:
    """Return the encoder if NIR can express its layers; for one that flattens its input, the inner encoder.

    Raises:
        ValueError: NIR cannot express it.
    """
    encoder: Encoder = model.encoders[modality]  # pyright: ignore[reportAssignmentType]
    if isinstance(encoder, FittedEncoder) and not encoder.padding:
        encoder = encoder.encoder
    if type(encoder) is VectorEncoder:
        return encoder
    pools = any(isinstance(module, nn.MaxPool2d) for module in encoder.modules())
    layers = "max pooling and positional terms" if pools else "layers"
    raise ValueError(
        f"the encoder of {modality}, {type(encoder).__name__}, has {layers} that NIR cannot express; NIR supports only "
        "the vector encoder of this library; --format pt2 and onnx export whole models of all kinds"
    )


def _simulate(graph: Any, x: Tensor) -> Tensor:
    """Simulate a chain of convolutions and LIF or IF neurons on currents [T, B, C, 1, 1], by forward Euler."""
    nodes: Mapping[str, Any] = graph.nodes
    successors: dict[str, str] = dict(graph.edges)
    name = successors["input"]
    while name != "output":
        node = nodes[name]
        if hasattr(node, "weight"):
            weight, bias = torch.from_numpy(node.weight).float(), torch.from_numpy(node.bias).float()
            x = F.conv2d(x.flatten(0, 1), weight, bias).unflatten(0, x.shape[:2])
        else:
            x = _fire(node, x)
        name = successors[name]
    return x


def _fire(node: Any, x: Tensor) -> Tensor:
    threshold, reset, r = (torch.from_numpy(constant).float() for constant in (node.v_threshold, node.v_reset, node.r))
    is_leaky = hasattr(node, "tau")
    rate = torch.from_numpy(TIME_STEP / node.tau).float() if is_leaky else torch.full_like(r, TIME_STEP)
    v, spikes = reset.expand(x.shape[1:]), list[Tensor]()
    for current in x:
        leak = torch.from_numpy(node.v_leak).float() - v if is_leaky else torch.zeros_like(v)
        v = v + rate * (leak + r * current)
        fired = v > threshold
        spikes.append(fired.float())
        v = torch.where(fired, reset, v)
    return torch.stack(spikes)
