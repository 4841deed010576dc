"""The methods that S-CMRL is compared with, against arrays that the published code computed.

Tolerances are those of compare.py. SCA's published position bias is drawn in every forward pass; the arrays were
made with seed 777, which gives the same bias here.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from pathlib import Path

import pytest
import torch
from torch import Tensor

from parity.compare import assert_agrees, assert_gradients_agree, assert_statistics_agree, without_noise
from parity.golden import DATA, PUBLISHED_LIF, Golden, load, model_inputs, tokens
from snn_fusion import FusionModel, PatchSplitting, Readout, translate_published
from snn_fusion.methods.base import FusedTokens, FusionMethod
from snn_fusion.methods.cmci import CMCI
from snn_fusion.methods.sca import SCA
from snn_fusion.methods.weight_attention import WeightAttention
from snn_fusion.published.names import SIDES, PublishedMethod

Case = tuple[str, Path]
CASES = ("cmci", "sca_av", "sca_va", "weight_attention", "model_cmci", "model_sca", "model_weight_attention")


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "method_case" in metafunc.fixturenames:
        folder: Path = metafunc.config.getoption("--golden-dir") or DATA
        names = [name for name in CASES if (folder / f"{name}.npz").is_file()]
        assert names, f"no golden arrays in {folder}"
        metafunc.parametrize("method_case", [(name, folder) for name in names], ids=names)


def kind(golden: Golden) -> PublishedMethod:
    if "cmci" in golden.name:
        return "cmci"
    return "weight_attention" if "weight_attention" in golden.name else "sca"


def method(golden: Golden, *, channels: int, num_heads: int, num_tokens: int) -> FusionMethod:
    if kind(golden) == "cmci":
        return CMCI(SIDES, channels, neuron=PUBLISHED_LIF)
    if kind(golden) == "weight_attention":
        return WeightAttention(SIDES, channels)
    return SCA(
        SIDES,
        channels,
        num_heads=num_heads,
        num_tokens={"visual": num_tokens},
        position_bias="random",
        generator=torch.Generator().manual_seed(777),
        neuron=PUBLISHED_LIF,
    )


def load_weights(module: torch.nn.Module, weights: Mapping[str, Tensor], *, unused: str = "-") -> None:
    """Load all weights; scales, counters and the reader of the other direction are not stored."""
    missing, unexpected = module.load_state_dict(weights, strict=False)
    assert not unexpected, f"weights without a home: {unexpected}"
    left = [name for name in missing if not name.endswith(("num_batches_tracked", ".scale")) and unused not in name]
    assert not left, f"not loaded: {left}"


def sides(golden: Golden) -> dict[str, str]:
    """Return the modalities of a block's x and y: x reads y, and in SCA visual reads audio with a position bias."""
    return {"x": "visual", "y": "audio"} if golden.name == "sca_va" else {"x": "audio", "y": "visual"}


def block_arrays(golden: Golden, group: str) -> dict[str, Tensor]:
    """A block's arrays by our names within the method."""
    number = SIDES.index(sides(golden)["x"])
    whole = {f"block.{number}.attn.{key}": value for key, value in golden.under(group).items()}
    ours = translate_published(whole, method=kind(golden))
    return {key.removeprefix("fusion."): value for key, value in ours.items()}


def block(golden: Golden) -> FusionMethod:
    s = golden.settings
    built = method(golden, channels=s["C"], num_heads=s["h"], num_tokens=s["N"])
    x, y = sides(golden).values()
    unused = {"sca": f"{y}_reads_{x}.", "weight_attention": f"weights.{y}.", "cmci": "-"}[kind(golden)]
    load_weights(built, block_arrays(golden, "weights/"), unused=unused)
    return built


def output(golden: Golden, fused: FusedTokens) -> Tensor:
    if kind(golden) == "cmci":
        assert fused.joint is not None
        return fused.joint
    return fused.tokens[sides(golden)["x"]]


