"""IF, LIF and PLIF against SpikingJelly's nodes; learned time constants and thresholds."""

from collections.abc import Callable

import pytest
import torch
from spikingjelly.activation_based import functional, neuron
from spikingjelly.activation_based import surrogate as jelly_surrogate
from torch import nn

from present import present
from snn_core import IF, LIF, PLIF, LeakyNeuron


def both(theirs: nn.Module, ours: nn.Module, *, steps: int = 6) -> list[tuple[torch.Tensor, torch.Tensor]]:
    """Return spikes and gradient of x of both for equal currents; parameter gradients stay on the modules."""
    x = torch.randn(steps, 40, generator=torch.Generator().manual_seed(2)) + 1.2
    upstream = torch.randn(steps, 40, generator=torch.Generator().manual_seed(3))
    results: list[tuple[torch.Tensor, torch.Tensor]] = []
    for network in (theirs, ours):
        leaf = x.clone().requires_grad_()
        functional.reset_net(theirs)
        spikes = network(leaf)
        spikes.backward(upstream)
        results.append((spikes.detach(), present(leaf.grad)))
    return results


def assert_same(results: list[tuple[torch.Tensor, torch.Tensor]]) -> None:
    assert 0.05 < results[0][0].mean() < 0.95
    assert torch.equal(results[0][0], results[1][0])
    torch.testing.assert_close(results[1][1], results[0][1], rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("v_reset", [0.0, -0.5, None])
@pytest.mark.parametrize("detach_reset", [True, False])
def test_if_agrees_with_spikingjelly(v_reset: float | None, detach_reset: bool):
    sigmoid = jelly_surrogate.Sigmoid(4.0)
    theirs = neuron.IFNode(v_reset=v_reset, detach_reset=detach_reset, surrogate_function=sigmoid, step_mode="m")
    assert_same(both(theirs, IF(v_reset=v_reset, detach_reset=detach_reset)))


@pytest.mark.parametrize("v_reset", [0.0, -0.5, None])
@pytest.mark.parametrize("decay_input", [True, False])
@pytest.mark.parametrize("surrogate", ["sigmoid", "atan"])
@pytest.mark.parametrize("detach_reset", [True, False])
def test_lif_agrees_with_spikingjelly(v_reset: float | None, decay_input: bool, surrogate: str, detach_reset: bool):
    theirs = neuron.LIFNode(
        tau=2.0,
        decay_input=decay_input,
        v_reset=v_reset,
        surrogate_function=jelly_surrogate.Sigmoid(4.0) if surrogate == "sigmoid" else jelly_surrogate.ATan(4.0),
        detach_reset=detach_reset,
        step_mode="m",
    )
    ours = LIF(v_reset=v_reset, decay_input=decay_input, surrogate=surrogate, detach_reset=detach_reset)
    assert_same(both(theirs, ours))


@pytest.mark.parametrize("v_reset", [0.0, -0.5, None])
@pytest.mark.parametrize("decay_input", [True, False])
def test_plif_agrees_with_spikingjelly_including_its_parameter(v_reset: float | None, decay_input: bool):
    theirs = neuron.ParametricLIFNode(
        init_tau=1.8,
        decay_input=decay_input,
        v_reset=v_reset,
        detach_reset=True,
        surrogate_function=jelly_surrogate.Sigmoid(4.0),
        step_mode="m",
    )
    ours = PLIF(tau=1.8, decay_input=decay_input, v_reset=v_reset)
    assert_same(both(theirs, ours))
    torch.testing.assert_close(ours.w, theirs.w)
    torch.testing.assert_close(ours.w.grad, theirs.w.grad, rtol=1e-4, atol=1e-5)


def test_a_learned_threshold_equals_a_fixed_one_and_gets_its_gradient():
    x = torch.randn(6, 50) + 0.5
    fixed, learned = LIF(v_threshold=0.7), LIF(v_threshold=0.7, learn_threshold=True)
    assert torch.equal(fixed(x), learned(x))
    assert [name for name, _ in learned.named_parameters()] == ["log_v_threshold"]
    learned(x).sum().backward()
    # A higher threshold gives fewer spikes.
    assert present(present(learned.log_v_threshold).grad) < 0


def test_learning_a_threshold_and_a_time_constant_reaches_a_firing_rate():
    torch.manual_seed(0)
    layer, x = PLIF(tau=4.0, learn_threshold=True, v_threshold=2.0), torch.rand(10, 500) * 2
    optimizer = torch.optim.Adam(layer.parameters(), 0.05)
    for _ in range(80):
        optimizer.zero_grad()
        (layer(x).mean() - 0.3).square().backward()
        optimizer.step()
    assert layer(x).mean().item() == pytest.approx(0.3, abs=0.03)
    assert layer.tau > 1


@pytest.mark.parametrize("kind", [IF, LIF, PLIF])
def test_repr_shows_the_settings(kind: type[LeakyNeuron]):
    assert "v_threshold=0.5" in repr(kind(v_threshold=0.5))


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: PLIF(tau=1.0), "must start above 1 time step, but tau is 1.0"),
        (lambda: LIF(learn_threshold=True, v_threshold=0.0), "must start above 0, but v_threshold is 0.0"),
        (lambda: IF(surrogate="none"), "unknown surrogate 'none'"),
    ],
)
def test_invalid_arguments_raise(call: Callable[[], object], message: str):
    with pytest.raises(ValueError, match=message):
        call()


def test_misspelled_options_raise():
    with pytest.raises(TypeError, match="v_treshold"):
        LIF(v_treshold=0.5)  # pyright: ignore[reportCallIssue]
