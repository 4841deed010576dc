"""Specs: frozen, lossless round trips, faults reported before any tensor exists, no PyTorch needed."""

import subprocess
import sys

import pytest
from pydantic import ValidationError

import snn_fusion
from snn_fusion import (
    NEURONS,
    BackboneSpec,
    CCSSASpec,
    FittedSpec,
    ModelSpec,
    NoFusionSpec,
    PatchSplittingSpec,
    SeriesSpec,
    VectorSpec,
)

AUDIO_VISUAL = {
    "audio": PatchSplittingSpec(input_shape=(1, 16, 16), depth="shallow"),
    "visual": PatchSplittingSpec(input_shape=(3, 16, 16), depth="shallow"),
}


def test_round_trip_through_json_is_the_identity():
    spec = ModelSpec(encoders=AUDIO_VISUAL, num_classes=6, fusion=CCSSASpec(alpha=0.7, attention="spatial"))
    assert ModelSpec.model_validate_json(spec.model_dump_json()) == spec
    spec = ModelSpec(encoders=AUDIO_VISUAL, num_classes=6, fusion=NoFusionSpec(), alignment=None)
    assert ModelSpec.model_validate_json(spec.model_dump_json()) == spec


def test_specs_are_frozen():
    with pytest.raises(ValidationError, match="frozen"):
        BackboneSpec().channels = 32


def test_every_field_of_every_spec_is_documented():
    public = [getattr(snn_fusion, name) for name in snn_fusion.__all__]
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
        ({"encoders": {}}, "at least one modality"),
        ({"encoders": {"au dio": AUDIO_VISUAL["audio"]}}, "one is 'au dio'"),
        (
            {"channels": 24},
            r"channels \(24\) .* fusion.num_heads \(16\); .* 1, 2, 3, 4, 6, 8, 12, 24",
        ),
        ({"fusion": {"kind": "none"}}, "set alignment to none"),
        ({"fusion": {"kind": "ccsa"}}, "no fusion method is of kind 'ccsa'; did you mean ccssa"),
        ({"fusion": {"kind": "ccssa", "alhpa": 1}}, "Extra inputs are not permitted"),
        ({"neuron": {"tau": 0.5}}, "greater than or equal to 1"),
        ({"encoders": {"a": {"input_shape": (1, 20, 16)}}}, "multiples of 16, but input_shape is 1 x 20 x 16"),
        ({"encoders": {"a": {"input_shape": (1, 18, 16), "depth": "shallow"}}}, "multiples of 4"),
        ({"encoders": {"a": {"input_shape": (0, 16, 16)}}}, "at least 1"),
    ],
)
def test_faults_are_reported(change: dict, message: str):
    with pytest.raises(ValidationError, match=message):
        ModelSpec.model_validate({"encoders": AUDIO_VISUAL, "num_classes": 6, **change})


@pytest.mark.parametrize(("depth", "tokens"), [("full", 4 * 2), ("shallow", 16 * 8)])
def test_the_token_count_is_that_of_the_encoder(depth: str, tokens: int):
    import torch

    spec = PatchSplittingSpec.model_validate({"input_shape": (2, 64, 32), "depth": depth})
    encoder = spec.build(channels=16, time_steps=3, neuron=BackboneSpec().neuron)
    assert spec.num_tokens == tokens
    assert encoder(torch.rand(5, 2, 64, 32)).shape == (3, 5, tokens, 16)


def test_specs_accept_every_surrogate_of_snn_core():
    from typing import get_args

    from snn_core import SURROGATES
    from snn_fusion import LIFSpec

    assert get_args(LIFSpec.model_fields["surrogate"].annotation) == tuple(SURROGATES)


@pytest.mark.parametrize(
    "inner",
    [
        PatchSplittingSpec(input_shape=(2, 12, 8), depth="shallow"),
        SeriesSpec(input_shape=(2, 80)),
        VectorSpec(in_channels=2),
    ],
)
def test_inputs_that_cannot_be_padded_or_flattened_are_refused(inner):
    with pytest.raises(ValidationError, match="neither padded nor flattened"):
        FittedSpec(input_shape=(2, 10, 9), encoder=inner)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"kind": "lif", "v_reset": 1.0}, r"v_reset \(1\) must be below v_threshold \(1\)"),
        ({"kind": "lif", "tau": float("nan")}, "finite number"),
        ({"kind": "plif", "tau": 1e9}, r"tau is learned up to 2\^24 time steps"),
    ],
)
def test_invalid_neurons_are_refused_before_they_are_built(fields: dict[str, object], message: str):
    with pytest.raises(ValueError, match=message):
        NEURONS.parse(fields)
