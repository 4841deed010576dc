"""Operations of neurons that are defined by one time step: equal to LIF, differentiable, compiled and exported."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import pytest
import torch
from torch import Tensor, nn

from present import present
from snn_core import LIF, Neuron, decompositions, lif
from snn_core.ops.common.call import NeuronCall
from snn_core.ops.common.stepwise import Spike, stepwise_operation


class Constants(NamedTuple):
    decay: float
    gain: float
    threshold: float


def step(
    current: Tensor, states: Sequence[Tensor], c: Any, call: NeuronCall, spike: Spike
) -> tuple[Tensor, tuple[Tensor, ...]]:
    v = states[0].detach() if call.detach_membrane else states[0]
    h = c.decay * v + c.gain * current
    s = spike(h - c.threshold)
    fired = s.detach() if call.detach_reset else s
    return s, (h - fired * c.threshold if call.soft_reset else (1 - fired) * h,)


OPERATION = stepwise_operation("test_stepwise", constants=Constants, states=("v",), step=step)


class Stepwise(Neuron):
    """LIF with tau 2, defined by its time step."""

    def forward(
        self, x: Tensor, *, v_init: Tensor | None = None, lengths: Tensor | None = None, return_v: bool = False
    ) -> Any:
        constants = (0.5, 0.5, self.v_threshold)
        spikes, v = OPERATION(x, (v_init,), constants, self.call_options(), v_reset=self.v_reset, lengths=lengths)
        return (spikes, v) if return_v else spikes


def gradients(function: Any, lengths: Tensor | None, **options: Any) -> list[Tensor]:
    """Return spikes, last potential and the gradients of x, v_init and the threshold."""
    generator = torch.Generator().manual_seed(0)
    x = (torch.randn(6, 3, 50, generator=generator) + 0.5).requires_grad_()  # T=6 B=3 N=50
    v_init = (torch.randn(3, 50, generator=generator) * 0.3).requires_grad_()
    threshold = torch.tensor(0.8, requires_grad=True)
    outputs = function(x, v_init, threshold, lengths, options)
    upstream = [torch.randn(y.shape, generator=generator) for y in outputs]
    torch.autograd.backward(outputs, upstream)
    grads = [torch.zeros_like(leaf) if leaf.grad is None else leaf.grad for leaf in (x, v_init, threshold)]
    return [y.detach() for y in outputs] + grads


@pytest.mark.parametrize("v_reset", [0.0, -0.5, None])
@pytest.mark.parametrize("detach_reset", [True, False])
@pytest.mark.parametrize("detach_membrane", [True, False])
@pytest.mark.parametrize("lengths", [None, torch.tensor([6, 0, 4])], ids=["equal lengths", "lengths"])
def test_a_step_gives_the_results_of_lif(
    lengths: Tensor | None, detach_membrane: bool, detach_reset: bool, v_reset: float | None
):
    def stepwise(
        x: Tensor, v_init: Tensor, threshold: Tensor, lengths: Tensor | None, options: dict[str, Any]
    ) -> tuple[Tensor, ...]:
        call = NeuronCall(v_reset is None, detach_reset, detach_membrane, "atan", 3.0)
        return OPERATION(x, (v_init,), (0.5, 0.5, threshold), call, v_reset=v_reset, lengths=lengths)

    def builtin(
        x: Tensor, v_init: Tensor, threshold: Tensor, lengths: Tensor | None, options: dict[str, Any]
    ) -> tuple[Tensor, ...]:
        return lif(x, v_init=v_init, v_threshold=threshold, lengths=lengths, implementation="torch", **options)

    options: dict[str, Any] = {"v_reset": v_reset, "detach_reset": detach_reset, "detach_membrane": detach_membrane}
    expected = gradients(builtin, lengths, **options, surrogate="atan", slope=3.0)
    actual = gradients(stepwise, lengths)
    assert torch.equal(actual[0], expected[0])
    for a, b in zip(actual[1:], expected[1:], strict=True):
        torch.testing.assert_close(a, b, rtol=1e-5, atol=1e-5)


def test_a_step_is_compiled_and_exported_as_one_operation():
    neuron, x = Stepwise(learn_threshold=True), torch.randn(5, 3, 7) + 0.5
    results = []
    for function in (neuron, torch.compile(neuron, fullgraph=True, backend="aot_eager")):
        neuron.zero_grad()
        leaf = x.clone().requires_grad_()
        spikes = function(leaf)
        spikes.square().sum().backward()
        results.append([spikes.detach(), leaf.grad, present(neuron.log_v_threshold).grad])
    for a, b in zip(*results, strict=True):
        torch.testing.assert_close(a, b)
    with torch.no_grad():
        program = torch.export.export(nn.Sequential(neuron), (x,))
        assert "snn_core.test_stepwise_forward.default" in {str(node.target) for node in program.graph.nodes}
        decomposed = program.run_decompositions(decompositions())
        assert not any("snn_core" in str(node.target) for node in decomposed.graph.nodes)
        assert torch.equal(decomposed.module()(x), LIF()(x))


@pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor that is not a leaf")  # caused by opcheck
def test_the_operations_of_a_step_pass_opcheck():
    constants = torch.tensor([0.5, 0.5, 1.0], dtype=torch.float64, requires_grad=True)
    x, v = torch.randn(3, 4, 5, requires_grad=True), torch.zeros(4, 5)
    options = (x, v, constants, None, False, True, False, "atan", 2.0, "auto")
    torch.library.opcheck(torch.ops.snn_core.test_stepwise.default, options)


def test_an_implementation_that_a_step_does_not_have_raises():
    with pytest.raises(ValueError, match="this neuron has no native kernels; use implementation='torch'"):
        Stepwise(implementation="native")(torch.zeros(2, 3))