def block_inputs(golden: Golden) -> dict[str, Tensor]:
    """The inputs x and y by modality."""
    return {sides(golden)[name]: tokens(x).contiguous().requires_grad_() for name, x in golden.under("in/").items()}


def check_block_in_evaluation(golden: Golden) -> None:
    fused = block(golden).eval()(block_inputs(golden))
    assert_agrees(output(golden, fused), tokens(golden.arrays["eval/out0"]), "output")


def check_block_in_training(golden: Golden) -> None:
    built = block(golden).train()
    inputs = block_inputs(golden)
    actual = output(golden, built(inputs))
    assert_agrees(actual, tokens(golden.arrays["train/out0"]), "output")
    actual.backward(tokens(golden.arrays["train/cotangent0"]))
    for name, side in sides(golden).items():
        gradient = inputs[side].grad
        assert gradient is not None
        assert_agrees(gradient, tokens(golden.arrays[f"train/grad_in/{name}"]), f"gradient of {name}")
    assert_gradients_agree(built, without_noise(block_arrays(golden, "train/grad_weights/")))
    if kind(golden) != "weight_attention":  # it has no batch norm
        assert_statistics_agree(built, block_arrays(golden, "train/after/"))


def model(golden: Golden) -> FusionModel:
    s = golden.settings
    C = s["embed_dims"]
    encoder = partial(PatchSplitting, channels=C, depth="full", time_steps=s["T"], neuron=PUBLISHED_LIF)
    built = FusionModel(
        {"audio": encoder(1), "visual": encoder(s["visual_channels"])},
        method(golden, channels=C, num_heads=s["num_heads"], num_tokens=(s["size"] // 16) ** 2),
        Readout(SIDES, C, s["num_classes"], joint=kind(golden) == "cmci", neuron=PUBLISHED_LIF),
        label_smoothing=0.1,
    )
    load_weights(built, translate_published(golden.under("weights/"), method=kind(golden)))
    return built


def check_model_in_evaluation(golden: Golden) -> None:
    actual = model(golden).eval()(model_inputs(golden))
    assert_agrees(actual.logits, golden.arrays["eval/logits"], "logits")


def check_model_in_training(golden: Golden) -> None:
    built = model(golden).train()
    inputs = model_inputs(golden)
    actual = built(inputs)
    assert_agrees(actual.logits, golden.arrays["train/logits"], "logits")
    for index, logits in enumerate(actual.logits_of.values()):
        assert_agrees(logits, golden.arrays[f"train/feature{index + 1}"], "a modality's logits")
    loss = built.total_loss(actual, golden.arrays["in/labels"])
    assert_agrees(loss.total, golden.arrays["train/loss"], "loss")
    loss.total.backward()
    for name, x in inputs.items():
        assert x.grad is not None
        assert_agrees(x.grad, golden.arrays[f"train/grad_in/{name}"], f"gradient of {name}")
    assert_gradients_agree(
        built, without_noise(translate_published(golden.under("train/grad_weights/"), method=kind(golden)))
    )
    assert_statistics_agree(built, translate_published(golden.under("train/after/"), method=kind(golden)))


def test_method_in_evaluation(method_case: Case):
    golden = load(*method_case)
    (check_model_in_evaluation if golden.name.startswith("model") else check_block_in_evaluation)(golden)


def test_method_in_training(method_case: Case):
    golden = load(*method_case)
    (check_model_in_training if golden.name.startswith("model") else check_block_in_training)(golden)


def test_cmci_does_not_change_tokens():
    golden = load("cmci")
    inputs = block_inputs(golden)
    fused = block(golden)(inputs)
    assert all(torch.equal(fused.tokens[name], x) for name, x in inputs.items())


def test_a_random_position_bias_is_new_in_every_forward_pass():
    golden = load("sca_va")
    built = block(golden).eval()
    inputs = block_inputs(golden)
    first, second = (output(golden, built(inputs)) for _ in range(2))
    assert not torch.equal(first, second)
