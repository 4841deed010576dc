"""Rates and operations equal manual counts and SpikingJelly's, and recording removes its hooks."""

import itertools
from typing import Literal

import pytest
import torch
from einops import rearrange
from spikingjelly.activation_based.op_counter import (
    ACCounter,
    BaseCounter,
    DispatchCounterMode,
    MACCounter,
    SynOpCounter,
)
from torch import Tensor, nn

from snn_core import ScaledSpike, SpikingAttention, SpikingConv2d, SpikingLinear, record_firing_rates, spiking_layers
from snn_core.stats import SynapticOperations, record_synaptic_operations


def test_rates_are_averaged_over_neurons_steps_and_passes():
    model = nn.Sequential(ScaledSpike(1.0), nn.Identity())
    with record_firing_rates(model) as rates:
        model(torch.tensor([[9.0, 0.0], [9.0, 0.0]]))  # T=2: one neuron fires twice, the other never
        model(torch.tensor([[0.0], [0.0]]))
        assert rates == {}
    assert rates == {"0": pytest.approx(2 / 6)}


def test_names_are_those_of_the_layers_inside_the_model():
    model = nn.ModuleDict({"a": SpikingLinear(2, 3), "b": nn.Sequential(SpikingLinear(2, 3))})
    assert list(spiking_layers(model)) == ["a", "b.0"]


def test_hooks_are_removed_and_unused_layers_are_omitted():
    model = nn.ModuleDict({"used": ScaledSpike(1.0), "unused": ScaledSpike(1.0)})
    with record_firing_rates(model) as rates:
        model["used"](torch.ones(2, 2))
    assert list(rates) == ["used"]
    with pytest.raises(TypeError), record_firing_rates(model):
        model["used"]("no tensor")
    assert all(not layer.neuron._forward_hooks for layer in spiking_layers(model).values())


def spikes(*shape: int, rate: float = 0.3) -> Tensor:
    return (torch.rand(shape, generator=torch.Generator().manual_seed(4)) < rate).float()


def count(layer: nn.Module, x: Tensor) -> SynapticOperations:
    with record_synaptic_operations(nn.ModuleList([layer])) as results:
        layer(x)
        assert results == {}
    return results["0"]


def test_a_spike_costs_a_linear_layer_one_addition_per_output():
    x = torch.tensor([[1.0, 0.0, 1.0], [0.0, 0.0, 0.0]])[:, None]  # T=2 B=1 C=3
    assert count(nn.Linear(3, 5), x) == SynapticOperations(macs=30, operations=10, input_rate=2 / 6, inputs="spikes")
    assert count(nn.Linear(3, 5), x * 2) == SynapticOperations(30, 10, 2 / 6, "whole")
    real = count(nn.Linear(3, 5), x * 0.5)
    assert real == SynapticOperations(30, 10, 2 / 6, "real")
    assert not real.spiking


def test_a_spike_in_a_corner_reaches_fewer_outputs_than_one_in_the_middle():
    conv = nn.Conv2d(1, 2, 3, padding=1)
    for (row, column), outputs in (((0, 0), 4), ((0, 2), 6), ((2, 2), 9)):
        x = torch.zeros(1, 1, 5, 5)
        x[0, 0, row, column] = 1
        counts = count(conv, x)
        assert (counts.operations, counts.macs) == (2 * outputs, 2 * 9 * 25)


def operations_by_perturbation(layer: nn.Module, x: Tensor) -> int:
    """Return how many outputs change with each nonzero input element, summed over the elements."""
    total, baseline = 0, layer(torch.zeros_like(x))
    for index in x.nonzero().tolist():
        single = torch.zeros_like(x)
        single[tuple(index)] = 1.0
        total += int((layer(single) != baseline).sum())
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
def test_operations_equal_the_outputs_that_each_input_changes(layer: nn.Module, shape: tuple[int, ...]):
    layer.double()
    x = spikes(*shape).double()
    assert count(layer, x).operations == operations_by_perturbation(layer, x) > 0


def spikingjelly_total(counter: BaseCounter, layer: nn.Module, *inputs: Tensor) -> int:
    with torch.no_grad(), DispatchCounterMode([counter]):
        layer(*inputs)
    return counter.get_total()


def test_counts_equal_those_of_spikingjelly():
    layers = itertools.chain(
        [(nn.Linear(7, 5), (4, 3, 7))],
        (
            (nn.Conv2d(4, 6, 3, padding=padding, stride=stride, groups=groups, dilation=dilation), (3, 4, 9, 8))
            for padding, stride, groups, dilation in itertools.product((0, 1, 2), (1, 2), (1, 2), (1, 2))
        ),
    )
    for layer, shape in layers:
        x, real = spikes(*shape), torch.randn(shape)
        assert count(layer, x).operations == spikingjelly_total(SynOpCounter(), layer, x)
        assert count(layer, real).macs == spikingjelly_total(MACCounter(), layer, real)


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


