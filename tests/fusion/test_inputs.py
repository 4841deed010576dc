"""Model inputs: invalid ones are reported in one sentence, and NaN never becomes a confident prediction."""

import io
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.utils import _pytree as pytree

from fusion.models import inputs_for, small_model
from snn_fusion import FusionModel, FusionOutput, calibrate

NAN, INF = float("nan"), float("inf")


def firing_model(*names: str, **options: Any) -> FusionModel:
    model = small_model(names or ("audio", "visual"), **options)
    calibrate(model, inputs_for(model, batch=32))
    return model.eval()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda x: x["audio"], r"model\({'audio': audio, 'visual': visual}\), not a tensor of shape \(6, 1, 8, 16\)"),
        (lambda x: list(x.values()), "one mapping from modality to tensor, .* not of type list"),
        (lambda x: {"audoi": x["audio"]}, "'audoi' is not among them; did you mean audio?"),
        (lambda x: x | {"audio": torch.zeros(6, 1, 64, 32)}, r"audio: expected \[B, 1, 8, 16\] or \[T, B, 1, 8, 16\]"),
        (lambda x: x | {"audio": x["audio"].numpy()}, "audio must be .* but it is a NumPy array: convert it with"),
        (lambda x: x | {"audio": x["audio"].tolist()}, "audio must be a PyTorch tensor, but it is of type list"),
        (lambda x: x | {"audio": None}, "audio must be a PyTorch tensor, but it is None"),
        (lambda x: x | {"visual": x["visual"].double()}, r"visual is float64, .* convert it with \.float\(\)"),
        (lambda x: x | {"visual": x["visual"].half()}, "visual is float16, but the model computes in float32"),
        (lambda x: x | {"visual": x["visual"].long()}, r"visual: .* these are torch\.int64: scale them, or call"),
        (lambda x: x | {"visual": x["visual"].to("meta")}, r"visual is on meta, .* move it with \.to\('cpu'\)"),
        (lambda x: x | {"visual": x["visual"][:3]}, "agree in batch size, but audio has 6, visual has 3"),
    ],
)
def test_invalid_inputs_are_reported_before_any_computation(change: Callable[[Any], object], message: str):
    model = small_model().train()
    before = {name: buffer.clone() for name, buffer in model.named_buffers()}
    with pytest.raises(ValueError, match=message):
        model(change(inputs_for(model)))
    assert all(torch.equal(buffer, before[name]) for name, buffer in model.named_buffers())


def test_positional_inputs_are_reported():
    model = small_model()
    audio, visual = inputs_for(model).values()
    with pytest.raises(ValueError, match="pass one mapping from modality to tensor"):
        model(audio, visual)


@pytest.mark.parametrize("mask", [np.ones(6, bool), [True] * 6])
def test_invalid_masks_are_reported(mask: object):
    model = small_model()
    with pytest.raises(ValueError, match=r"present\['audio'\] must be a PyTorch tensor, bool \[6\]"):
        model(inputs_for(model), {"audio": mask})


@pytest.mark.parametrize(
    ("fields", "shape", "other"),
    [
        ({"kind": "series"}, (2, 200), (2, 999)),
        ({"kind": "tokens"}, (4, 12), (5, 12)),
        ({"kind": "auto", "blocks": {"depth": 1, "num_heads": 4}}, (1, 16, 16), (1, 64, 32)),
    ],
)
def test_every_encoder_accepts_only_the_shape_of_its_spec(
    fields: dict[str, object], shape: tuple[int, ...], other: tuple[int, ...]
):
    model = small_model(("audio",), input_shapes={"audio": shape}, encoders={"audio": fields}).eval()
    assert model({"audio": torch.zeros(2, *shape)}).logits.shape == (2, 5)
    for lead in ((2,), (3, 2)):
        with pytest.raises(ValueError, match="audio: expected"):
            model({"audio": torch.zeros(*lead, *other)})


def test_a_model_accepts_its_own_dtype_and_those_that_autocast_converts():
    model = firing_model()
    inputs = inputs_for(model)
    with torch.autocast("cpu", torch.bfloat16):
        assert model({name: x.bfloat16() for name, x in inputs.items()}).logits.isfinite().all()
    assert model.double()({name: x.double() for name, x in inputs.items()}).logits.dtype == torch.float64
    with pytest.raises(ValueError, match=r"audio is float32, .* convert it with \.to\(torch\.float64\)"):
        model(inputs)


def set_value(x: Tensor, value: float) -> Tensor:
    x = x.clone()
    x[2, 0, 3, 5] = value
    return x


