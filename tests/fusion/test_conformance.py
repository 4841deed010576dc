"""Conformance of everything registered: fusion methods, encoders, neurons and alignment losses."""

from typing import Any

import pytest
import torch
from torch import Tensor

from present import present
from snn_core import spiking_layers
from snn_fusion import ALIGNMENTS, ENCODERS, METHODS, NEURONS, FusionModel, ModelSpec, calibrate, health

SHALLOW = {"kind": "patch_splitting", "depth": "shallow"}
MODALITIES: dict[str, tuple[dict[str, Any], tuple[int, ...]]] = {
    "audio": (SHALLOW, (1, 16, 16)),  # 16 tokens
    "visual": (SHALLOW, (3, 8, 8)),  # 4 tokens
    "touch": ({"kind": "series", "num_stages": 2}, (6, 36)),  # 9 tokens
    "smell": ({"kind": "vector", "tokens": 4}, (5,)),  # 4 tokens
    "memory": ({"kind": "tokens"}, (1, 12)),  # 1 token
    "skin": ({"kind": "auto"}, (2, 7, 5)),  # 4 tokens, of a padded input
}
"""By name, the encoder and the shape of the input. A new encoder needs an entry here."""
METHOD = pytest.mark.parametrize("method", METHODS.specs())
COUNT = pytest.mark.parametrize("modalities", [1, 2, 3, 5])


def spec_of(method: str, modalities: int, **options: object) -> ModelSpec:
    names = list(MODALITIES)[:modalities]
    fusion: dict[str, object] = {"kind": method}
    if "num_heads" in METHODS.specs()[method].model_fields:
        fusion["num_heads"] = 4
    return ModelSpec.model_validate(
        {
            "input_shapes": {name: MODALITIES[name][1] for name in names},
            "encoders": {name: MODALITIES[name][0] for name in names},
            "fit_inputs": True,
            "num_classes": 5,
            "channels": 16,
            "time_steps": 3,
            "fusion": fusion,
            "alignment": {"temperature": 0.5} if METHODS.specs()[method].makes_residuals else None,
            **options,
        }
    )


def model_of(method: str, modalities: int, *, batch: int = 32, **options: object) -> FusionModel:
    torch.manual_seed(0)
    model = spec_of(method, modalities, **options).build()
    calibrate(model, inputs_of(model, batch))
    return model


def inputs_of(model: FusionModel, batch: int, *, time_steps: int = 0, seed: int = 1) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    lead = (time_steps, batch) if time_steps else (batch,)
    return {name: torch.randn(*lead, *MODALITIES[name][1], generator=generator) * 2 for name in model.modalities}


@METHOD
@COUNT
def test_any_number_of_modalities_with_different_token_counts(method: str, modalities: int):
    model = model_of(method, modalities)
    output = model(inputs_of(model, 6))
    assert output.logits.shape == (6, 5)
    assert output.logits.std() > 0
    assert {f.shape for f in output.features.values()} == {(3, 6, 16)}
    assert len(output.residuals) in (0, modalities * (modalities - 1))


@METHOD
@COUNT
def test_the_order_of_the_inputs_does_not_matter(method: str, modalities: int):
    model = model_of(method, modalities).eval()
    inputs = inputs_of(model, 6)
    assert torch.equal(model(inputs).logits, model(dict(reversed(inputs.items()))).logits)


@METHOD
@pytest.mark.parametrize("time_steps", [1, 7])
def test_any_number_of_time_steps(method: str, time_steps: int):
    model = model_of(method, 3)
    output = model(inputs_of(model, 6, time_steps=time_steps))
    assert {f.shape for f in output.features.values()} == {(time_steps, 6, 16)}
    model.total_loss(output, torch.arange(6) % 5).total.backward()


@METHOD
@COUNT
def test_a_batch_equals_its_samples_in_evaluation(method: str, modalities: int):
    model = model_of(method, modalities).eval()
    inputs = inputs_of(model, 6)
    together = model(inputs).logits
    for i in range(6):
        alone = model({name: x[i : i + 1] for name, x in inputs.items()}).logits
        torch.testing.assert_close(alone, together[i : i + 1], rtol=1e-5, atol=1e-5)


@METHOD
@COUNT
def test_gradients_reach_every_parameter(method: str, modalities: int):
    model = model_of(method, modalities)
    model.total_loss(model(inputs_of(model, 32)), torch.arange(32) % 5).total.backward()
    # Batch norm takes out the mean, so biases right before it get rounding noise only.
    dead = [
        name
        for name, p in model.named_parameters()
        if p.numel()
        and (p.grad is None or not p.grad.any())
        and not name.endswith(("expand.linear.bias", "contract.linear.bias"))
    ]
    assert not dead


def unused_parameters(model: FusionModel) -> list[str]:
    """Parameters that no gradient reaches: training in several processes stops at them."""
    return [name for name, p in model.named_parameters() if p.requires_grad and p.grad is None]


def test_a_parameter_that_nothing_uses_is_found():
    model = model_of("none", 1)
    model.encoders["audio"].register_parameter("stray", torch.nn.Parameter(torch.zeros(1)))
    model(inputs_of(model, 4)).logits.sum().backward()
    assert unused_parameters(model) == ["encoders.audio.stray"]


