"""Printed specs, models and outputs are short and readable, and escaped in notebooks."""

from pathlib import Path
from typing import Any

import pytest
import torch

from fusion.models import inputs_for, small_model, small_spec
from snn_core import spiking_layers
from snn_fusion import FusionModel, NoFusion, PatchSplitting, Readout, health, load_spec, summary


def test_a_spec_prints_as_yaml_that_reads_back(tmp_path: Path):
    spec = small_spec()
    assert "encoders:\n  audio:\n    " in str(spec)
    (tmp_path / "model.yaml").write_text(str(spec))
    assert load_spec(tmp_path / "model.yaml") == spec
    assert "kind: ccssa" in str(spec.fusion)


def test_an_output_shows_shapes_instead_of_numbers():
    model = small_model().eval()
    text = repr(model(inputs_for(model)))
    assert "FusionOutput of 6 samples" in text
    cells = [line.split("  ") for line in text.splitlines()]
    rows = {row[1]: [cell.strip() for cell in row[2:] if cell] for row in cells if len(row) > 2}
    assert rows["logits"] == ["[6, 5]", "100.0%"]
    assert rows["audio reads visual"][0] == "[3, 6, 8, 16]"
    assert len(text) < 800


def test_a_model_is_a_few_lines():
    lines = repr(small_model()).splitlines()
    assert lines[0].startswith("FusionModel of ")
    assert "  audio: PatchSplitting of 1 x 8 x 16" in lines
    assert len(lines) < 8


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"fusion": {"kind": "ccssa", "num_heads": 4, "sharing": "source"}},
        {"fusion": {"kind": "qk", "num_heads": 4}},
        {"fusion": {"kind": "sca", "num_heads": 4, "biased": []}},
        {"fusion": {"kind": "cmci"}, "alignment": None},
        {"neuron": {"kind": "plif"}, "readout": {"combine": "concat"}},
    ],
)
def test_a_summary_counts_what_a_forward_pass_runs(options: dict[str, Any]):
    model = small_model(("audio", "visual", "touch"), **options).train()
    state = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    result = summary(model)
    assert model.training
    assert all(torch.equal(tensor, state[name]) for name, tensor in model.state_dict().items())

    neurons = 0

    def count(_module: object, _inputs: object, spikes: torch.Tensor) -> None:
        nonlocal neurons
        neurons += spikes[0].numel()

    for layer in spiking_layers(model).values():
        layer.neuron.register_forward_hook(count)
    model.eval()(inputs_for(model, batch=1))
    assert result.neurons == neurons
    assert result.parameters == sum(p.numel() for p in model.parameters())
    assert sum(part.layers for part in result.parts) == len(spiking_layers(model))
    assert [part.tokens for part in result.parts[:3]] == [8, 8, 8]


def test_a_summary_names_each_pair():
    names = [part.name for part in summary(small_model()).parts]
    assert names == ["audio", "visual", "audio reads visual", "visual reads audio", "readout"]
    table = str(summary(small_model())).splitlines()
    assert table[0].split() == ["part", "module", "input", "tokens", "parameters", "layers", "neurons"]
    assert table[-1].startswith("total")


def test_a_model_of_any_input_size_has_no_count_of_neurons():
    model = FusionModel(
        {"left": PatchSplitting(1, 16, depth="shallow", time_steps=2)}, NoFusion(), Readout(("left",), 16, 4)
    )
    result = summary(model)
    assert result.neurons is None
    assert result.parts[0].input_shape == (1, "H", "W")
    assert "?" in str(result)


def test_html_escapes_names():
    # Specs check modality names; a model built from modules accepts any name that a module can hold.
    name = "<script>alert(1)<"
    encoder = PatchSplitting(1, 16, depth="shallow", time_steps=2)
    model = FusionModel({name: encoder}, NoFusion(), Readout((name,), 16, 4))
    inputs = {name: torch.rand(3, 1, 8, 8)}
    spec = small_spec(fusion={"kind": "ccssa", "num_heads": 4, "topology": "all"})
    for view in (model(inputs), summary(model), health(model, inputs), spec):
        html = view._repr_html_()
        assert html.startswith(("<table>", "<pre>"))
        assert "<script>" not in html
    assert "&lt;script&gt;" in summary(model)._repr_html_()
