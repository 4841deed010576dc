"""Golden cases: arrays computed with the published code, and our module with the same weights.

The arrays keep the authors' axes (tokens [T, B, C, N], frames [B, T, C, H, W]); everything is turned into ours here.
"""

from __future__ import annotations

import json
import tempfile
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
from snn_fusion import CCSSA, FusionModel, PatchSplitting, translate_published
from snn_fusion.methods.base import FusedTokens, FusionMethod
from snn_fusion.methods.ccssa import CrossModalReader
from snn_fusion.methods.cmci import CMCI
from snn_fusion.methods.sca import SCA, PositionBias
from snn_fusion.methods.weight_attention import WeightAttention
from snn_fusion.published.checkpoint import read_published
from snn_fusion.published.names import SIDES, PublishedMethod

DATA = Path(__file__).parent / "data"
PUBLISHED_LIF = partial(LIF, detach_membrane=True)
METHODS: dict[str, PublishedMethod] = {
    "Spatial": "spatial",
    "Temporal": "temporal",
    "SpatialTemporal": "spatiotemporal",
    "WeightAttention": "weight_attention",
    "SCA": "sca",
    "CMCI": "cmci",
}


@dataclass
class Golden:
    """One file of arrays, with the settings of the published code that computed them."""

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


def frames(x: Tensor) -> Tensor:
    return rearrange(x, "b t c h w -> t b c h w").contiguous()


def unchanged(x: Tensor) -> Tensor:
    return x