@METHOD
@COUNT
def test_states_and_specs_survive_a_round_trip(method: str, modalities: int):
    spec = spec_of(method, modalities)
    assert ModelSpec.model_validate_json(spec.model_dump_json()) == spec
    model, other = model_of(method, modalities).eval(), spec.build().eval()
    other.load_state_dict(model.state_dict())
    inputs = inputs_of(model, 6)
    assert torch.equal(other(inputs).logits, model(inputs).logits)


@METHOD
def test_mixed_precision_trains(method: str):
    model = model_of(method, 3)
    with torch.autocast("cpu", torch.bfloat16):
        output = model(inputs_of(model, 8))
        loss = model.total_loss(output, torch.arange(8) % 5).total
    loss.backward()
    assert output.logits.isfinite().all()
    assert all(p.grad.isfinite().all() for p in model.parameters() if p.grad is not None)


# Compiling takes up to half a minute, longest where there are many pairs; one method with pairs is always tried.
@pytest.mark.parametrize(
    "method",
    [pytest.param(kind, marks=[] if kind == "cmci" else pytest.mark.slow) for kind in METHODS.specs()],
)
def test_a_compiler_and_an_exporter_give_the_same(method: str):
    model = model_of(method, 3).eval()
    inputs = inputs_of(model, 4)
    with torch.no_grad():
        expected = model(inputs).logits
        compiled = torch.compile(model, fullgraph=True, backend="aot_eager")
        torch.testing.assert_close(compiled(inputs).logits, expected)
        exported = torch.export.export(Logits(model), (inputs,)).module()
        torch.testing.assert_close(exported(inputs), expected)
    torch.compiler.reset()


class Logits(torch.nn.Module):
    """An exported program returns tensors, not our dataclass."""

    def __init__(self, model: FusionModel) -> None:
        super().__init__()
        self.model = model

    def forward(self, inputs: dict[str, Tensor]) -> Tensor:
        return self.model(inputs).logits


@METHOD
@pytest.mark.parametrize("garbage", [float("nan"), 1e6])
def test_absent_rows_change_nothing(method: str, garbage: float):
    model = model_of(method, 3)
    present = {"audio": torch.tensor([1, 0, 1, 1, 0, 1]).bool(), "touch": torch.tensor([0, 1, 1, 0, 1, 1]).bool()}
    inputs = inputs_of(model, 6)
    model.eval()
    zeros = {name: x.clone() for name, x in inputs.items()}
    filled = {name: x.clone() for name, x in inputs.items()}
    for name, mask in present.items():
        zeros[name][~mask] = 0.0
        filled[name][~mask] = garbage
    assert torch.equal(model(filled, present).logits, model(zeros, present).logits)
    together = model(inputs, present).logits
    for i in range(6):
        there = {name: x[i : i + 1] for name, x in inputs.items() if name not in present or present[name][i]}
        torch.testing.assert_close(model(there).logits, together[i : i + 1], rtol=1e-5, atol=1e-5)
    model.train()
    before = {name: b.clone() for name, b in model.named_buffers()}
    statistics = []
    for x in (filled, zeros):
        model.load_state_dict(before, strict=False)
        model(x, present)
        statistics.append({name: b.clone() for name, b in model.named_buffers()})
    assert all(torch.equal(statistics[0][name], statistics[1][name]) for name in before)


@pytest.mark.parametrize("neuron", NEURONS.specs())
def test_every_neuron_trains(neuron: str):
    model = model_of("ccssa", 2, neuron={"kind": neuron})
    model.total_loss(model(inputs_of(model, 8)), torch.arange(8) % 5).total.backward()
    assert not unused_parameters(model)
    assert not health(model, inputs_of(model, 32)).silent


@pytest.mark.parametrize("alignment", ALIGNMENTS.specs())
def test_every_alignment_loss_has_gradients_on_the_residuals(alignment: str):
    model = model_of("ccssa", 3, alignment={"kind": alignment})
    output = model(inputs_of(model, 8))
    loss = model.total_loss(output, torch.arange(8) % 2).alignment
    (gradient,) = torch.autograd.grad(loss, output.residuals["audio", "visual"], retain_graph=True)
    assert loss > 0
    assert gradient.any()
    assert all(
        torch.autograd.grad(loss, p, allow_unused=True)[0] is not None for p in present(model.alignment).parameters()
    )


@pytest.mark.parametrize("encoder", ENCODERS.specs())
def test_every_encoder_is_tested_here_and_accepts_blocks(encoder: str):
    names = [name for name, (fields, _) in MODALITIES.items() if fields["kind"] == encoder]
    assert names, f"no modality of this file has the encoder {encoder}"
    fields = {**MODALITIES[names[0]][0], "blocks": {"depth": 2, "num_heads": 4}}
    spec = ModelSpec.model_validate(
        {
            "input_shapes": {names[0]: MODALITIES[names[0]][1]},
            "encoders": {names[0]: fields},
            "fit_inputs": True,
            "num_classes": 3,
            "channels": 16,
            "fusion": {"num_heads": 4},
        }
    )
    model = spec.build()
    calibrate(model, inputs_of(model, 32))
    output = model(inputs_of(model, 6))
    assert output.features[names[0]].shape == (4, 6, 16)
    output.logits.square().sum().backward()
    assert not unused_parameters(model)
    assert sum("blocks.1." in name for name in spiking_layers(model)) == 7
