"""The published unimodal model: patch splitting, blocks of self-attention and MLP, a linear head.

Its own mapping of names stands here, so that this comparison does not lean on the import of published weights.
"""

import re
from pathlib import Path

import pytest
import torch
from einops import rearrange
from torch import Tensor, nn

from parity.compare import assert_agrees, assert_gradients_agree, assert_statistics_agree, without_noise
from parity.golden import DATA, PUBLISHED_LIF, Golden, load
from snn_fusion import PatchSplitting
from snn_fusion.encoders.transformer import EncoderWithBlocks, TransformerBlocks

NAMES = (
    (r"^patch_embed\.proj_(conv|bn)(\d?)\.", r"encoder.encoder.stages.\2.\1."),
    (r"^patch_embed\.rpe_(conv|bn)\.", r"encoder.encoder.position.\1."),
    (r"^block\.(\d+)\.attn\.(q|k|v|proj)_(conv|bn)\.", r"encoder.blocks.\1.attention.\2.\3."),
    (r"^block\.(\d+)\.mlp\.(fc\d)_(conv|bn)\.", r"encoder.blocks.\1.mlp.\2.\3."),
    (r"\.stages\.\.", ".stages.0."),  # the first stage has no number
    (r"\.bn\.", ".norm."),
    (r"(blocks.*)\.conv\.", r"\1.linear."),
    (r"\.q\.", ".query."),
    (r"\.k\.", ".key."),
    (r"\.v\.", ".value."),
    (r"\.proj\.", ".output."),
    (r"\.fc1\.", ".expand."),
    (r"\.fc2\.", ".contract."),
)
UNUSED = re.compile(r"\.norm\d\.|_lif\d?\.|num_batches_tracked")


class Unimodal(nn.Module):
    """The published classifier: mean over tokens and time, then the head."""

    def __init__(self, golden: Golden) -> None:
        super().__init__()
        settings, classes = golden.settings, golden.arrays["weights/head.weight"]
        depth = len({name.split(".")[0] for name in golden.under("weights/block.")})
        channels, in_channels = classes.shape[1], golden.arrays["in/x"].shape[-3]
        self.encoder = EncoderWithBlocks(
            PatchSplitting(in_channels, channels, depth="full", time_steps=settings["T"], neuron=PUBLISHED_LIF),
            TransformerBlocks(channels, depth=depth, num_heads=settings["num_heads"], neuron=PUBLISHED_LIF),
        )
        self.head = nn.Linear(channels, len(classes))

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.encoder(x).mean((0, 2)))


def translated(golden: Golden, group: str) -> dict[str, Tensor]:
    ours = dict[str, Tensor]()
    for name, tensor in golden.under(group).items():
        if UNUSED.search(name):
            continue
        for pattern, replacement in NAMES:
            name = re.sub(pattern, replacement, name)
        ours[name] = tensor.squeeze(-1) if tensor.dim() == 3 else tensor
    return ours


@pytest.fixture
def golden(pytestconfig: pytest.Config) -> Golden:
    folder: Path | None = pytestconfig.getoption("--golden-dir")
    return load("model_unimodal", folder or DATA)


def built(golden: Golden) -> Unimodal:
    model = Unimodal(golden)
    missing, unexpected = model.load_state_dict(translated(golden, "weights/"), strict=False)
    assert not unexpected, f"weights without a home: {unexpected}"
    assert all(name.endswith(("num_batches_tracked", "spike.scale")) for name in missing), f"not loaded: {missing}"
    return model


def frames(golden: Golden, *, static: bool) -> Tensor:
    """The published frames show one image at every step: that image, or the frames with time first."""
    x = rearrange(golden.arrays["in/x"], "b t c h w -> t b c h w").contiguous()
    assert torch.equal(x, x[:1].expand_as(x))
    return (x[0] if static else x).clone().requires_grad_()


@pytest.mark.parametrize("static", [True, False])
def test_in_evaluation(golden: Golden, static: bool):
    logits = built(golden).eval()(frames(golden, static=static))
    assert_agrees(logits, golden.arrays["eval/out0"], "logits")


@pytest.mark.parametrize("static", [True, False])
def test_in_training(golden: Golden, static: bool):
    model, x = built(golden).train(), frames(golden, static=static)
    logits = model(x)
    assert_agrees(logits, golden.arrays["train/out0"], "logits")

    logits.backward(golden.arrays["train/cotangent0"])
    expected = rearrange(golden.arrays["train/grad_in/x"], "b t c h w -> t b c h w")
    assert x.grad is not None
    assert_agrees(x.grad, expected.sum(0) if static else expected, "gradient of x")
    gradients = without_noise(translated(golden, "train/grad_weights/"))
    assert any(name.startswith("encoder.blocks.0.attention.query") and g.any() for name, g in gradients.items())
    assert_gradients_agree(model, gradients)
    assert_statistics_agree(model, translated(golden, "train/after/"))
