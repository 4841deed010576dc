"""Translate the weight names of the published S-CMRL code into ours, and infer the model's method from them.

The authors store a block per direction (block 0: audio reads visual, block 1: visual reads audio), 1x1 convolutions
where we have linear layers, and unused members, which are omitted here.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from typing import Literal

from torch import Tensor

from snn_fusion.methods.residual import pair_name

PublishedMethod = Literal["spatiotemporal", "spatial", "temporal", "weight_attention", "sca", "cmci", "none"]
"""S-CMRL, S-CMRL with only one of its attentions, the methods it is compared with, and no cross-attention (the
baselines of addition and concatenation)."""
ATTENTIONS: tuple[PublishedMethod, ...] = ("spatiotemporal", "spatial", "temporal")
"""The methods that are forms of CCSSA."""
SIDES = ("audio", "visual")
"""The modalities of the authors' fused models, in their order."""
NEURON = re.compile(r"(.+\.)?\w+_lif\d?\.(threshold|act_fun\.alpha)")
"""Constants that every neuron stores, including unused ones."""

_UNUSED = re.compile(r"av_attention\..+|block\.\d+\.norm[12]\.(weight|bias)")
_LAYERS = {"q": "query", "k": "key", "v": "value", "proj": "output", "fc1": "expand", "fc2": "contract"}
_ATTENTION = ("q", "k", "v", "proj")
_MLP = ("fc1", "fc2")


def translate_published(
    weights: Mapping[str, Tensor], *, method: PublishedMethod = "spatiotemporal", modality: str = "input"
) -> dict[str, Tensor]:
    """Rename tensors (weights, their gradients, statistics) from the authors' names to ours.

    Args:
        weights: all or some tensors of a model, without the prefix `module.`.
        method: the model's fusion method.
        modality: our name of a unimodal model's input.

    Returns:
        the tensors that take part in the computation, by our names; 1x1 convolutions as matrices.

    Raises:
        ValueError: a name that the authors' models with this method do not have.
    """
    names, unknown = our_names(weights, method=method, modality=modality)
    if unknown:
        raise ValueError(f"the published models with method {method} have no weights {join_names(unknown)}")
    return {ours: as_matrix(weights[name]) for name, ours in names.items()}


def our_names(names: Collection[str], *, method: PublishedMethod, modality: str) -> tuple[dict[str, str], list[str]]:
    """Map each published name that takes part in the computation to ours, and return the unknown names as well."""
    modules = our_modules(names, method=method, modality=modality)
    # Only the first of CMCI's two blocks is run, and none without cross-attention.
    unused = {"none": ("block.0.", "block.1."), "cmci": ("block.1.",)}.get(method, ()) if _is_multimodal(names) else ()
    translated: dict[str, str] = {}
    unknown: list[str] = []
    for name in names:
        if _UNUSED.fullmatch(name) or NEURON.fullmatch(name) or name.startswith(unused):
            continue
        module, _, tensor = name.rpartition(".")
        if module in modules:
            translated[name] = f"{modules[module]}.{tensor}"
        else:
            unknown.append(name)
    return translated, unknown


def our_modules(names: Collection[str], *, method: PublishedMethod, modality: str) -> dict[str, str]:
    """Map the published modules of the model with these weight names to ours."""
    if _is_multimodal(names):
        return _multimodal_modules(method)
    return _unimodal_modules(modality, number_of_blocks(names))


def _is_multimodal(names: Collection[str]) -> bool:
    return not any(name.startswith("patch_embed.") for name in names)


def number_of_blocks(names: Collection[str]) -> int:
    """Return the number of blocks, from their indices."""
    numbers = [re.match(r"block\.(\d+)\.", name) for name in names]
    return max((int(number[1]) + 1 for number in numbers if number), default=0)


def as_matrix(tensor: Tensor) -> Tensor:
    """Return a 1x1 convolution's weight [C_out, C_in, 1] as a matrix, any other tensor unchanged."""
    return tensor.squeeze(-1) if tensor.dim() == 3 else tensor


def join_names(names: Collection[str], *, limit: int = 8) -> str:
    """Join the first few names for a message."""
    text = "; ".join(list(names)[:limit])
    return text if len(names) <= limit else f"{text}; and {len(names) - limit} more"


