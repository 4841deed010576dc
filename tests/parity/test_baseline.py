"""The SpikingJelly baseline of the benchmarks against arrays of the published code: from the same weights, as ours."""

import sys
from pathlib import Path

import pytest
from torch import Tensor

from parity.compare import assert_agrees, assert_gradients_agree, assert_statistics_agree
from parity.golden import Golden, frames, load, model_arrays, model_inputs

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"

with pytest.MonkeyPatch.context() as patch:
    # Last, and only for this import: files there are named like other packages.
    patch.setattr(sys, "path", [*sys.path, str(BENCHMARKS)])
    from baseline.scmrl import SCMRL, Output


@pytest.fixture(params=["model_scmrl", "model_scmrl_events"])
def golden(request: pytest.FixtureRequest) -> Golden:
    return load(request.param)


def baseline(golden: Golden) -> SCMRL:
    s = golden.settings
    built = SCMRL(
        {"audio": 1, "visual": s["visual_channels"]},
        s["embed_dims"],
        s["num_classes"],
        time_steps=s["T"],
        shallow=s["shallow"],
        num_heads=s["num_heads"],
        alpha=s["alpha"],
        temperature=s["temperature"],
    )
    missing, unexpected = built.load_state_dict(model_arrays(golden, "weights/"), strict=False)
    assert not unexpected, f"weights without a home: {unexpected}"
    assert all(name.endswith("num_batches_tracked") for name in missing), f"not loaded: {missing}"
    return built


def assert_output_agrees(output: Output, expected: dict[str, Tensor]) -> None:
    assert_agrees(output.logits, expected["logits"], "logits")
    for index, feature in enumerate(output.features, start=1):
        assert expected[f"feature{index}"].any(), "the cross-modal branch is silent"
        assert_agrees(feature, expected[f"feature{index}"], f"feature {index}")


def test_the_baseline_in_evaluation(golden: Golden):
    output = baseline(golden).eval()(model_inputs(golden))
    assert_output_agrees(output, golden.under("eval/"))


def test_the_baseline_in_training(golden: Golden):
    built, inputs, expected = baseline(golden), model_inputs(golden), golden.under("train/")
    output = built(inputs)
    assert_output_agrees(output, expected)

    loss = built.loss(output, golden.arrays["in/labels"])
    assert_agrees(loss.classification, expected["loss_classification"], "classification loss")
    assert_agrees(loss.alignment, expected["loss_alignment"], "alignment loss")
    assert_agrees(loss.total, expected["loss"], "loss")
    loss.total.backward()
    for name, x in inputs.items():
        gradient = expected[f"grad_in/{name}"]
        assert x.grad is not None
        assert_agrees(x.grad, gradient if golden.settings["static"] else frames(gradient), f"gradient of {name}")
    assert_gradients_agree(built, model_arrays(golden, "train/grad_weights/"))
    assert_statistics_agree(built, model_arrays(golden, "train/after/"))


def test_the_baseline_uses_none_of_our_packages():
    sources = "".join(path.read_text(encoding="utf-8") for path in (BENCHMARKS / "baseline").glob("*.py"))
    assert "class SCMRL" in sources
    assert "snn_" not in sources
