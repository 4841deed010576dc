"""Firing rates are what a count by hand gives, and recording leaves nothing behind."""

import pytest
import torch
from torch import nn

from snn_core import ScaledSpike, SpikingLinear, record_firing_rates, spiking_layers


def test_rates_are_shares_of_neurons_and_steps_over_all_passes():
    model = nn.Sequential(ScaledSpike(1.0), nn.Identity())
    with record_firing_rates(model) as rates:
        model(torch.tensor([[9.0, 0.0], [9.0, 0.0]]))  # T=2: one neuron fires twice, the other never
        model(torch.tensor([[0.0], [0.0]]))
        assert rates == {}
    assert rates == {"0": pytest.approx(2 / 6)}


def test_names_are_those_of_the_layers_inside_the_model():
    model = nn.ModuleDict({"a": SpikingLinear(2, 3), "b": nn.Sequential(SpikingLinear(2, 3))})
    assert list(spiking_layers(model)) == ["a", "b.0"]


def test_nothing_stays_attached_and_unused_layers_are_left_out():
    model = nn.ModuleDict({"used": ScaledSpike(1.0), "unused": ScaledSpike(1.0)})
    with record_firing_rates(model) as rates:
        model["used"](torch.ones(2, 2))
    assert list(rates) == ["used"]
    with pytest.raises(TypeError), record_firing_rates(model):
        model["used"]("no tensor")
    assert all(not layer.neuron._forward_hooks for layer in spiking_layers(model).values())