def _multimodal_modules(method: PublishedMethod) -> dict[str, str]:
    """Map the published modules of an audio-visual model to ours."""
    modules: dict[str, str] = {}
    for block, (target, source) in enumerate((SIDES, SIDES[::-1])):
        modules |= _encoder(f"{target}_patch_embed.", f"encoders.{target}.")
        modules |= _layers(_MLP, f"mlp.{block}.mlp.", f"readout.mlps.{target}.")
        attention, reader = f"block.{block}.attn.", f"fusion.readers.{pair_name((target, source))}."
        if method == "spatiotemporal":
            for over in ("spatial", "temporal"):
                modules |= _layers(_ATTENTION, f"{attention}{over}_attn.", f"{reader}{over}.")
        elif method in ATTENTIONS:
            modules |= _layers(_ATTENTION, attention, f"{reader}{method}.")
        elif method == "sca":
            modules |= _layers(_ATTENTION, attention, reader)
        elif method == "weight_attention":
            weight = f"fusion.weights.{target}."
            modules |= {f"{attention}fc1": f"{weight}inner", f"{attention}fc2": f"{weight}outer"}
        elif method == "cmci":
            modules[f"block.0.attn.fc{block + 1}"] = f"fusion.sum.linears.{target}"
            modules[f"head.{block + 1}"] = f"readout.heads.{target}"
        if method in ATTENTIONS:
            modules[f"block.{block}.trans_linear"] = f"{reader}projection.linear"
    if method == "cmci":
        modules |= _layers(_MLP, "block.0.attn.mlp.mlp.", "fusion.mlp.")
    return modules | {"head.0" if method == "cmci" else "head": "readout.head"}


def _unimodal_modules(modality: str, blocks: int) -> dict[str, str]:
    """Map the published modules of a unimodal model to ours."""
    prefix = f"encoders.{modality}."
    modules = {"head": "readout.head"}
    modules |= _encoder("patch_embed.", f"{prefix}encoder." if blocks else prefix)
    for block in range(blocks):
        modules |= _layers(_ATTENTION, f"block.{block}.attn.", f"{prefix}blocks.{block}.attention.")
        modules |= _layers(_MLP, f"block.{block}.mlp.", f"{prefix}blocks.{block}.mlp.")
    return modules


def _encoder(theirs: str, ours: str) -> dict[str, str]:
    layers = {f"proj_{{}}{stage or ''}": f"stages.{stage}" for stage in range(4)} | {"rpe_{}": "position"}
    return {
        theirs + name.format(part): f"{ours}{layer}.{our_part}"
        for name, layer in layers.items()
        for part, our_part in (("conv", "conv"), ("bn", "norm"))
    }


def _layers(names: Collection[str], theirs: str, ours: str) -> dict[str, str]:
    return {
        f"{theirs}{name}_{part}": f"{ours}{_LAYERS[name]}.{our_part}"
        for name in names
        for part, our_part in (("conv", "linear"), ("bn", "norm"))
    }


def possible_methods(weights: Mapping[str, Tensor]) -> tuple[tuple[PublishedMethod, ...], str]:
    """Return the methods that an audio-visual model with these weights may have, and the evidence for a message.

    Without cross-attention the checkpoint contains its blocks nevertheless. If the counters of batch norm are stored,
    as the authors' script does, they show whether the blocks were ever run.
    """
    methods, reason = _by_names(weights)
    if methods in (("cmci",), ("none",)):
        return methods, reason
    blocks, encoder = _batches(weights, "block."), _batches(weights, "audio_patch_embed.")
    if blocks:
        return methods, f"{reason}, and the counters of batch norm show that their blocks were run"
    if blocks == 0 and encoder:
        return ("none",), "the counters of batch norm show that their blocks were never run"
    # Without counters: aligned residuals imply that the blocks were run.
    return methods if _has(weights, ".trans_linear.") else (*methods, "none"), reason


def _by_names(weights: Collection[str]) -> tuple[tuple[PublishedMethod, ...], str]:
    """Return the methods whose blocks have these names; the blocks may be unused."""
    if "head.0.weight" in weights:
        return ("cmci",), "they have one head per modality"
    if not _has(weights, ".attn."):
        return ("none",), "they have no cross-attention"
    if _has(weights, ".attn.spatial_attn.") or _has(weights, ".attn.temporal_attn."):
        return ("spatiotemporal",), "they have spatial_attn and temporal_attn"
    if _has(weights, ".attn.fc1."):
        return ("weight_attention",), "their blocks are two linear layers"
    if _has(weights, ".rpb_lif."):
        return ("sca",), "they have rpb_lif, the neuron on scores with a position bias"
    if _has(weights, ".trans_linear."):
        return ("spatial", "temporal"), "they have one attention and trans_linear"
    if _has(weights, "_lif."):
        return ("spatial", "temporal"), "they have one attention and no rpb_lif"
    return ("spatial", "temporal", "sca"), "they have one attention"


def _has(names: Collection[str], part: str) -> bool:
    return any(part in name for name in names)


def _batches(weights: Mapping[str, Tensor], prefix: str) -> int | None:
    """Return how many batches the batch norms below `prefix` have seen; None if that is not stored."""
    counts = [
        int(tensor)
        for name, tensor in weights.items()
        if name.startswith(prefix) and name.endswith(".num_batches_tracked") and tensor.numel() == 1
    ]
    return max(counts) if counts else None
