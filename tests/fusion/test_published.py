"""Reading checkpoints of the published code; tests/parity shows that the models compute the same."""

import argparse
import fractions
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from snn_core import LIF, SpikingConv2d
from snn_fusion import CCSSA, FusionModel, NoFusion, PatchSplitting, from_pretrained, save_pretrained
from snn_fusion.alignment import ClassContrastive
from snn_fusion.methods.attention import CrossAttention
from snn_fusion.methods.base import FusionMethod
from snn_fusion.methods.ccssa import CrossModalReader
from snn_fusion.methods.cmci import CMCI
from snn_fusion.methods.sca import SCA
from snn_fusion.methods.weight_attention import WeightAttention
from snn_fusion.published.checkpoint import read_published
from snn_fusion.published.names import PublishedMethod, translate_published

C, K = 16, 5
Weights = dict[str, Tensor]
FUSIONS: dict[PublishedMethod, type[FusionMethod]] = {
    "spatiotemporal": CCSSA,
    "spatial": CCSSA,
    "temporal": CCSSA,
    "weight_attention": WeightAttention,
    "sca": SCA,
    "cmci": CMCI,
    "none": NoFusion,
}


def norm(name: str, width: int, batches: int) -> Weights:
    return {
        f"{name}.weight": torch.rand(width) + 0.5,
        f"{name}.bias": torch.rand(width),
        f"{name}.running_mean": torch.randn(width),
        f"{name}.running_var": torch.rand(width) + 0.5,
        f"{name}.num_batches_tracked": torch.tensor(batches),
    }


def neuron(name: str) -> Weights:
    return {f"{name}.threshold": torch.tensor(1.0), f"{name}.act_fun.alpha": torch.tensor(4.0)}


def linear(name: str, before: int, after: int) -> Weights:
    return {f"{name}.weight": torch.randn(after, before), f"{name}.bias": torch.randn(after)}


def layer(name: str, before: int, after: int, batches: int, *, bias: bool = False) -> Weights:
    weights = {f"{name}_conv.weight": torch.randn(after, before, 1)}
    if bias:
        weights[f"{name}_conv.bias"] = torch.randn(after)
    return weights | norm(f"{name}_bn", after, batches) | neuron(f"{name}_lif")


