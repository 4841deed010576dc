"""Our modules, and whole models imported from checkpoints, against arrays that the published code computed."""

from pathlib import Path

import pytest

from parity.compare import assert_agrees, compare
from parity.golden import Golden, load, method_of, model, model_inputs

Case = tuple[str, Path]


def computed(golden: Golden) -> set[str]:
    """Return the names of the meaningful arrays of a case that the published code computed."""
    inputs = ("weights/", "in/", "cotangent", "train/cotangent", "position_bias")
    # The gradient of a bias before batch norm is rounding noise.
    noise = ("fc1_conv.bias", "fc2_conv.bias")
    # Unused blocks still have running statistics.
    idle = {"none": "train/after/block.", "cmci": "train/after/block.1."} if golden.name != "model_unimodal" else {}
    method = method_of(golden) if golden.name.startswith("model") else ""
    return {
        name
        for name in golden.arrays
        if not name.startswith(inputs)
        and not (name.startswith("train/grad_weights/") and name.endswith(noise))
        and not name.startswith(idle.get(method, "-"))
    }


def test_ours_computes_what_the_published_code_computed(golden_case: Case):
    golden = load(*golden_case)
    compared = compare(golden)
    assert len(compared) == len(computed(golden))
    for one in compared:
        one.assert_agrees()


def test_a_wrong_head_merge_is_detected():
    # The tolerance is tight enough: the temporal head merge is the subtlest peculiarity of the published code.
    golden = load("model_scmrl_events")
    built = model(golden)
    for module in built.modules():
        if hasattr(module, "head_merge"):
            setattr(module, "head_merge", "ordered")  # noqa: B010 - nn.Module types attributes as tensors and modules
    with pytest.raises(AssertionError):
        assert_agrees(built(model_inputs(golden)).logits, golden.arrays["eval/logits"], "logits")