@pytest.mark.parametrize("over", ["tokens", "time"])
def test_attention_is_counted_by_its_projections_and_its_coincidences(over: Literal["tokens", "time"]):
    attend = SpikingAttention(8, num_heads=2, over=over).eval()
    for layer in (attend.query, attend.key, attend.value):
        layer.adjust_drive(4.0, 1.0)
    x = spikes(4, 2, 6, 8)  # T=4 B=2 N=6 C=8, heads of width 4
    with record_synaptic_operations(attend) as results:
        attend(x)
    layers = [f"{name}.linear" for name in ("query", "key", "value", "output")]
    assert list(results) == [*layers[:3], "[0]", "[1]", layers[3]]

    # Heads are [T, B, h, N, d], or [B, N, h, T, d] over time; d is not longer than what is read: the state comes first.
    axes = "t b n (h d) -> t b h n d" if over == "tokens" else "t b n (h d) -> b n h t d"
    with torch.no_grad():
        q, k, v = (
            rearrange(layer(x), axes, h=2).flatten(0, 2).numpy() for layer in (attend.query, attend.key, attend.value)
        )
    state = over == "tokens"
    first, second = (k.swapaxes(1, 2), v) if state else (q, k.swapaxes(1, 2)), (q,) if state else (v,)
    met = dense = 0
    for product in range(len(q)):
        left, right = first[0][product], first[1][product]
        for i, j, c in itertools.product(range(left.shape[0]), range(right.shape[1]), range(left.shape[1])):
            met += bool(left[i, c] and right[c, j])
            dense += 1
    assert (results["[0]"].operations, results["[0]"].macs) == (met, dense)
    assert met > 0
    product_of_both = first[0] @ first[1]
    left, right = (second[0], product_of_both) if state else (product_of_both, second[0])
    met = sum(
        bool(left[p, i, c] and right[p, c, j])
        for p, i, c, j in itertools.product(*(range(size) for size in (*left.shape, right.shape[2])))
    )
    assert results["[1]"].operations == met > 0
    assert results["[0]"].spiking
    assert results["[1]"].spiking
    assert results["[1]"].input_rate == pytest.approx(second[0].mean())


def test_products_with_one_spiking_factor_count_as_additions():
    class Product(nn.Module):
        def forward(self, a: Tensor, b: Tensor) -> Tensor:
            return a @ b

    def counts(a: Tensor, b: Tensor) -> SynapticOperations:
        with record_synaptic_operations(model) as results:
            model(a, b)
        return results["[0]"]

    model, a, b = Product(), spikes(3, 5), spikes(5, 4, rate=0.5)
    met = int((a[:, :, None] * b[None]).sum())
    assert counts(a, b) == SynapticOperations(60, met, float(a.double().mean()), "spikes")
    assert counts(3 * a, b) == SynapticOperations(60, met, float(b.double().mean()), "spikes")
    assert counts(3 * a, 0.5 * b) == SynapticOperations(60, met, float(a.double().mean()), "real")
    assert counts(3 * a, 2 * b).inputs == "whole"
    # SpikingJelly also counts coincidences where both factors spike; else it counts the other factor as dense.
    for left, right, expected in ((a, b, met), (3 * a, b, int(b.sum()) * 3), (a, 2 * b, int(a.sum()) * 4)):
        assert spikingjelly_total(ACCounter(), model, left, right) == expected


def test_custom_layers_are_counted_including_zero_weights():
    class Custom(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.weight = nn.Parameter(torch.zeros(3, 7))
            self.up = nn.ConvTranspose1d(2, 3, 4, stride=3, padding=1)

        def forward(self, x: Tensor) -> Tensor:
            torch.nn.functional.linear(x, self.weight)
            torch.einsum("tbc,kc->tbk", x, self.weight)
            _ = self.weight @ x[0].mT
            torch.nn.functional.scaled_dot_product_attention(x, x, x)
            return self.up(x)

    custom, x = Custom(), spikes(4, 2, 7)
    with record_synaptic_operations(custom) as results:
        custom(x)
    assert results["[0]"].operations == results["[1]"].operations == int(x.sum()) * 3
    assert results["[2]"].operations == int(x[0].sum()) * 3
    assert results["[3]"] == SynapticOperations(4 * 2 * 2 * 14, 4 * 2 * 2 * 14, float(x.double().mean()), "real")
    assert results["up"].operations == operations_by_perturbation(custom.up, x)
    assert results["up"].macs == 4 * 2 * 7 * 3 * 4


def test_only_what_the_model_runs_is_counted():
    inner, outer = nn.Linear(3, 2), nn.Linear(3, 2)
    x = spikes(4, 3)
    with record_synaptic_operations(inner) as results:
        outer(x)
        _ = x @ x.mT
        inner(x).sum().backward()
    assert {name: count.macs for name, count in results.items()} == {"": 24}


def test_counting_does_not_change_results_and_removes_its_hooks():
    model = nn.Sequential(SpikingConv2d(2, 3), nn.Flatten(2), SpikingLinear(60, 6)).eval()
    x = (torch.rand(4, 2, 2, 5, 4) * 3).requires_grad_()
    expected = model(x)
    with record_synaptic_operations(model):
        outputs = model(x)
    assert torch.equal(outputs, expected)
    outputs.sum().backward()
    assert x.grad is not None
    with pytest.raises(ValueError, match="maps must be"), record_synaptic_operations(model):
        model(torch.zeros(2, 2))
    assert not any(module._forward_hooks for module in model.modules())
    assert not torch.nn.modules.module._global_forward_hooks
    assert not torch.nn.modules.module._global_forward_pre_hooks


def test_counting_keeps_batch_norm_and_neuron_fused(monkeypatch: pytest.MonkeyPatch):
    layer, single = SpikingLinear(3, 5).eval(), []
    monkeypatch.setattr(layer.norm, "forward", lambda x: single.append(x) or x)
    with record_synaptic_operations(layer):
        layer(spikes(4, 2, 6, 3))
    assert not single


def test_counts_are_the_same_in_inference_mode_and_mixed_precision():
    conv, x = nn.Conv2d(2, 3, 3, padding=1), spikes(2, 2, 5, 6)
    expected = count(conv, x)
    linear, tokens = nn.Linear(7, 5), spikes(4, 3, 7)
    with torch.inference_mode():
        assert count(conv, x) == expected
        assert count(linear, tokens).operations == int(tokens.sum()) * 5
    with torch.autocast("cpu", torch.bfloat16):
        assert count(conv, x) == expected
