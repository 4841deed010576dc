"""Specs: frozen, lossless round trips, faults reported before any tensor exists, no PyTorch needed."""

import subprocess
import sys
from typing import Any

import pytest
from pydantic import ValidationError

import snn_fusion
from snn_fusion import (
    NEURONS,
    AutoSpec,
    BackboneSpec,
    CCSSASpec,
    ModelSpec,
    NoFusionSpec,
    PatchSplittingSpec,
    SeriesSpec,
    TokensSpec,
    VectorSpec,
)
from snn_fusion.specs.encoders import EncoderSpec

AUDIO_VISUAL = {
    "audio": PatchSplittingSpec(depth="shallow"),
    "visual": PatchSplittingSpec(depth="shallow"),
}
SHAPES = {"audio": (1, 16, 16), "visual": (3, 16, 16)}


def test_round_trip_through_json_is_the_identity():
    spec = ModelSpec(
        input_shapes=SHAPES, encoders=AUDIO_VISUAL, num_classes=6, fusion=CCSSASpec(alpha=0.7, attention="spatial")
    )
    assert ModelSpec.model_validate_json(spec.model_dump_json()) == spec
    spec = ModelSpec(input_shapes=SHAPES, encoders=AUDIO_VISUAL, num_classes=6, fusion=NoFusionSpec(), alignment=None)
    assert ModelSpec.model_validate_json(spec.model_dump_json()) == spec


def test_specs_are_frozen():
    with pytest.raises(ValidationError, match="frozen"):
        BackboneSpec().channels = 32


def test_every_field_of_every_spec_is_documented():
    public = [getattr(snn_fusion, name) for name in vars(snn_fusion)["__all__"]]
    classes = [c for c in public if isinstance(c, type) and issubclass(c, snn_fusion.Spec)]
    assert len(classes) > 6
    undocumented = [
        f"{c.__name__}.{name}" for c in classes for name, field in c.model_fields.items() if not field.description
    ]
    assert not undocumented


def test_specs_need_no_pytorch():
    code = "import sys, snn_fusion; snn_fusion.ModelSpec.model_json_schema(); sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"num_classes": 1}, "greater than or equal to 2"),
        ({"input_shapes": {}}, "at least one modality"),
        ({"input_shapes": {"au dio": (3,)}}, "one is 'au dio'"),
        ({"encoders": {"touch": {}}}, "encoders.touch: input_shapes has no touch, but audio, visual"),
        (
            {"channels": 24},
            r"channels \(24\) .* fusion.num_heads \(16\); .* 1, 2, 3, 4, 6, 8, 12, 24",
        ),
        ({"fusion": {"kind": "none"}}, "set alignment to none"),
        ({"fusion": {"kind": "ccsa"}}, "unknown fusion method kind 'ccsa'; did you mean ccssa"),
        ({"fusion": {"kind": "ccssa", "alhpa": 1}}, "Extra inputs are not permitted"),
        ({"neuron": {"tau": 0.5}}, "greater than or equal to 1"),
        (
            {"input_shapes": {"a": (1, 20, 16)}, "encoders": {"a": {"kind": "patch_splitting"}}},
            "multiples of 16, but input_shape is 1 x 20 x 16",
        ),
        (
            {"input_shapes": {"a": (1, 18, 16)}, "encoders": {}},
            "input_shapes.a: shallow patch splitting needs .* multiples of 4",
        ),
        ({"input_shapes": {"a": (0, 16, 16)}, "encoders": {}}, "at least 1"),
        ({"input_shapes": {"a": (1, 2, 3, 4)}, "encoders": {}}, r"input_shapes.a: .* has 4 axes, \[1, 2, 3, 4\]"),
    ],
)
def test_faults_are_reported(change: dict[str, Any], message: str):
    with pytest.raises(ValidationError, match=message):
        ModelSpec.model_validate({"input_shapes": SHAPES, "encoders": AUDIO_VISUAL, "num_classes": 6, **change})


@pytest.mark.parametrize(("depth", "tokens"), [("full", 4 * 2), ("shallow", 16 * 8)])
def test_the_token_count_is_that_of_the_encoder(depth: str, tokens: int):
    import torch

    spec = PatchSplittingSpec.model_validate({"depth": depth})
    encoder = spec.build((2, 64, 32), channels=16, time_steps=3, neuron=BackboneSpec().neuron)
    assert spec.count_tokens((2, 64, 32)) == tokens
    assert encoder(torch.rand(5, 2, 64, 32)).shape == (3, 5, tokens, 16)


def test_specs_accept_every_surrogate_of_snn_core():
    from typing import get_args

    from snn_core import SURROGATES
    from snn_fusion import LIFSpec

    assert get_args(LIFSpec.model_fields["surrogate"].annotation) == tuple(SURROGATES)


@pytest.mark.parametrize(
    ("encoder", "shape", "fitted"),
    [
        (PatchSplittingSpec(depth="shallow"), (2, 10, 9), (2, 12, 12)),
        (PatchSplittingSpec(), (1, 100, 65), (1, 112, 80)),
        (SeriesSpec(), (2, 10, 9), (2, 90)),
        (VectorSpec(), (2, 10, 9), (180,)),
        (AutoSpec(), (2, 10, 9), (2, 12, 12)),
    ],
)
def test_inputs_of_other_shapes_are_padded_or_flattened_only_on_request(
    encoder: EncoderSpec, shape: tuple[int, ...], fitted: tuple[int, ...]
):
    assert encoder.fitted_shape(shape) == fitted
    fields = {"input_shapes": {"a": shape}, "encoders": {"a": encoder}, "num_classes": 2}
    with pytest.raises(ValidationError, match=r"input_shapes\.a: "):
        ModelSpec.model_validate(fields)
    assert ModelSpec.model_validate({**fields, "fit_inputs": True}).num_tokens == {"a": encoder.count_tokens(fitted)}


@pytest.mark.parametrize("encoder", [PatchSplittingSpec(), SeriesSpec(), TokensSpec()])
def test_inputs_with_too_few_axes_are_refused(encoder: EncoderSpec):
    with pytest.raises(ValidationError, match=r"input_shapes\.a: input_shape must be"):
        ModelSpec(input_shapes={"a": (7,)}, encoders={"a": encoder}, num_classes=2, fit_inputs=True)


def test_an_encoder_that_is_not_named_is_chosen_by_the_shape():
    spec = ModelSpec(input_shapes={"a": (3, 64, 80), "b": (8, 48), "c": (5,)}, num_classes=2)
    assert spec.encoders == {"a": PatchSplittingSpec(depth="full"), "b": SeriesSpec(), "c": VectorSpec()}


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"kind": "lif", "v_reset": 1.0}, r"v_reset \(1\) must be below v_threshold \(1\)"),
        ({"kind": "lif", "tau": float("nan")}, "finite number"),
        ({"kind": "plif", "tau": 1e9}, r"a learned tau must be at most 2\^24 time steps"),
    ],
)
def test_invalid_neurons_are_refused_before_they_are_built(fields: dict[str, object], message: str):
    with pytest.raises(ValueError, match=message):
        NEURONS.parse(fields)
