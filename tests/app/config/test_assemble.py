"""Model specs for data: the encoder for each shape, explicit encoders, and invalid combinations."""

from typing import Any, Literal

import pytest
import torch
from torch.nn import functional as F

from scmrl.config.assemble import model_spec
from scmrl.config.experiment import Experiment, ModelOptions
from scmrl.config.overlay import OptionError, load
from scmrl.config.overlay.field_types import fields_of
from snn_datasets import DatasetInfo, ModalityInfo
from snn_fusion import ENCODERS, FittedEncoder, ModelSpec, PatchSplittingSpec, SeriesSpec, TokensSpec, VectorSpec
from snn_fusion.specs.encoders import EncoderSpec

SMALL = {"channels": 16, "fusion": {"kind": "ccssa", "num_heads": 4}, "time_steps": 3}


def info(**shapes: tuple[int, ...]) -> DatasetInfo:
    """Data whose modalities have these shapes, in three time steps."""
    return DatasetInfo(
        "made up", ("a", "b"), {name: ModalityInfo("series", shape, 3) for name, shape in shapes.items()}
    )


def options(**encoders: object) -> ModelOptions:
    return ModelOptions.model_validate({**SMALL, "encoders": encoders})


def encoder(shape: tuple[int, ...], chosen: object = None, **more: object):
    result = ModelOptions.model_validate({**SMALL, "encoders": {"x": chosen} if chosen else {}, **more})
    return model_spec(result, info(x=shape)).encoders["x"]


@pytest.mark.parametrize(
    ("shape", "suits"),
    [
        ((3, 64, 80), PatchSplittingSpec(depth="full")),
        ((2, 32, 28), PatchSplittingSpec(depth="shallow")),
        ((8, 50), SeriesSpec()),
        ((64,), VectorSpec()),
        (
            (2, 10, 9),
            PatchSplittingSpec(depth="shallow"),
        ),
        (
            (1, 100, 65),
            PatchSplittingSpec(depth="full"),
        ),
    ],
)
def test_each_shape_has_a_default_encoder(shape: tuple[int, ...], suits: EncoderSpec):
    result = encoder(shape)
    assert result == suits
    model = model_spec(options(), info(x=shape)).build().eval()
    assert model({"x": torch.rand(3, 2, *shape)}).logits.shape == (2, 2)


@pytest.mark.parametrize(
    ("shape", "chosen", "becomes"),
    [
        ((8, 50), {"kind": "series", "num_stages": 2}, SeriesSpec(num_stages=2)),
        (
            (2, 10, 9),
            {"kind": "series", "kernel_size": 5},
            SeriesSpec(kernel_size=5),
        ),
        (
            (2, 10, 9),
            {"kind": "vector", "tokens": 3},
            VectorSpec(tokens=3),
        ),
        ((5, 12), {"kind": "tokens"}, TokensSpec()),
        (
            (2, 64, 64),
            {"kind": "patch_splitting", "depth": "shallow"},
            PatchSplittingSpec(depth="shallow"),
        ),
        ((6,), {"blocks": {"depth": 2}}, VectorSpec.model_validate({"blocks": {"depth": 2}})),
    ],
)
def test_a_specified_encoder_is_built(shape: tuple[int, ...], chosen: dict[str, Any], becomes: EncoderSpec):
    assert encoder(shape, chosen) == becomes
    model = model_spec(options(x=chosen), info(x=shape)).build().eval()
    assert model({"x": torch.rand(3, 2, *shape)}).logits.shape == (2, 2)


def test_a_padded_input_equals_padding_by_hand():
    spec = encoder((2, 10, 9))
    whole = spec.build(
        (2, 10, 9), channels=16, time_steps=3, neuron=ModelOptions().neuron, fit=True
    )  # training: norms wake it
    x = 3 * torch.rand(3, 2, 2, 10, 9)
    assert isinstance(whole, FittedEncoder)
    by_hand = whole.encoder(F.pad(x, (1, 2, 1, 1)))
    assert by_hand.shape == (3, 2, 9, 16)
    assert by_hand.count_nonzero() > 0
    assert torch.equal(whole(x), by_hand)
    assert whole.count_tokens((2, 10, 9)) == 9
    with pytest.raises(ValueError, match=r"input_shape must be \(2, 10, 9\), but it is \(2, 12, 12\)"):
        whole.count_tokens((2, 12, 12))


