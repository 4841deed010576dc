"""A calibrated model fires in every layer from the first step; the published initialization does not."""

import pytest
import torch
from torch import Tensor

from fusion.models import inputs_for, small_model
from snn_core import record_firing_rates, spiking_layers
from snn_fusion import FusionModel, calibrate


def rates_in_training(model: FusionModel, inputs: dict[str, Tensor]) -> dict[str, float]:
    with record_firing_rates(model) as rates:
        model.train()(inputs)
    return rates


def test_published_initialization_leaves_the_branch_silent():
    model = small_model()
    rates = rates_in_training(model, inputs_for(model, batch=64))
    assert rates["fusion.readers.audio_reads_visual.projection"] == 0


@pytest.mark.parametrize("attention", ["spatial", "temporal", "spatiotemporal"])
@pytest.mark.parametrize("num_heads", [1, 4, 8])
def test_every_layer_fires_near_the_target(attention: str, num_heads: int):
    model = small_model(fusion={"kind": "ccssa", "num_heads": num_heads, "attention": attention})
    inputs = inputs_for(model, batch=64)
    reached = calibrate(model, inputs, target_rate=0.25)
    measured = rates_in_training(model, inputs)
    assert measured.keys() == reached.keys() == spiking_layers(model).keys()
    for name, rate in measured.items():
        # A neuron exactly at its threshold may fall to either side when batch norm and neuron are fused.
        assert rate == pytest.approx(reached[name], abs=1e-4), name
        # Counts are integers, so a score layer cannot reach the rate exactly.
        assert rate == pytest.approx(0.25, abs=0.2 if name.endswith("spike") else 0.02), name
        assert rate > 0.02, name


def test_only_the_selected_layers_change():
    model, untouched = small_model(), small_model()
    reached = calibrate(model, inputs_for(model, batch=32), only="fusion")
    assert reached
    assert all(name.startswith("fusion.") for name in reached)
    for name, tensor in model.state_dict().items():
        if not name.startswith("fusion.") or name.endswith("num_batches_tracked"):
            assert torch.equal(tensor, untouched.state_dict()[name]), name


def test_layers_fire_in_evaluation_mode_as_in_training():
    model = small_model()
    inputs = inputs_for(model, batch=256)
    reached = calibrate(model, inputs)
    with record_firing_rates(model.eval()) as rates:
        model(inputs)
    for name, rate in rates.items():
        # Running variances are unbiased and a batch's own is not: with 256 samples they nearly agree.
        assert rate == pytest.approx(reached[name], abs=0.01), name


def test_it_is_deterministic_and_restores_mode_and_hooks():
    first, second = small_model(), small_model().eval()
    for model in (first, second):
        calibrate(model, inputs_for(model, batch=32))
        assert all(not layer.neuron._forward_pre_hooks for layer in spiking_layers(model).values())
        assert all(m.momentum == 0.1 for m in model.modules() if isinstance(m, torch.nn.BatchNorm1d))
    assert first.training
    assert not second.training
    for name, tensor in first.state_dict().items():
        assert torch.equal(tensor, second.state_dict()[name]), name


def test_invalid_arguments_are_reported():
    model = small_model()
    with pytest.raises(ValueError, match="must be between 0 and 1, but it is 20"):
        calibrate(model, inputs_for(model), target_rate=20)
    with pytest.raises(ValueError, match="no spiking layer's name starts with 'fussion'"):
        calibrate(model, inputs_for(model), only="fussion")