class AlignedBlock(nn.Module):
    """The published block: x plus alpha times the residual, and the residual."""

    def __init__(self, reader: CrossModalReader, alpha: float) -> None:
        super().__init__()
        self.reader = reader
        self.alpha = alpha

    def forward(self, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
        residual = self.reader(x, y)
        return x + self.alpha * residual, residual


class Method(nn.Module):
    """A fusion method as a function of the target x and the source y."""

    def __init__(self, method: FusionMethod, target: str, read: Callable[[FusedTokens, str], Tensor]) -> None:
        super().__init__()
        self.method = method
        self.names = (target, SIDES[1 - SIDES.index(target)])
        self.read = read

    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        return self.read(self.method(dict(zip(self.names, (x, y), strict=True))), self.names[0])


class GivenBias(PositionBias):
    """The random position bias of the published code for the golden arrays."""

    def __init__(self, matrix: Tensor) -> None:
        super().__init__(len(matrix), kind="random")
        self.matrix = matrix

    def forward(self, like: Tensor) -> Tensor:
        return self.matrix


@dataclass
class GoldenPart:
    """Our module for a golden case, and how its names and axes map to ours."""

    module: nn.Module
    theirs: str
    """Prefix of the part in a whole published model."""
    ours: str
    """Prefix of the part in our whole model."""
    here: str = ""
    """Prefix of the part in `module`."""
    method: PublishedMethod = "spatiotemporal"
    inward: Callable[[Tensor], Tensor] = tokens
    outward: Callable[[Tensor], Tensor] = tokens

    def named(self, arrays: dict[str, Tensor]) -> dict[str, Tensor]:
        """Rename arrays from the part's published names to those in `module`."""
        whole = translate_published({self.theirs + key: x for key, x in arrays.items()}, method=self.method)
        assert all(name.startswith(self.ours) for name in whole)
        return {self.here + name.removeprefix(self.ours): x for name, x in whole.items()}


def part(golden: Golden) -> GoldenPart:
    """Build our module with the case's weights."""
    built = _part(golden)
    missing, unexpected = built.module.load_state_dict(built.named(golden.under("weights/")), strict=False)
    assert not unexpected, f"weights without a home: {unexpected}"
    # A block is one of the method's two directions.
    other = {"sca_av": "visual_reads_audio", "sca_va": "audio_reads_visual", "weight_attention": "weights.visual"}
    left = [name for name in missing if other.get(golden.name, "-") not in name]
    assert all(name.endswith(("num_batches_tracked", ".scale")) for name in left), f"not loaded: {left}"
    return built


def _part(golden: Golden) -> GoldenPart:
    s, name = golden.settings, golden.name
    reader = partial(
        CrossModalReader, s.get("C", 0), num_heads=s.get("h", 1), head_merge="published", neuron=PUBLISHED_LIF
    )
    one = "fusion.readers.audio_reads_visual."
    if name == "mlp":
        return GoldenPart(SpikingMLP(s["C"], neuron=PUBLISHED_LIF), "mlp.0.mlp.", "readout.mlps.audio.")
    if name == "cross_spatiotemporal":
        return GoldenPart(reader(attention="spatiotemporal", semantic_projection=False), "block.0.attn.", one)
    if name in ("self_attention", "cross_spatial", "cross_temporal"):
        method, over = ("temporal", "time") if name == "cross_temporal" else ("spatial", "tokens")
        attention = SpikingAttention(s["C"], num_heads=s["h"], over=over, head_merge="published", neuron=PUBLISHED_LIF)
        return GoldenPart(attention, "block.0.attn.", f"{one}{method}.", method=method)
    if name.startswith("block"):
        method = METHODS[s["attn_method"]]
        assert method in ("spatial", "temporal", "spatiotemporal")
        block = AlignedBlock(reader(attention=method, semantic_projection=s["contrastive"]), s["alpha"])
        return GoldenPart(block, "block.0.", one, here="reader.", method=method)
    if name.startswith("patch"):
        encoder = PatchSplitting(
            golden.arrays["in/x"].shape[-3],
            32,
            depth="shallow" if name == "patch_shallow" else "full",
            time_steps=s["T"],
            neuron=PUBLISHED_LIF,
        )
        return GoldenPart(encoder, "audio_patch_embed.", "encoders.audio.", inward=unchanged)
    if name == "cmci":
        joint = Method(CMCI(SIDES, s["C"], neuron=PUBLISHED_LIF), "audio", lambda fused, _: _present(fused.joint))
        return GoldenPart(joint, "block.0.attn.", "fusion.", here="method.", method="cmci")
    if name == "weight_attention":
        weighed = Method(WeightAttention(SIDES, s["C"]), "audio", lambda fused, target: fused.tokens[target])
        return GoldenPart(weighed, "block.0.attn.", "fusion.", here="method.", method="weight_attention")
    if name.startswith("sca"):
        num_tokens: dict[str, int] = dict.fromkeys(SIDES, s["N"])
        sca = SCA(SIDES, s["C"], num_heads=s["h"], num_tokens=num_tokens, position_bias="random", neuron=PUBLISHED_LIF)
        block = SIDES.index(target := "visual" if name == "sca_va" else "audio")
        give_bias(sca, golden)
        read = Method(sca, target, lambda fused, target: fused.tokens[target])
        return GoldenPart(read, f"block.{block}.attn.", "fusion.", here="method.", method="sca")
    raise AssertionError(f"no part is known for {name}")


def _present(joint: Tensor | None) -> Tensor:
    assert joint is not None
    return joint


def give_bias(sca: nn.Module, golden: Golden) -> None:
    """Replace the random position bias by the published one."""
    if "position_bias" in golden.arrays:
        sca.get_submodule("readers.visual_reads_audio").bias = GivenBias(golden.arrays["position_bias"])


def method_of(golden: Golden) -> PublishedMethod:
    """Return the method of a whole model's case, by its name in `read_published`."""
    return METHODS[golden.settings["attn_method"]] if golden.settings.get("cross_attn") else "none"


def model(golden: Golden) -> FusionModel:
    """Import the whole published model from a checkpoint of the case's weights."""
    s, method = golden.settings, method_of(golden)
    with tempfile.TemporaryDirectory() as folder:
        checkpoint = Path(folder) / "checkpoint.pth.tar"
        torch.save({"state_dict": golden.under("weights/")}, checkpoint)
        published = read_published(
            checkpoint,
            time_steps=s["T"],
            num_heads=s["num_heads"],
            alpha=s.get("alpha", 1.5),
            temperature=s.get("temperature", 0.1),
            # Pass only what the weights do not determine: random ones have no counters that show which blocks were run.
            method=None if method in ("spatiotemporal", "weight_attention", "cmci") else method,
        )
        built = published.build(dict.fromkeys(SIDES, (s["size"], s["size"])) if method == "sca" else None)
    if isinstance(built.fusion, CCSSA):
        assert isinstance(built.fusion.readers, nn.ModuleDict)
        assert list(built.fusion.readers) == ["audio_reads_visual", "visual_reads_audio"]
    give_bias(built.fusion, golden)
    return built


def model_inputs(golden: Golden) -> dict[str, Tensor]:
    """Return a whole model's inputs by modality, with gradients enabled."""
    if golden.name == "model_unimodal":
        return {"input": frames(golden.arrays["in/x"]).requires_grad_()}
    axes = unchanged if golden.settings["static"] else frames
    return {name: axes(golden.arrays[f"in/{name}"]).requires_grad_() for name in SIDES}


def model_arrays(golden: Golden, group: str) -> dict[str, Tensor]:
    """Return a whole model's arrays by our names."""
    return translate_published(golden.under(group), method=method_of(golden))
