"""Names of the published S-CMRL code's weights, translated into ours, and what they tell of the model.

The authors store a block per direction (block 0: audio reads visual, block 1: visual reads audio), 1x1 convolutions
where we have linear layers, and members that never take part in the computation, which are left out here.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from typing import Literal

from torch import Tensor

from snn_fusion.methods.residual import pair_name

PublishedMethod = Literal["spatiotemporal", "spatial", "temporal", "weight_attention", "sca", "cmci", "none"]
"""S-CMRL itself and with one of its attentions alone, the methods it is compared with, and no cross-attention (the
baselines of addition and concatenation)."""
ATTENTIONS: tuple[PublishedMethod, ...] = ("spatiotemporal", "spatial", "temporal")
"""The methods that are forms of CCSSA."""
SIDES = ("audio", "visual")
"""The modalities of the authors' fused models, in their order."""
NEURON = re.compile(r"(.+\.)?\w+_lif\d?\.(threshold|act_fun\.alpha)")
"""Constants that every neuron stores, those that are never run included."""

_UNUSED = re.compile(r"av_attention\..+|block\.\d+\.norm[12]\.(weight|bias)")
_LAYERS = {"q": "query", "k": "key", "v": "value", "proj": "output", "fc1": "expand", "fc2": "contract"}
_ATTENTION = ("q", "k", "v", "proj")
_MLP = ("fc1", "fc2")


def translate_published(
    weights: Mapping[str, Tensor], *, method: PublishedMethod = "spatiotemporal", modality: str = "input"
) -> dict[str, Tensor]:
    """Tensors by the names of the authors' weights (the weights, their gradients, statistics) -> the same by ours.

    Args:
        weights: all or some of a whole model's names, without `module.`.
        method: how the modalities of the model read each other.
        modality: our name for a unimodal model's input.

    Returns:
        what takes part in the computation, by our names; 1x1 convolutions as matrices.

    Raises:
        ValueError: a name that the authors' models with this method do not have.
    """
    named, unknown = our_names(weights, method=method, modality=modality)
    if unknown:
        raise ValueError(f"the published models with method {method} have no weights {shown(unknown)}")
    return {ours: as_matrix(weights[name]) for name, ours in named.items()}


def our_names(names: Collection[str], *, method: PublishedMethod, modality: str) -> tuple[dict[str, str], list[str]]:
    """Our name of each published name that takes part in the computation, and the published names that are unknown."""
    modules = our_modules(names, method=method, modality=modality)
    # Of CMCI's two blocks only the first is run, without cross-attention none.
    idle = {"none": ("block.0.", "block.1."), "cmci": ("block.1.",)}.get(method, ()) if _fused(names) else ()
    named: dict[str, str] = {}
    unknown: list[str] = []
    for name in names:
        if _UNUSED.fullmatch(name) or NEURON.fullmatch(name) or name.startswith(idle):
            continue
        module, _, tensor = name.rpartition(".")
        if module in modules:
            named[name] = f"{modules[module]}.{tensor}"
        else:
            unknown.append(name)
    return named, unknown


def our_modules(names: Collection[str], *, method: PublishedMethod, modality: str) -> dict[str, str]:
    """Our module by theirs, for the model that weights of these names belong to."""
    return _fused_modules(method) if _fused(names) else _unimodal_modules(modality, number_of_blocks(names))


def _fused(names: Collection[str]) -> bool:
    return not any(name.startswith("patch_embed.") for name in names)


def number_of_blocks(names: Collection[str]) -> int:
    """How many blocks there are, by their numbers."""
    numbers = [re.match(r"block\.(\d+)\.", name) for name in names]
    return max((int(number[1]) + 1 for number in numbers if number), default=0)


def as_matrix(tensor: Tensor) -> Tensor:
    """A 1x1 convolution's weight [C_out, C_in, 1] as a matrix, anything else as it is."""
    return tensor.squeeze(-1) if tensor.dim() == 3 else tensor


def shown(names: Collection[str], *, at_most: int = 8) -> str:
    """Names for a message, the first few if they are many."""
    some = "; ".join(list(names)[:at_most])
    return some if len(names) <= at_most else f"{some}; and {len(names) - at_most} more"


def _fused_modules(method: PublishedMethod) -> dict[str, str]:
    """Our module by theirs, of an audio-visual model."""
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
    """Our module by theirs, of a model of one modality."""
    own = f"encoders.{modality}."
    modules = {"head": "readout.head"}
    modules |= _encoder("patch_embed.", f"{own}encoder." if blocks else own)
    for block in range(blocks):
        modules |= _layers(_ATTENTION, f"block.{block}.attn.", f"{own}blocks.{block}.attention.")
        modules |= _layers(_MLP, f"block.{block}.mlp.", f"{own}blocks.{block}.mlp.")
    return modules


def _encoder(theirs: str, ours: str) -> dict[str, str]:
    places = {f"proj_{{}}{stage or ''}": f"stages.{stage}" for stage in range(4)} | {"rpe_{}": "position"}
    return {
        theirs + name.format(part): f"{ours}{place}.{our_part}"
        for name, place in places.items()
        for part, our_part in (("conv", "conv"), ("bn", "norm"))
    }


def _layers(names: Collection[str], theirs: str, ours: str) -> dict[str, str]:
    return {
        f"{theirs}{name}_{part}": f"{ours}{_LAYERS[name]}.{our_part}"
        for name in names
        for part, our_part in (("conv", "linear"), ("bn", "norm"))
    }


def possible_methods(weights: Mapping[str, Tensor]) -> tuple[tuple[PublishedMethod, ...], str]:
    """The methods that an audio-visual model with such weights may have, and what in them shows it.

    With cross-attention off its blocks are in a checkpoint all the same. Where the counters of batch norm are stored,
    as the authors' script does, they show whether the blocks were ever run.
    """
    methods, why = _by_names(weights)
    if methods in (("cmci",), ("none",)):
        return methods, why
    blocks, encoder = _batches(weights, "block."), _batches(weights, "audio_patch_embed.")
    if blocks:
        return methods, f"{why}, and the counters of batch norm show that their blocks were run"
    if blocks == 0 and encoder:
        return ("none",), "the counters of batch norm show that their blocks were never run"
    # Without counters: what is aligned was read.
    return methods if _has(weights, ".trans_linear.") else (*methods, "none"), why


def _by_names(weights: Collection[str]) -> tuple[tuple[PublishedMethod, ...], str]:
    """The methods whose blocks have such names, apart from blocks that are never run."""
    if "head.0.weight" in weights:
        return ("cmci",), "they have a head of each modality's own"
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
    """How many batches the batch norms below `prefix` have seen; None where that is not stored."""
    counted = [
        int(tensor)
        for name, tensor in weights.items()
        if name.startswith(prefix) and name.endswith(".num_batches_tracked") and tensor.numel() == 1
    ]
    return max(counted) if counted else None
