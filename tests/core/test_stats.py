"""Rates and operations are what a count by hand and SpikingJelly give, and recording leaves nothing behind."""

import itertools

import pytest
import torch
from spikingjelly.activation_based.op_counter import DispatchCounterMode, MACCounter, SynOpCounter
from torch import Tensor, nn

from snn_core import ScaledSpike, SpikingAttention, SpikingConv2d, SpikingLinear, record_firing_rates, spiking_layers
from snn_core.stats import SynapticOperations, record_synaptic_operations


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


def spikes(*shape: int, rate: float = 0.3) -> Tensor:
    return (torch.rand(shape, generator=torch.Generator().manual_seed(4)) < rate).float()


def counted(layer: nn.Module, x: Tensor) -> SynapticOperations:
    with record_synaptic_operations(nn.ModuleList([layer])) as results:
        layer(x)
        assert results == {}
    return results["0"]


def test_a_spike_costs_a_linear_layer_one_addition_for_each_output():
    x = torch.tensor([[1.0, 0.0, 1.0], [0.0, 0.0, 0.0]])[:, None]  # T=2 B=1 C=3
    assert counted(nn.Linear(3, 5), x) == SynapticOperations(macs=30, operations=10, input_rate=2 / 6, spiking=True)
    assert counted(nn.Linear(3, 5), x * 0.5) == SynapticOperations(30, 10, 2 / 6, spiking=False)


def test_a_spike_in_a_corner_reaches_fewer_outputs_than_one_in_the_middle():
    conv = nn.Conv2d(1, 2, 3, padding=1)
    for place, outputs in (((0, 0), 4), ((0, 2), 6), ((2, 2), 9)):
        x = torch.zeros(1, 1, 5, 5)
        x[0, 0, place[0], place[1]] = 1
        found = counted(conv, x)
        assert (found.operations, found.macs) == (2 * outputs, 2 * 9 * 25)


def operations_one_by_one(layer: nn.Module, x: Tensor) -> int:
    """How many outputs move when one input element does, summed over those that are not 0."""
    total, baseline = 0, layer(torch.zeros_like(x))
    for place in x.nonzero().tolist():
        alone = torch.zeros_like(x)
        alone[tuple(place)] = 1.0
        total += int((layer(alone) != baseline).sum())
    return total


@pytest.mark.parametrize(
    ("layer", "shape"),
    [
        (nn.Conv1d(4, 6, 3, stride=2, padding=2, groups=2), (3, 4, 11)),
        (nn.Conv2d(2, 3, (3, 2), stride=(2, 1), padding=(0, 1), dilation=(1, 2)), (2, 2, 7, 6)),
        (nn.Conv2d(4, 4, 3, padding="same", groups=4), (2, 4, 5, 6)),
        (nn.Conv2d(2, 3, 3, padding=1, padding_mode="circular"), (2, 2, 5, 6)),
        (nn.Conv2d(2, 3, 3, padding=1), (2, 5, 6)),
        (nn.Conv3d(2, 3, 2, stride=2, padding=1), (2, 2, 4, 5, 3)),
        (nn.Linear(7, 5), (4, 3, 2, 7)),
    ],
    ids=lambda value: None if isinstance(value, tuple) else str(value),
)
def test_operations_are_those_of_moving_every_input_alone(layer: nn.Module, shape: tuple[int, ...]):
    layer.double()
    x = spikes(*shape).double()
    assert counted(layer, x).operations == operations_one_by_one(layer, x) > 0


def spikingjelly_total(counter: SynOpCounter | MACCounter, layer: nn.Module, x: Tensor) -> int:
    with torch.no_grad(), DispatchCounterMode([counter]):
        layer(x)
    return counter.get_total()


def test_counts_are_those_of_spikingjelly():
    layers = itertools.chain(
        [(nn.Linear(7, 5), (4, 3, 7))],
        (
            (nn.Conv2d(4, 6, 3, padding=padding, stride=stride, groups=groups, dilation=dilation), (3, 4, 9, 8))
            for padding, stride, groups, dilation in itertools.product((0, 1, 2), (1, 2), (1, 2), (1, 2))
        ),
    )
    for layer, shape in layers:
        x, real = spikes(*shape), torch.randn(shape)
        assert counted(layer, x).operations == spikingjelly_total(SynOpCounter(), layer, x)
        assert counted(layer, real).macs == spikingjelly_total(MACCounter(), layer, real)


def test_a_network_is_counted_layer_by_layer_over_all_calls():
    model = nn.Sequential(SpikingConv2d(2, 3), nn.Flatten(2), SpikingLinear(3 * 5 * 4, 6))
    x = torch.rand(4, 2, 2, 5, 4) + 1  # T=4 B=2 C=2 H=5 W=4
    with record_firing_rates(model) as rates, record_synaptic_operations(model) as results:
        model(x)
        model(x)
    assert list(results) == ["0.conv", "2.linear"]
    assert not results["0.conv"].spiking
    assert results["0.conv"].input_rate == 1.0
    assert results["2.linear"].spiking
    assert results["2.linear"].input_rate == pytest.approx(rates["0"])
    assert results["2.linear"].macs == 2 * (4 * 2) * 60 * 6
    assert results["2.linear"].operations == round(rates["0"] * 2 * 4 * 2 * 60) * 6


def test_attention_is_counted_by_its_projections_alone():
    with record_synaptic_operations(SpikingAttention(8, num_heads=2)) as results:
        pass
    assert results == {}
    attend = SpikingAttention(8, num_heads=2)
    with record_synaptic_operations(attend) as results:
        attend(spikes(4, 2, 6, 8))
    assert set(results) == {f"{name}.linear" for name in ("query", "key", "value", "output")}


def test_counting_changes_nothing_and_leaves_nothing_behind():
    model = nn.Sequential(SpikingConv2d(2, 3), nn.Flatten(2), SpikingLinear(60, 6)).eval()
    x = (torch.rand(4, 2, 2, 5, 4) * 3).requires_grad_()
    expected = model(x)
    with record_synaptic_operations(model):
        found = model(x)
    assert torch.equal(found, expected)
    found.sum().backward()
    assert x.grad is not None
    with pytest.raises(ValueError, match="maps are"), record_synaptic_operations(model):
        model(torch.zeros(2, 2))
    assert not any(module._forward_hooks for module in model.modules())


def test_counts_are_the_same_in_inference_mode_and_mixed_precision():
    conv, x = nn.Conv2d(2, 3, 3, padding=1), spikes(2, 2, 5, 6)
    expected = counted(conv, x)
    with torch.inference_mode():
        assert counted(conv, x) == expected
    with torch.autocast("cpu", torch.bfloat16):
        assert counted(conv, x) == expected