def encoder(name: str, in_channels: int, batches: int, *, shallow: bool) -> Weights:
    widths = (in_channels, C // 2, C) if shallow else (in_channels, C // 8, C // 4, C // 2, C)
    weights: Weights = {}
    for stage, (before, after) in enumerate(pairwise(widths)):
        number = stage or ""
        weights |= {f"{name}.proj_conv{number}.weight": torch.randn(after, before, 3, 3)}
        weights |= norm(f"{name}.proj_bn{number}", after, batches) | neuron(f"{name}.proj_lif{number}")
    weights |= {f"{name}.rpe_conv.weight": torch.randn(C, C, 3, 3)}
    return weights | norm(f"{name}.rpe_bn", C, batches) | neuron(f"{name}.rpe_lif")


def attention(name: str, batches: int) -> Weights:
    weights = neuron(f"{name}.attn_lif") | neuron(f"{name}.res_lif")
    for part in ("q", "k", "v", "proj"):
        weights |= layer(f"{name}.{part}", C, C, batches)
    return weights


def mlp(name: str, batches: int) -> Weights:
    return layer(f"{name}.fc1", C, 4 * C, batches, bias=True) | layer(f"{name}.fc2", 4 * C, C, batches, bias=True)


def block(number: int, method: PublishedMethod, batches: int, *, aligned: bool) -> Weights:
    name = f"block.{number}"
    weights: Weights = {}
    for unused in ("norm1", "norm2"):
        weights |= {f"{name}.{unused}.weight": torch.ones(C), f"{name}.{unused}.bias": torch.zeros(C)}
    if method == "spatiotemporal":
        weights |= attention(f"{name}.attn.spatial_attn", batches) | attention(f"{name}.attn.temporal_attn", batches)
    elif method == "weight_attention":
        weights |= linear(f"{name}.attn.fc1", 2 * C, C) | linear(f"{name}.attn.fc2", C, 1)
    elif method == "cmci":
        weights |= linear(f"{name}.attn.fc1", C, C) | linear(f"{name}.attn.fc2", C, C) | neuron(f"{name}.attn.v_lif")
        weights |= mlp(f"{name}.attn.mlp.mlp", batches)
    else:
        weights |= attention(f"{name}.attn", batches)
        if method == "sca":
            weights |= neuron(f"{name}.attn.rpb_lif")
    if aligned:
        weights |= linear(f"{name}.trans_linear", C, C) | neuron(f"{name}.trans_lif")
    return weights


def fused(
    method: PublishedMethod,
    *,
    shallow: bool = True,
    visual_channels: int = 3,
    aligned: bool = False,
    concat: bool = False,
    batches: int = 7,
) -> Weights:
    """A trained audio-visual model's weights, by the authors' names; for `none` with unused spatial blocks."""
    torch.manual_seed(0)
    weights = encoder("audio_patch_embed", 1, batches, shallow=shallow)
    weights |= encoder("visual_patch_embed", visual_channels, batches, shallow=shallow)
    for number in range(2):
        weights |= block(number, method, 0 if method == "none" else batches, aligned=aligned)
        weights |= mlp(f"mlp.{number}.mlp", batches)
    weights |= linear("av_attention.fc", C, C) | linear("av_attention.fcs.0", C, C)
    for head in ("head.0", "head.1", "head.2") if method == "cmci" else ("head",):
        weights |= linear(head, 2 * C if concat else C, K)
    return weights


def unimodal(*, blocks: int = 2, shallow: bool = True) -> Weights:
    torch.manual_seed(0)
    weights = encoder("patch_embed", 2, 7, shallow=shallow) | linear("head", C, K)
    for number in range(blocks):
        weights |= block(number, "spatial", 7, aligned=False) | mlp(f"block.{number}.mlp", 7)
    return weights


def save(folder: Path, stored: object) -> Path:
    path = folder / "checkpoint.pth.tar"
    torch.save(stored, path)
    return path


def frames(model: FusionModel, *size: int) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(1)
    inputs: dict[str, Tensor] = {}
    for name, side in model.encoders.items():
        inner = side.get_submodule("encoder") if "blocks" in dict(side.named_children()) else side
        assert isinstance(inner, PatchSplitting)
        first = inner.stages[0]
        assert isinstance(first, SpikingConv2d)
        inputs[name] = torch.randn(2, first.conv.in_channels, *size, generator=generator)
    return inputs


@pytest.mark.parametrize("method", FUSIONS)
def test_the_method_is_read_from_the_weights(tmp_path: Path, method: PublishedMethod):
    weights = fused(method)
    needs_saying = method in ("spatial", "temporal")
    model = read_published(save(tmp_path, weights), time_steps=3, method=method if needs_saying else None).build(
        {"audio": (8, 8), "visual": (8, 8)} if method == "sca" else None
    )
    assert type(model.fusion) is FUSIONS[method]
    assert not model.training
    assert model.alignment is None
    assert model.label_smoothing == 0.1
    head = "head.0" if method == "cmci" else "head"
    assert torch.equal(model.readout.head.weight, weights[f"{head}.weight"])
    state = model.state_dict()
    variance = state["encoders.visual.stages.1.norm.running_var"]
    assert torch.equal(variance, weights["visual_patch_embed.proj_bn1.running_var"])
    counter = state["encoders.audio.stages.1.norm.num_batches_tracked"]
    assert torch.equal(counter, torch.tensor(7))  # the counter shows how far training went
    assert all(lif.detach_membrane and lif.v_threshold == 1 for lif in model.modules() if isinstance(lif, LIF))
    output = model(frames(model, 8, 8))
    assert output.logits.shape == (2, K)
    assert list(output.logits_of) == (["audio", "visual"] if method == "cmci" else [])


def test_the_options_of_attention(tmp_path: Path):
    path = save(tmp_path, fused("temporal", aligned=True))
    model = read_published(path, time_steps=3, num_heads=4, alpha=0.5, temperature=0.07, method="temporal").build()
    assert isinstance(model.fusion, CCSSA)
    assert model.fusion.alphas == {("audio", "visual"): 0.5, ("visual", "audio"): 0.5}
    reader = model.fusion.get_submodule("readers.audio_reads_visual")
    assert isinstance(reader, CrossModalReader)
    assert reader.spatial is None
    assert isinstance(reader.temporal, CrossAttention)
    assert (reader.temporal.num_heads, reader.temporal.head_merge, reader.temporal.over) == (4, "published", "time")
    assert reader.projection is not None
    assert isinstance(model.alignment, ClassContrastive)
    assert model.alignment.temperature == 0.07
    assert model(frames(model, 8, 8)).features["audio"].shape == (3, 2, C)


READS = "fusion.readers.audio_reads_visual", "fusion.readers.visual_reads_audio"


@pytest.mark.parametrize(
    ("method", "theirs", "ours"),
    [
        ("spatiotemporal", "block.0.attn.temporal_attn.k_conv.weight", f"{READS[0]}.temporal.key.linear.weight"),
        ("spatiotemporal", "block.1.attn.spatial_attn.v_bn.bias", f"{READS[1]}.spatial.value.norm.bias"),
        ("spatial", "block.1.attn.q_conv.weight", f"{READS[1]}.spatial.query.linear.weight"),
        ("spatial", "block.0.trans_linear.weight", f"{READS[0]}.projection.linear.weight"),
        ("temporal", "block.0.attn.proj_bn.running_mean", f"{READS[0]}.temporal.output.norm.running_mean"),
        ("temporal", "mlp.1.mlp.fc2_conv.weight", "readout.mlps.visual.contract.linear.weight"),
        ("sca", "block.1.attn.k_conv.weight", f"{READS[1]}.key.linear.weight"),
        ("weight_attention", "block.0.attn.fc1.weight", "fusion.weights.audio.inner.weight"),
        ("weight_attention", "block.1.attn.fc2.bias", "fusion.weights.visual.outer.bias"),
        ("cmci", "block.0.attn.fc1.weight", "fusion.sum.linears.audio.weight"),
        ("cmci", "block.0.attn.fc2.bias", "fusion.sum.linears.visual.bias"),
        ("cmci", "block.0.attn.mlp.mlp.fc1_bn.weight", "fusion.mlp.expand.norm.weight"),
        ("cmci", "head.0.bias", "readout.head.bias"),
        ("cmci", "head.1.weight", "readout.heads.audio.weight"),
        ("cmci", "head.2.weight", "readout.heads.visual.weight"),
    ],
)
def test_weights_are_renamed(tmp_path: Path, method: PublishedMethod, theirs: str, ours: str):
    # Block 0 is audio reading visual; CMCI's first head is the joint one.
    weights = fused(method, aligned="trans_linear" in theirs)
    path = save(tmp_path, weights)
    model = read_published(path, time_steps=2, method=method).build({"audio": (8, 8), "visual": (8, 8)})
    expected = weights[theirs].squeeze(-1) if weights[theirs].dim() == 3 else weights[theirs]
    assert torch.equal(model.state_dict()[ours], expected)


@pytest.mark.parametrize("shallow", [True, False])
@pytest.mark.parametrize("concat", [True, False])
def test_sizes_are_read_from_the_weights(tmp_path: Path, shallow: bool, concat: bool):
    path = save(tmp_path, fused("none", shallow=shallow, concat=concat, visual_channels=2))
    checkpoint = read_published(path, time_steps=2)
    assert (checkpoint.channels, checkpoint.num_classes) == (C, K)
    assert checkpoint.depth == ("shallow" if shallow else "full")
    assert checkpoint.combine == ("concat" if concat else "add")
    assert (checkpoint.in_channels("audio"), checkpoint.in_channels("visual")) == (1, 2)
    model = checkpoint.build()
    # Images may have any size that patch splitting accepts.
    for size in ((32, 16), (16, 16)):
        assert model(frames(model, *size)).logits.shape == (2, K)


@pytest.mark.parametrize("blocks", [0, 1, 3])
def test_a_unimodal_model(tmp_path: Path, blocks: int):
    model = read_published(save(tmp_path, unimodal(blocks=blocks)), time_steps=2, num_heads=8, modality="dvs").build()
    assert model.modalities == ("dvs",)
    assert len(model.readout.mlps) == 0
    tokens = model.encoders["dvs"](images := torch.randn(2, 2, 8, 8))
    torch.testing.assert_close(model({"dvs": images}).logits, model.readout.head(tokens.mean((0, 2))))
    assert sum(".attention.query." in name for name in model.state_dict()) == 6 * blocks


def wrapped(weights: Weights) -> dict[str, object]:
    parallel = {f"module.{name}": tensor for name, tensor in weights.items()}
    options = argparse.Namespace(epochs=100, model="spikformer")
    return {
        "plain": weights,
        "parallel": parallel,
        "state_dict": {"epoch": 3, "arch": "x", "state_dict": weights, "optimizer": {"state": {}}, "args": options},
        "model": {"model": parallel},
    }


@pytest.mark.parametrize("form", ["plain", "parallel", "state_dict", "model"])
def test_forms_of_checkpoints(tmp_path: Path, form: str):
    weights = unimodal()
    model = read_published(save(tmp_path, wrapped(weights)[form]), time_steps=2).build()
    assert torch.equal(model.readout.head.weight, weights["head.weight"])


def test_the_moving_average_is_read_on_request(tmp_path: Path):
    weights = unimodal()
    average = weights | {"head.bias": torch.full((K,), 9.0)}
    path = save(tmp_path, {"state_dict": weights, "state_dict_ema": average})
    assert torch.equal(read_published(path, time_steps=2).build().readout.head.bias, weights["head.bias"])
    assert torch.equal(read_published(path, time_steps=2, ema=True).build().readout.head.bias, average["head.bias"])
    with pytest.raises(ValueError, match="no weights under state_dict_ema or model_ema; it holds state_dict"):
        read_published(save(tmp_path, {"state_dict": weights}), time_steps=2, ema=True).build()


@pytest.mark.parametrize("method", FUSIONS)
def test_an_imported_model_is_saved_and_loaded_unchanged(tmp_path: Path, method: PublishedMethod):
    aligned = method == "spatiotemporal"
    path = save(tmp_path, fused(method, aligned=aligned))
    sizes = {"audio": (8, 8), "visual": (8, 8)}
    checkpoint = read_published(path, time_steps=2, method=method)
    model, spec = checkpoint.build(sizes), checkpoint.spec(sizes)
    assert spec.num_tokens["visual"] == 4
    assert (spec.alignment is not None) == aligned
    save_pretrained(model, spec, tmp_path / "model")
    again, inputs = from_pretrained(tmp_path / "model"), frames(model, 8, 8)
    torch.manual_seed(3)  # SCA draws its bias
    expected = model(inputs).logits
    torch.manual_seed(3)
    assert torch.equal(again(inputs).logits, expected)
    assert expected.std() > 0


@pytest.mark.parametrize("method", sorted(set(FUSIONS) - {"sca"}))
def test_sizes_need_not_be_known(tmp_path: Path, method: PublishedMethod):
    """A model built without sizes accepts images of any size and computes the same."""
    checkpoint = read_published(save(tmp_path, fused(method)), time_steps=2, method=method)
    model = checkpoint.build()
    sized = checkpoint.build({"audio": (8, 12), "visual": (8, 12)})
    inputs = frames(model, 8, 12)
    assert torch.equal(model(inputs).logits, sized(inputs).logits)
    assert model(inputs).features["audio"].std() > 0


def test_blocks_that_were_never_run_are_no_method(tmp_path: Path):
    path = save(tmp_path, fused("none"))
    with pytest.raises(ValueError, match=r"contradict method 'spatial': .*their blocks were never run, so it is none"):
        read_published(path, time_steps=2, method="spatial").build()


def without(weights: Weights, part: str) -> Weights:
    return {name: tensor for name, tensor in weights.items() if part not in name}


@pytest.mark.parametrize(
    ("weights", "candidates"),
    [
        (lambda: fused("spatial"), "spatial or temporal"),
        (lambda: fused("temporal", aligned=True, batches=0), "spatial or temporal"),
        (lambda: fused("spatial", batches=0), "spatial or temporal or none"),
        (lambda: without(fused("sca", batches=0), "_lif"), "spatial or temporal or sca or none"),
    ],
)
def test_a_method_that_weights_do_not_determine_is_required(
    tmp_path: Path, weights: Callable[[], Weights], candidates: str
):
    with pytest.raises(ValueError, match=rf"do not determine their method \(.*\): pass method, {candidates}$"):
        read_published(save(tmp_path, weights()), time_steps=2).build()


@pytest.mark.parametrize(
    ("stored", "method", "message"),
    [
        ("spatiotemporal", "spatial", "contradict method 'spatial': they have spatial_attn and temporal_attn"),
        ("spatiotemporal", "none", "counters of batch norm show that their blocks were run, so it is spatiotemporal"),
        ("cmci", "none", "they have one head per modality, so it is cmci"),
        ("weight_attention", "sca", "their blocks are two linear layers, so it is weight_attention or none"),
        ("sca", "temporal", "they have rpb_lif, .* so it is sca"),
        ("spatial", "sca", "they have one attention and no rpb_lif, .* so it is spatial or temporal"),
        ("spatial", "ccssa", "method must be spatiotemporal, spatial, .* or None, but it is 'ccssa'"),
    ],
)
def test_a_method_that_the_weights_contradict(tmp_path: Path, stored: PublishedMethod, method: Any, message: str):
    with pytest.raises(ValueError, match=message):
        read_published(save(tmp_path, fused(stored)), time_steps=2, method=method).build()


def test_one_modality_has_no_method(tmp_path: Path):
    with pytest.raises(ValueError, match="has only one modality, so method must be none, not 'sca'"):
        read_published(save(tmp_path, unimodal()), time_steps=2, method="sca").build()


def test_sca_needs_sizes(tmp_path: Path):
    path = save(tmp_path, fused("sca"))
    with pytest.raises(ValueError, match="a fixed number of tokens: pass image_sizes"):
        read_published(path, time_steps=2).build()
    with pytest.raises(ValueError, match="height and width of audio, visual, but it has visual"):
        read_published(path, time_steps=2).build({"visual": (8, 8)})


def test_all_faults_of_weights_are_reported(tmp_path: Path):
    weights = fused("spatiotemporal")
    del weights["block.1.attn.spatial_attn.v_conv.weight"]
    weights["visual_patch_embed.rpe_bn.bias"] = torch.zeros(3)
    weights["stray.weight"] = torch.zeros(1)
    with pytest.raises(ValueError, match="not a published model's") as error:
        read_published(save(tmp_path, weights), time_steps=2).build()
    for part in (
        "unexpected: stray.weight",
        "missing: block.1.attn.spatial_attn.v_conv.weight",
        "visual_patch_embed.rpe_bn.bias is (3,) and should be (16,)",
    ):
        assert part in str(error.value)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            lambda w: w | {"audio_patch_embed.proj_lif.threshold": torch.tensor(0.5)},
            "proj_lif.threshold 1, .* it is 0.5",
        ),
        (lambda w: w | {"block.0.trans_lif.act_fun.alpha": torch.tensor(2.0)}, "act_fun.alpha 4, .* it is 2"),
        (lambda w: without(w, "rpe_conv"), "audio_patch_embed.rpe_conv.weight is missing"),
        (lambda w: w | {"head.weight": torch.zeros(3)}, r"head.weight has the shape \(3,\)"),
        (lambda w: without(w, "patch_embed"), "no published model: none of its names begins with patch_embed"),
    ],
)
def test_a_modified_model_is_refused(tmp_path: Path, change: Callable[[Weights], Weights], message: str):
    with pytest.raises(ValueError, match=message):
        read_published(save(tmp_path, change(fused("spatiotemporal", aligned=True))), time_steps=2).build()