@pytest.mark.parametrize("value", [NAN, INF, -INF])
@pytest.mark.parametrize("timed", [False, True])
@pytest.mark.parametrize("fusion", ["ccssa", "cmci"])
def test_a_sample_with_nan_or_inf_gets_nan_logits_and_changes_no_other(value: float, timed: bool, fusion: str):
    options = {} if fusion == "ccssa" else {"fusion": {"kind": fusion}, "alignment": None}
    model = firing_model(**options)
    inputs = inputs_for(model)
    with_nan = inputs | {"audio": set_value(inputs["audio"], value)}
    if timed:
        inputs = {name: x.expand(3, *x.shape) for name, x in inputs.items()}
        with_nan = {name: x.expand(3, *x.shape) for name, x in with_nan.items()}
    expected, actual = model(inputs), model(with_nan)
    others = torch.arange(6) != 2
    for a, b in ((expected.logits, actual.logits), *((expected.logits_of[n], x) for n, x in actual.logits_of.items())):
        assert b[2].isnan().all()
        assert torch.equal(a[others], b[others])


def test_a_sample_with_nan_or_inf_makes_the_loss_nan_but_not_the_running_statistics():
    model = firing_model().train()
    inputs = inputs_for(model)
    output = model(inputs | {"audio": set_value(inputs["audio"], NAN)})
    assert model.total_loss(output, torch.arange(6) % 5).total.isnan()
    assert output.logits.isnan().any(1).tolist() == [False, False, True, False, False, False]
    assert all(buffer.isfinite().all() for buffer in model.buffers())


def test_nan_in_an_absent_modality_has_no_effect():
    model = firing_model()
    inputs, present = inputs_for(model), {"audio": torch.arange(6) != 2}
    actual = model(inputs | {"audio": set_value(inputs["audio"], NAN)}, present)
    assert torch.equal(actual.logits, model(inputs, present).logits)


def test_calibration_refuses_nan_and_inf():
    model = small_model()
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    inputs = inputs_for(model)
    with pytest.raises(ValueError, match="sample 2 of the batch has NaN or inf"):
        calibrate(model, inputs | {"audio": set_value(inputs["audio"], NAN)})
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())


@pytest.mark.slow
def test_masks_and_nan_compile_to_one_graph():
    model = firing_model()
    inputs = inputs_for(model)
    present = {"audio": torch.tensor([1, 0, 1, 1, 0, 1]).bool(), "visual": torch.tensor([0, 1, 1, 1, 1, 1]).bool()}
    only = {"audio": torch.zeros(6).bool(), "visual": torch.ones(6).bool()}
    with_nan = inputs | {"visual": inputs["visual"].index_fill(0, torch.tensor([0, 4]), NAN)}
    none_for_one = {name: torch.arange(6) != 3 for name in inputs}
    compiled = torch.compile(model, fullgraph=True, backend="eager")
    try:
        with torch.no_grad():
            for x, masks in ((inputs, present), (with_nan, present), (inputs, only)):
                expected = model(x, masks)
                torch.testing.assert_close(compiled(x, masks).logits, expected.logits, equal_nan=True)
            # A compiler cannot read values: what otherwise raises an error gives NaN here.
            assert compiled(inputs, none_for_one).logits.isnan().any(1).tolist() == [i == 3 for i in range(6)]
    finally:
        torch.compiler.reset()


def test_a_whole_model_is_exported_saved_and_gives_the_same_output():
    model = firing_model()
    inputs = inputs_for(model)
    with torch.no_grad():
        program = torch.export.export(model, (inputs,))
        stored = io.BytesIO()
        torch.export.save(program, stored)
        stored.seek(0)
        again = torch.export.load(stored).module()
        with_nan = inputs | {"audio": set_value(inputs["audio"], NAN)}
        for x in (inputs, with_nan):
            expected, actual = model(x), again(x)
            assert isinstance(actual, FusionOutput)
            assert list(actual.residuals) == list(expected.residuals)
            for a, b in zip(pytree.tree_leaves(actual), pytree.tree_leaves(expected), strict=True):
                torch.testing.assert_close(a, b, equal_nan=True)


def test_an_output_is_a_tree_of_tensors():
    output = firing_model()(inputs_for(small_model()))
    doubled = pytree.tree_map(lambda x: 2 * x, output)
    assert torch.equal(doubled.residuals["audio", "visual"], 2 * output.residuals["audio", "visual"])
    assert torch.equal(doubled.logits, 2 * output.logits)


def test_functional_calls_work_and_transforms_are_refused_in_one_sentence():
    model = firing_model()
    inputs = inputs_for(model)
    parameters: dict[str, Tensor] = dict(model.named_parameters())
    called = torch.func.functional_call(model, parameters, (inputs,))
    assert torch.equal(called.logits, model(inputs).logits)

    def loss(parameters: dict[str, Tensor]) -> Tensor:
        return torch.func.functional_call(model, parameters, (inputs,)).logits.sum()

    with pytest.raises(NotImplementedError, match=r"do not support torch\.func transforms"):
        torch.func.grad(loss)(parameters)