def test_a_flattened_input_keeps_the_order_of_its_axes():
    spec = encoder((2, 10, 9), {"kind": "series"})
    whole = spec.build(
        (2, 10, 9), channels=16, time_steps=3, neuron=ModelOptions().neuron, fit=True
    )  # training: norms wake it
    x = 3 * torch.rand(3, 4, 2, 10, 9)
    rows = torch.stack([torch.cat([x[:, :, :, row] for row in range(10)], dim=-1)])[0]
    assert rows.shape == (3, 4, 2, 90)
    assert isinstance(whole, FittedEncoder)
    by_hand = whole.encoder(rows)
    assert by_hand.count_nonzero() > 0
    assert torch.equal(whole(x), by_hand)


def test_blocks_stay_in_the_outer_spec():
    with pytest.raises(ValueError, match=r"^channels \(16\) must be divisible by encoders\.x\.blocks\.num_heads \(3\)"):
        encoder((2, 10, 9), {"blocks": {"depth": 1, "num_heads": 3}})


def test_the_model_survives_a_round_trip_through_json():
    spec = model_spec(options(touch={"kind": "series"}), info(touch=(2, 10, 9), gas=(5,), image=(1, 10, 10)))
    assert ModelSpec.model_validate_json(spec.model_dump_json()) == spec


def test_an_encoder_for_a_different_number_of_axes_is_refused():
    with pytest.raises(
        ValueError, match=r"encoders\.x: input_shape must be \(tokens, width\).* is \(2, 10, 9\); use auto"
    ):
        encoder((2, 10, 9), {"kind": "tokens"})


def test_a_plug_in_encoder_needs_no_shape_fields(monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest):
    class PluggedSpec(VectorSpec):
        """An encoder of a plug-in."""

        kind: Literal["plugged"] = "plugged"  # pyright: ignore[reportIncompatibleVariableOverride]
        width: int = 2
        """Of something."""

    monkeypatch.setattr(ENCODERS, "_models", dict(ENCODERS._models))
    ENCODERS.register(PluggedSpec)
    fields_of.cache_clear()  # another test may have listed the options before there was such an encoder
    request.addfinalizer(fields_of.cache_clear)
    result = load(ModelOptions, ["--encoders.x.kind", "plugged", "--encoders.x.width", "5", "--time_steps", "3"])
    spec = model_spec(result, info(x=(7,))).encoders["x"]
    assert spec == PluggedSpec(width=5)
    with pytest.raises(OptionError, match=r"x\.input_shape: no such option"):
        load(ModelOptions, ["--encoders.x.kind", "plugged", "--encoders.x.input_shape", "5"])


def test_options_that_an_encoder_refuses_are_reported_in_one_line():
    with pytest.raises(ValueError, match=r"kernel_size must be an odd number of samples, but it is 4"):
        encoder((2, 50), {"kind": "series", "kernel_size": 4})


def test_inputs_that_no_encoder_accepts_are_refused():
    with pytest.raises(ValueError, match=r"encoders\.x: .* has 4 axes, \[1, 2, 3, 4\]"):
        encoder((1, 2, 3, 4))


def test_different_time_steps_name_both_remedies():
    data = DatasetInfo("made up", ("a", "b"), {"touch": ModalityInfo("events", (4,), 20)})
    with pytest.raises(
        ValueError,
        match=r"touch has 20 time steps, but the model has 3: set --model.time_steps 20, or --data.time_steps 3",
    ):
        model_spec(options(), data)


def test_a_modality_that_the_model_excludes_is_not_read():
    experiment = Experiment.model_validate({"model": {"encoders": {"audio": None, "touch": {"kind": "series"}}}})
    assert experiment.data.modalities == ("visual",)
    assert Experiment.model_validate_json(experiment.model_dump_json()) == experiment
    with pytest.raises(ValueError, match=r"model\.encoders\.audio is none, but the data have it"):
        model_spec(experiment.model, info(audio=(4,), visual=(5,)))


def test_long_windows_become_a_bounded_number_of_tokens():
    for length, tokens in ((200, 13), (1024, 64), (4096, 64), (30_000, 59)):
        spec = model_spec(options(), info(imu=(6, length)))
        assert spec.num_tokens["imu"] == tokens
