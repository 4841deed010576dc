"""Diagnostics of layers, and of what each modality reads from the others."""

import copy

import pytest
import torch

from fusion.models import inputs_for, small_model
from snn_core import spiking_layers
from snn_fusion import CCSSA, calibrate, health, residual_fractions


def test_a_calibrated_model_fires_and_the_published_initialization_does_not():
    model = small_model(("audio", "visual", "touch"))
    inputs = inputs_for(model, batch=32)
    published = health(model, inputs)
    assert any(name.startswith("fusion.") for name in published.silent)
    assert all(published.layers[name].firing_rate < 0.001 for name in published.silent)
    calibrate(model, inputs)
    living = health(model, inputs, torch.arange(32) % 5)
    assert living.layers.keys() == spiking_layers(model).keys()
    assert not living.silent
    assert not living.saturated
    assert all(layer.gradient_norm > 0 for layer in living.layers.values())


def test_gradients_are_those_of_the_spikes():
    model = small_model()
    inputs, labels = inputs_for(model, batch=32), torch.arange(32) % 5
    calibrate(model, inputs)
    caught = []
    layer = spiking_layers(model)["readout.mlps.audio.contract"]
    handle = layer.neuron.register_forward_hook(lambda _m, _i, spikes: caught.append(spikes.retain_grad() or spikes))
    model.total_loss(model(inputs), labels).total.backward()
    handle.remove()
    actual = health(model, inputs, labels).layers["readout.mlps.audio.contract"].gradient_norm
    assert actual == pytest.approx(float(caught[0].grad.norm()), rel=1e-5)


@pytest.mark.parametrize("training", [True, False])
def test_measuring_does_not_change_the_model(training: bool):
    model = small_model().train(training)
    inputs = inputs_for(model)
    before = copy.deepcopy(model.state_dict())
    health(model, inputs)
    residual_fractions(model, inputs)
    assert model.training is training
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert all(parameter.grad is None for parameter in model.parameters())
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in model.modules())


def test_a_saturated_layer_is_reported():
    model = small_model()
    inputs = inputs_for(model)
    spiking_layers(model)["readout.mlps.audio.contract"].adjust_drive(1.0, 100.0)
    report = health(model, inputs)
    assert "readout.mlps.audio.contract" in report.saturated
    (line,) = [line for line in str(report).splitlines() if line.startswith("readout.mlps.audio.contract")]
    assert line.endswith("saturated")
    assert "100.00%" in line


def test_shares_follow_alpha_and_sum_to_one():
    model = small_model(("audio", "visual", "touch"))
    inputs = inputs_for(model, batch=32)
    calibrate(model, inputs)
    shares = residual_fractions(model, inputs)
    assert {target: list(of) for target, of in shares.items()} == {
        "audio": ["audio", "visual", "touch"],
        "visual": ["visual", "audio", "touch"],
        "touch": ["touch", "audio", "visual"],
    }
    for of in shares.values():
        assert sum(of.values()) == pytest.approx(1)
        assert min(of.values()) > 0
    fusion = model.fusion
    assert isinstance(fusion, CCSSA)
    fusion.alpha = 3.0
    doubled = residual_fractions(model, inputs)
    for target, of in shares.items():
        for source in of.keys() - {target}:
            assert doubled[target][source] / doubled[target][target] == pytest.approx(2 * of[source] / of[target])
    fusion.alpha = 0.0
    assert residual_fractions(model, inputs)["audio"] == {"audio": 1.0, "visual": 0.0, "touch": 0.0}
