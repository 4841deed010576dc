"""Golden cases: arrays computed with the published code, and our module with the same weights.

The arrays keep the authors' axes (tokens [T, B, C, N], frames [B, T, C, H, W]); everything is turned into ours here.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from einops import rearrange
from torch import Tensor, nn

from snn_core import LIF, SpikingAttention, SpikingMLP
from snn_fusion import CCSSA, FusionModel, ModelSpec, PatchSplitting, translate_published
from snn_fusion.methods.ccssa import CrossModalReader

DATA = Path(__file__).parent / "data"
PUBLISHED_LIF = partial(LIF, detach_membrane=True)
ATTENTION = {"Spatial": "spatial", "Temporal": "temporal", "SpatialTemporal": "spatiotemporal"}


@dataclass
class Golden:
    """One file of arrays with the settings under which the published code made them."""

    name: str
    settings: dict[str, Any]
    arrays: dict[str, Tensor]

    def under(self, prefix: str) -> dict[str, Tensor]:
        return {key.removeprefix(prefix): value for key, value in self.arrays.items() if key.startswith(prefix)}


def load(name: str, folder: Path = DATA) -> Golden:
    with np.load(folder / f"{name}.npz") as stored:
        arrays = {key: torch.from_numpy(stored[key]) for key in stored.files}
    settings = json.loads((DATA / "cases.json").read_text())[name]
    return Golden(name, settings, arrays)


def tokens(x: Tensor) -> Tensor:
    return rearrange(x, "t b c n -> t b n c")


class AlignedBlock(nn.Module):
    """The published block: x plus alpha times what it reads, and what it read."""

    def __init__(self, reader: CrossModalReader, alpha: float) -> None:
        super().__init__()
        self.reader = reader
        self.alpha = alpha

    def forward(self, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
        residual = self.reader(x, y)
        return x + self.alpha * residual, residual


@dataclass
class Part:
    """Our module for a golden case, and how its inputs and outputs are turned into our axes."""

    module: nn.Module
    prefix: str = ""
    inward: Callable[[Tensor], Tensor] = tokens
    outward: Callable[[Tensor], Tensor] = tokens


def part(golden: Golden) -> Part:
    """Build our module with the case's weights."""
    s = golden.settings
    attention = ATTENTION.get(s.get("attn_method", ""), "temporal" if golden.name == "cross_temporal" else "spatial")
    reader = partial(
        CrossModalReader, s.get("C", 32), num_heads=s.get("h", 4), head_merge="published", neuron=PUBLISHED_LIF
    )
    kind = golden.name.split("_")[0]
    if golden.name == "mlp":
        built = Part(SpikingMLP(s["C"], neuron=PUBLISHED_LIF))
    elif golden.name == "cross_spatiotemporal":
        built = Part(reader(attention="spatiotemporal", semantic_projection=False))
    elif kind in ("self", "cross"):
        over = "time" if golden.name == "cross_temporal" else "tokens"
        built = Part(
            SpikingAttention(s["C"], num_heads=s["h"], over=over, head_merge="published", neuron=PUBLISHED_LIF)
        )
    elif kind == "block":
        block = AlignedBlock(reader(attention=attention, semantic_projection=s["contrastive"]), s["alpha"])
        built = Part(block, prefix="reader.")
    elif kind == "patch":
        shallow = golden.name == "patch_shallow"
        in_channels = golden.arrays["in/x"].shape[-3]
        encoder = PatchSplitting(
            in_channels, 32, depth="shallow" if shallow else "full", time_steps=s["T"], neuron=PUBLISHED_LIF
        )
        built = Part(encoder, inward=lambda x: x)
    else:
        raise AssertionError(f"no part is known for {golden.name}")
    load_weights(built.module, golden, built.prefix, attention)
    return built


def load_weights(module: nn.Module, golden: Golden, prefix: str, attention: str) -> None:
    ours = translated(golden, "weights/", prefix, attention)
    missing, unexpected = module.load_state_dict(ours, strict=False)
    assert not unexpected, f"weights without a home: {unexpected}"
    assert all(name.endswith(("num_batches_tracked", "spike.scale")) for name in missing), f"not loaded: {missing}"


def translated(golden: Golden, group: str, prefix: str, attention: str) -> dict[str, Tensor]:
    """A group of arrays by our parameter names."""
    # A part's own first patch-splitting stage has the same name as attention's output: say which one it is.
    marker = "patch_embed." if golden.name.startswith("patch") else ""
    named = {marker + key: value for key, value in golden.under(group).items()}
    if attention in ("spatial", "temporal") and golden.name.startswith(("cross", "self")):
        named = {f"attn.{key}": value for key, value in named.items()}
    ours = translate_published(named, attention=attention)
    drop = "patch_embed." if marker else f"{attention}." if golden.name in _BARE_ATTENTION else ""
    return {prefix + key.removeprefix(drop): value for key, value in ours.items()}


_BARE_ATTENTION = ("self_attention", "cross_spatial", "cross_temporal")


def model(golden: Golden) -> FusionModel:
    """The whole published model with the case's weights."""
    s = golden.settings
    attention = ATTENTION.get(s["attn_method"], "spatiotemporal")
    fusion: dict[str, object] = {"kind": "none"}
    if s["cross_attn"]:
        fusion = {
            "kind": "ccssa",
            "attention": attention,
            "num_heads": s["num_heads"],
            "alpha": s["alpha"],
            "semantic_projection": s["contrastive"],
            "head_merge": "published",
        }
    spec = ModelSpec.model_validate(
        {
            "encoders": {
                name: {"input_shape": (channels, s["size"], s["size"]), "depth": "shallow" if s["shallow"] else "full"}
                for name, channels in (("audio", 1), ("visual", s["visual_channels"]))
            },
            "num_classes": s["num_classes"],
            "channels": s["embed_dims"],
            "time_steps": s["T"],
            "neuron": {"detach_membrane": True},
            "fusion": fusion,
            "alignment": {"temperature": s["temperature"]} if s["contrastive"] else None,
            "readout": {"combine": "concat" if s["interaction"] == "Concat" else "add"},
            "label_smoothing": 0.1,
        }
    )
    built = spec.build()
    if isinstance(built.fusion, CCSSA):
        assert list(built.fusion.readers) == ["audio_reads_visual", "visual_reads_audio"]
    missing, unexpected = built.load_state_dict(model_arrays(golden, "weights/"), strict=False)
    assert not unexpected, f"weights without a home: {unexpected}"
    assert all(name.endswith(("num_batches_tracked", "spike.scale")) for name in missing), f"not loaded: {missing}"
    return built


def model_arrays(golden: Golden, group: str) -> dict[str, Tensor]:
    """A whole model's arrays by our names; without its blocks where they exist but take no part."""
    attention = ATTENTION.get(golden.settings["attn_method"], "spatiotemporal")
    unused = () if golden.settings["cross_attn"] else ("block.",)
    stored = {key: value for key, value in golden.under(group).items() if not key.startswith(unused)}
    return translate_published(stored, attention=attention)
