"""Whole models: any number of modalities, the published residual, gradients everywhere, invalid inputs reported."""

import itertools
from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from fusion.models import inputs_for, small_model
from present import present
from snn_fusion import CCSSA, FusionModel, NoFusion, PatchSplitting, Readout, calibrate
from snn_fusion.methods.ccssa import CrossModalReader


@pytest.mark.parametrize("names", [("audio",), ("audio", "visual"), ("audio", "visual", "touch")])
@pytest.mark.parametrize("attention", ["spatial", "temporal", "spatiotemporal"])
@pytest.mark.parametrize("combine", ["add", "concat"])
def test_any_number_of_modalities(names: tuple[str, ...], attention: str, combine: str):
    fusion = {"kind": "ccssa", "num_heads": 4, "attention": attention}
    model = small_model(names, fusion=fusion, readout={"combine": combine})
    output = model(inputs_for(model))
    assert output.logits.shape == (6, 5)
    assert {name: f.shape for name, f in output.features.items()} == dict.fromkeys(names, (3, 6, 16))
    assert list(output.residuals) == list(itertools.permutations(names, 2))
    assert all(r.shape == (3, 6, 8, 16) for r in output.residuals.values())


def test_gradients_reach_every_parameter_of_a_calibrated_model():
    model = small_model(("audio", "visual", "touch"))
    inputs = inputs_for(model, batch=32)
    calibrate(model, inputs)
    output = model(inputs)
    model.total_loss(output, torch.arange(32) % 5).total.backward()
    # Batch norm removes the mean, so biases right before it only get rounding noise.
    without_gradient = [
        name
        for name, p in model.named_parameters()
        if (p.grad is None or not p.grad.any()) and not name.endswith(("expand.linear.bias", "contract.linear.bias"))
    ]
    assert not without_gradient


def test_the_residual_is_added_alpha_times():
    model = small_model()
    calibrate(model, inputs_for(model, batch=32))
    fusion = model.fusion
    assert isinstance(fusion, CCSSA)
    tokens = {name: torch.randint(0, 3, (3, 2, 8, 16)).float() for name in ("audio", "visual")}
    fused = fusion(tokens)
    residual = fused.residuals["audio", "visual"]
    assert residual.any()
    torch.testing.assert_close(fused.tokens["audio"], tokens["audio"] + 1.5 * residual)
    fusion.alpha = 0.0
    assert torch.equal(fusion(tokens).tokens["audio"], tokens["audio"])


def test_spatiotemporal_residuals_join_both_attentions():
    model = small_model(fusion={"kind": "ccssa", "num_heads": 4, "semantic_projection": False})
    calibrate(model, inputs_for(model, batch=32))
    reader = model.fusion.get_submodule("readers.audio_reads_visual").eval()
    assert isinstance(reader, CrossModalReader)
    x, y = torch.randint(0, 3, (2, 3, 4, 8, 16)).float().unbind(0)
    a, b, r = present(reader.spatial)(x, y), present(reader.temporal)(x, y), reader(x, y)
    assert r.any()
    for t, n in itertools.product(range(3), range(8)):
        torch.testing.assert_close(r[t, :, n], a[t].mean(1) * b[:, :, n].mean(0))


def test_a_batch_equals_its_samples_in_evaluation():
    model = small_model()
    calibrate(model, inputs_for(model, batch=32))
    model.eval()
    inputs = inputs_for(model)
    together = model(inputs).logits
    assert together.std() > 0
    for i in range(6):
        alone = model({name: x[i : i + 1] for name, x in inputs.items()}).logits
        torch.testing.assert_close(alone, together[i : i + 1], rtol=1e-5, atol=1e-5)


def test_the_order_of_the_inputs_does_not_matter():
    model = small_model().eval()
    inputs = inputs_for(model)
    assert torch.equal(model(inputs).logits, model(dict(reversed(inputs.items()))).logits)


def test_a_static_input_equals_the_same_frame_at_every_step():
    model = small_model()
    calibrate(model, inputs_for(model, batch=32))
    inputs = inputs_for(model)
    timed = {name: x.expand(3, *x.shape) for name, x in inputs.items()}
    assert torch.equal(model.eval()(inputs).logits, model(timed).logits)


def test_a_model_is_built_without_specs():
    encoders = {name: PatchSplitting(1, 16, depth="shallow", time_steps=2) for name in ("left", "right")}
    model = FusionModel(encoders, NoFusion(), Readout(("left", "right"), 16, 4))
    output = model({name: torch.rand(3, 1, 8, 8) for name in encoders})
    assert output.logits.shape == (3, 4)
    assert model.total_loss(output, torch.tensor([0, 1, 2])).alignment == 0


def test_the_loss_is_the_sum_of_its_parts():
    model = small_model(alignment={"temperature": 0.5, "weight": 3.0})
    inputs = inputs_for(model, batch=32)
    calibrate(model, inputs)
    loss = model.total_loss(model(inputs), torch.arange(32) % 5)
    assert loss.alignment > 0
    torch.testing.assert_close(loss.total, loss.classification + 3.0 * loss.alignment)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda x: {}, "at least one of audio, visual must be present, but none is"),
        (lambda x: x | {"touch": x["audio"]}, "the model reads audio, visual, and 'touch' is not among them"),
        (lambda x: x | {"audio": x["audio"][:2]}, "agree in batch size, but audio has 2, visual has 6"),
        (lambda x: x | {"audio": x["audio"].expand(4, -1, -1, -1, -1)}, "audio has T=4"),
        (
            lambda x: x | {"audio": x["visual"]},
            r"audio: expected \[B, 1, 8, 16\] or .*, got \(6, 3, 16, 8\)",
        ),
        (lambda x: x | {"audio": x["audio"][..., :6]}, r"audio: expected .* got \(6, 1, 8, 6\)"),
    ],
)
def test_invalid_inputs_are_reported(change: Callable[[dict[str, Tensor]], dict[str, Tensor]], message: str):
    model = small_model()
    with pytest.raises(ValueError, match=message):
        model(change(inputs_for(model)))


def test_a_reserved_name_of_pytorch_is_refused():
    encoder = PatchSplitting(1, 8, depth="shallow", time_steps=2)
    for name in ("keys", "training"):
        with pytest.raises(ValueError, match=f"'{name}' cannot name a modality"):
            FusionModel({name: encoder}, NoFusion(), Readout(("other",), 8, 2))
    with pytest.raises(ValueError, match=r"'a\.b' cannot name a modality"):
        Readout(("a.b",), 8, 2)
