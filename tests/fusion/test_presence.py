"""Missing modalities: they change nothing, do not enter batch statistics, and a sample without any is refused."""

import copy
from typing import Any

import pytest
import torch

from fusion.models import inputs_for, small_model
from snn_fusion import FusionModel, calibrate

NAMES = ("audio", "visual", "touch")


def living_model(**options: Any) -> FusionModel:
    model = small_model(NAMES, **options)
    calibrate(model, inputs_for(model, batch=32))
    return model


def masks() -> dict[str, torch.Tensor]:
    audio = torch.tensor([1, 0, 1, 1, 0, 1], dtype=torch.bool)
    touch = torch.tensor([0, 1, 1, 0, 1, 1], dtype=torch.bool)
    return {"audio": audio, "touch": touch}


@pytest.mark.parametrize("training", [False, True])
@pytest.mark.parametrize("garbage", [float("nan"), float("inf"), 1e6])
def test_values_in_absent_rows_have_no_effect(training: bool, garbage: float):
    model, present = living_model().train(training), masks()
    inputs = inputs_for(model)
    outputs, statistics, gradients = [], [], []
    for value in (0.0, garbage):
        other = copy.deepcopy(model)
        filled = {name: x.clone() for name, x in inputs.items()}
        for name, mask in present.items():
            filled[name][~mask] = value
        output = other(filled, present)
        other.total_loss(output, torch.arange(6) % 5).total.backward()
        outputs.append(output)
        statistics.append(dict(other.named_buffers()))
        gradients.append({name: p.grad for name, p in other.named_parameters() if p.grad is not None})
    assert torch.equal(outputs[0].logits, outputs[1].logits)
    assert outputs[1].logits.isfinite().all()
    for actual, expected in ((statistics[1], statistics[0]), (gradients[1], gradients[0])):
        assert actual.keys() == expected.keys()
        assert all(torch.equal(actual[name], expected[name]) for name in expected)


def test_a_sample_without_a_modality_equals_a_batch_without_it():
    model = living_model().eval()
    inputs, present = inputs_for(model), masks()
    together = model(inputs, present)
    for i in range(6):
        present_inputs = {name: x[i : i + 1] for name, x in inputs.items() if name not in present or present[name][i]}
        single = model(present_inputs)
        torch.testing.assert_close(single.logits, together.logits[i : i + 1], rtol=1e-5, atol=1e-5)


def test_an_omitted_modality_equals_one_absent_in_every_sample():
    model = living_model().eval()
    inputs = inputs_for(model)
    absent = model(inputs, {"touch": torch.zeros(6, dtype=torch.bool)})
    left_out = model({name: x for name, x in inputs.items() if name != "touch"})
    assert torch.equal(absent.logits, left_out.logits)
    assert "touch" not in left_out.features
    assert all("touch" not in pair for pair in left_out.residuals)


def test_masks_that_are_all_true_change_nothing():
    model = living_model().eval()
    inputs = inputs_for(model)
    full = {name: torch.ones(6, dtype=torch.bool) for name in NAMES}
    assert torch.equal(model(inputs, full).logits, model(inputs).logits)


def test_batch_statistics_use_only_present_rows():
    model = living_model().train()
    inputs, present = inputs_for(model), masks()
    single = copy.deepcopy(model)
    model(inputs, present)
    single.encoders["audio"](inputs["audio"][present["audio"]])
    for (name, actual), (_, expected) in zip(
        model.encoders["audio"].named_buffers(), single.encoders["audio"].named_buffers(), strict=True
    ):
        torch.testing.assert_close(actual, expected, msg=name)


def test_absent_rows_have_no_features_residuals_or_share_in_alignment():
    model = living_model(alignment={"temperature": 0.5})
    inputs, present = inputs_for(model), masks()
    output = model(inputs, present)
    assert not output.features["audio"][:, ~present["audio"]].any()
    both = present["audio"] & present["touch"]
    assert not output.residuals["audio", "touch"][:, ~both].any()
    labels = torch.arange(6) % 2
    loss = model.total_loss(output, labels)
    expected, contrast = torch.tensor(0.0), model.alignment
    assert contrast is not None
    for first, second, rows in (
        ("audio", "visual", present["audio"]),
        ("audio", "touch", both),
        ("visual", "touch", present["touch"]),
    ):
        expected = expected + contrast(output.aligned[first][rows], output.aligned[second][rows], labels[rows])
    torch.testing.assert_close(loss.alignment, expected / 3)


def test_alignment_does_not_depend_on_the_number_of_sources():
    model = living_model()
    inputs, present = inputs_for(model), masks()
    output = model(inputs, present)
    by_source = [output.residuals["visual", source].mean((0, 2)) for source in ("audio", "touch")]
    assert all(x.any() for x in by_source)
    sources = present["audio"].int() + present["touch"].int()
    torch.testing.assert_close(output.aligned["visual"], sum(by_source) / sources[:, None])


@pytest.mark.parametrize("fusion", [{"sharing": "source"}, {"sharing": "all"}, {"kind": "qk"}])
def test_parts_of_one_residual_are_aligned_as_their_sum(fusion: dict[str, str]):
    model = living_model(fusion={"num_heads": 2, **fusion})
    output = model(inputs_for(model), masks())
    parts = [output.residuals["visual", source].mean((0, 2)) for source in ("audio", "touch")]
    assert all(x.any() for x in parts)
    torch.testing.assert_close(output.aligned["visual"], sum(parts))


def test_the_remaining_features_are_scaled_up():
    model = living_model().eval()
    inputs = inputs_for(model)
    output = model({"visual": inputs["visual"]})
    head = model.readout.head
    torch.testing.assert_close(output.logits, head(3 * output.features["visual"].mean(0)))


def test_modality_dropout_always_keeps_one_modality():
    model = living_model(modality_dropout=0.7).train()
    seen = torch.zeros(3)
    for _ in range(20):
        presence = model(inputs_for(model)).presence
        masks = torch.stack([presence[name] for name in NAMES])
        assert masks.any(0).all()
        seen += masks.float().mean(1)
    assert ((seen / 20 > 0.3) & (seen / 20 < 0.7)).all()
    assert not model.eval()(inputs_for(model)).presence


@pytest.mark.parametrize(
    ("present", "message"),
    [
        ({"smell": torch.ones(6, dtype=torch.bool)}, "'smell' is not among them"),
        (
            {"audio": torch.ones(6)},
            r"present\['audio'\] must have one bool per sample, \[6\], but it is torch.float32 \(6,\)",
        ),
        ({"audio": torch.ones(5, dtype=torch.bool)}, r"\[6\], but it is torch.bool \(5,\)"),
        ({name: torch.arange(6) != 4 for name in NAMES}, "sample 4 of the batch has none"),
        ({name: torch.zeros(6, dtype=torch.bool) for name in NAMES}, "must be present, but none is"),
    ],
)
def test_invalid_masks_are_reported(present: dict[str, torch.Tensor], message: str):
    model = small_model(NAMES)
    with pytest.raises(ValueError, match=message):
        model(inputs_for(model), present)