def test_heads_must_divide_the_channels(tmp_path: Path):
    with pytest.raises(ValueError, match=r"channels \(16\) must be divisible by fusion.num_heads \(5\)"):
        read_published(save(tmp_path, fused("spatiotemporal")), time_steps=2, num_heads=5).build()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (
            b"<!DOCTYPE html><title>404</title>",
            "begins with b'<!DOCTYPE html><titl'; it is a web page: download the file",
        ),
        (b"", "is not a PyTorch checkpoint: it begins with b''$"),
        (b"PK\x03\x04 and no more", "is not a PyTorch checkpoint, or it is damaged: PytorchStreamReader"),
        (b"\x80\x02 and no more", "is not a PyTorch checkpoint, or it is damaged"),
        (b"\x80\x02", "damaged: it is truncated"),
    ],
)
def test_a_file_that_is_not_a_checkpoint(tmp_path: Path, content: bytes, message: str):
    path = tmp_path / "checkpoint.pth.tar"
    path.write_bytes(content)
    with pytest.raises(ValueError, match=message):
        read_published(path, time_steps=2).build()


@pytest.mark.parametrize(
    ("stored", "message"),
    [
        ([1, 2], "holds an object of type list, not a state dict"),
        ({"epoch": 3}, "no weights under state_dict or model; it holds epoch"),
        ({}, "it holds nothing"),
        ({"state_dict": {"head.weight": 3}}, "'head.weight' is of type int, not a tensor"),
        ({"state_dict": {}, "metric": fractions.Fraction(1, 2)}, "more than data, namely fractions.Fraction, and"),
    ],
)
def test_a_checkpoint_of_another_kind(tmp_path: Path, stored: object, message: str):
    with pytest.raises(ValueError, match=message):
        read_published(save(tmp_path, stored), time_steps=2).build()


def test_code_in_a_checkpoint_is_not_run(tmp_path: Path):
    class Trap:
        def __reduce__(self) -> tuple[Callable[..., object], tuple[str, ...]]:
            return (tmp_path / "executed").touch, ()  # pyright: ignore[reportReturnType]

    path = save(tmp_path, {"state_dict": unimodal(), "trap": Trap()})
    with pytest.raises(ValueError, match="holds more than data"):
        read_published(path, time_steps=2).build()
    assert not (tmp_path / "executed").exists()
    torch.load(path, weights_only=False)
    assert (tmp_path / "executed").exists()


def test_a_missing_file(tmp_path: Path):
    with pytest.raises(FileNotFoundError, match="there is no checkpoint at"):
        read_published(tmp_path / "none.pth", time_steps=2).build()


def test_names_that_no_published_model_has_are_not_translated():
    with pytest.raises(ValueError, match=r"with method spatial have no weights .*spatial_attn\.q_conv\.weight"):
        translate_published({"block.0.attn.spatial_attn.q_conv.weight": torch.zeros(2, 2, 1)}, method="spatial")
