"""Spiking layers: a static input costs one step and changes nothing else; drives can be scaled and shifted."""

import pytest
import torch

from snn_core import LIF, ScaledSpike, SpikingConv2d, SpikingLayer, SpikingLinear, SpikingMLP


@pytest.mark.parametrize("training", [True, False])
def test_a_static_input_equals_its_repetition(training: bool):
    once, repeated = (SpikingConv2d(2, 5).double().train(training) for _ in range(2))
    repeated.load_state_dict(once.state_dict())
    x = torch.randn(3, 2, 6, 7, dtype=torch.float64)  # B=3 C=2 H=6 W=7
    upstream = torch.randn(4, 3, 5, 6, 7, dtype=torch.float64)
    a, b = x.clone().requires_grad_(), x.clone().requires_grad_()
    for _ in range(2):  # twice, so that running statistics matter
        out_a, out_b = once(a, time_steps=4), repeated(b.expand(4, -1, -1, -1, -1))
        assert torch.equal(out_a, out_b)
        (out_a * upstream).sum().backward()
        (out_b * upstream).sum().backward()
    torch.testing.assert_close(a.grad, b.grad, rtol=1e-10, atol=1e-12)
    for (name, p), q in zip(once.named_parameters(), repeated.parameters(), strict=True):
        torch.testing.assert_close(p.grad, q.grad, rtol=1e-9, atol=1e-10, msg=lambda text, n=name: f"{n}: {text}")
    for name, statistic in once.state_dict().items():
        torch.testing.assert_close(statistic, repeated.state_dict()[name], rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize(
    ("layer", "shape"),
    [
        (SpikingLinear(6, 9), (4, 2, 5, 6)),
        (SpikingLinear(6, 9, bias=True, norm=False), (4, 2, 5, 6)),
        (SpikingConv2d(6, 9), (4, 2, 6, 5, 3)),
        (ScaledSpike(0.25), (4, 2, 5, 6)),
    ],
    ids=["linear-norm", "linear-bias", "conv", "scale"],
)
def test_adjust_drive_scales_and_shifts_what_the_neuron_receives(layer: SpikingLayer, shape: tuple[int, ...]):
    received: list[torch.Tensor] = []
    layer.neuron.register_forward_pre_hook(lambda _module, args: received.append(args[0].detach().clone()))
    x = torch.randn(shape)
    layer(x)
    offset = 0.0 if isinstance(layer, ScaledSpike) else -0.75
    layer.adjust_drive(3.0, offset)
    layer(x)
    torch.testing.assert_close(received[1], 3 * received[0] + offset, rtol=1e-4, atol=1e-5)


def test_linear_normalises_channels_over_everything_else():
    layer = SpikingLinear(3, 4).train()
    seen: list[torch.Tensor] = []
    layer.neuron.register_forward_pre_hook(lambda _module, args: seen.append(args[0]))
    layer(torch.randn(2, 50, 30, 3))
    torch.testing.assert_close(seen[0].mean((0, 1, 2)), torch.zeros(4), atol=1e-5, rtol=0)
    torch.testing.assert_close(seen[0].var((0, 1, 2)), torch.ones(4), atol=1e-2, rtol=0)


def test_the_mlp_widens_and_narrows():
    mlp = SpikingMLP(6, expansion=3, neuron=lambda: LIF(tau=1.5))
    assert mlp.expand.linear.out_features == 18
    out = mlp(torch.rand(2, 3, 4, 6))
    assert out.shape == (2, 3, 4, 6)
    assert set(out.unique().tolist()) <= {0.0, 1.0}


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: SpikingConv2d(2, 3)(torch.zeros(1, 2, 4, 4)), "time_steps is not given"),
        (lambda: SpikingConv2d(2, 3)(torch.zeros(2, 4, 4), time_steps=2), r"the shape is \(2, 4, 4\)"),
        (lambda: ScaledSpike(1.0).adjust_drive(1.0, 0.5), "offset is 0.5"),
        (lambda: SpikingLinear(2, 3, norm=False), "needs norm or bias"),
    ],
)
def test_mistakes_are_named(call, message: str):
    with pytest.raises(ValueError, match=message):
        call()
