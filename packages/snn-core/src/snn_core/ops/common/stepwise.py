"""Operations of neurons that are defined by one time step in PyTorch: slow, but no kernels are needed."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from snn_core.ops.common.call import NeuronCall
from snn_core.ops.common.implementation import Kernels
from snn_core.ops.common.operation import NeuronOperation, at_rest
from snn_core.ops.common.spike import spike
from snn_core.surrogate import surrogate_gradient

Spike = Callable[[Tensor], Tensor]
"""Distances to threshold [...] -> spikes [...]."""
Step = Callable[[Tensor, Sequence[Tensor], Any, NeuronCall, Spike], tuple[Tensor, tuple[Tensor, ...]]]
"""`(current, states, constants, call, spike) -> (spikes, states after the step)`, all [...] in the dtype of the states.

It applies `call.soft_reset`, `call.detach_reset` and `call.detach_membrane`; potentials are relative to rest.
"""


def stepwise_operation(name: str, *, constants: type[Any], states: tuple[str, ...], step: Step) -> NeuronOperation:
    """Register the operation of a neuron with this time step; for the arguments see `NeuronOperation`."""
    kernels = StepKernels(step, states=len(states))
    return NeuronOperation(
        name,
        constants=constants,
        states=states,
        kernels=Kernels(torch=kernels),
        decomposition=kernels.decompose,
        save="x",
    )


class StepKernels:
    """`forward` and `backward` of a step: the backward runs the forward again under autograd (save `x`)."""

    def __init__(self, step: Step, *, states: int) -> None:
        self.step = step
        self.states = states

    def forward(self, x: Tensor, *arguments: Any, lengths: Tensor | None) -> None:
        """Write spikes and last states; see `NeuronOperation`."""
        n = self.states
        constants, call, spikes, _, *last_states = arguments[n:]
        tensors = [torch.tensor(value, dtype=torch.float64) for value in constants]
        with torch.no_grad():
            results = self._run(x, _from_rest(x, arguments[:n]), type(constants)(*tensors), call, lengths)
        for target, result in zip((spikes, *last_states), results, strict=True):
            if target is not None:
                target.copy_(result)

    def backward(self, *arguments: Any, lengths: Tensor | None) -> None:
        """Write gradients; see `NeuronOperation`."""
        n = self.states
        grads, saved, states = arguments[: n + 1], arguments[n + 1], arguments[n + 2 : 2 * n + 2]
        constants, call, *targets, grad_constants = arguments[2 * n + 2 :]
        leaves = [tensor.detach().requires_grad_() for tensor in (saved, *_from_rest(saved, states))]
        learned = [torch.tensor(value, dtype=torch.float64, requires_grad=True) for value in constants]
        with torch.enable_grad():
            results = self._run(leaves[0], leaves[1:], type(constants)(*learned), call, lengths)
            # A detached membrane may leave outputs that depend on nothing: add a dependence of 0.
            link = sum(leaf.sum() for leaf in (*leaves, *learned)) * 0.0
            outputs = [result + link for result in results]
        pairs = [(y, g.to(y.dtype)) for y, g in zip(outputs, grads, strict=True) if g is not None]
        gradients = torch.autograd.grad([y for y, _ in pairs], [*leaves, *learned], [g for _, g in pairs])
        for target, gradient in zip(targets, gradients, strict=False):
            if target is not None:
                target.copy_(gradient)
        if grad_constants is not None:
            grad_constants += torch.stack(gradients[n + 1 :]).to(grad_constants.device)

    def decompose(self, x: Tensor, *arguments: Any) -> tuple[Tensor, ...]:
        """Return spikes and last states without a gradient."""
        n = self.states
        constants, call = arguments[n:]
        return self._run(x, arguments[:n], constants, call, None, lambda d: (d >= 0).to(d.dtype))

    def _run(
        self,
        x: Tensor,
        states: Sequence[Tensor],
        constants: Any,
        call: NeuronCall,
        lengths: Tensor | None,
        fire: Spike | None = None,
    ) -> tuple[Tensor, ...]:
        surrogate = surrogate_gradient(call.surrogate)
        fire = fire or (lambda d: spike(d, surrogate, call.slope))
        outputs = list[Tensor]()
        for t, current in enumerate(x.unbind(0)):
            fired, after = self.step(current.to(states[0].dtype), states, constants, call, fire)
            if lengths is not None:
                # After its last step a sample has no spikes and keeps its state.
                running = (lengths > t).view(-1, *[1] * (fired.dim() - 1))
                fired = torch.where(running, fired, 0.0)
                after = tuple(torch.where(running, new, old) for new, old in zip(after, states, strict=True))
            outputs.append(fired.to(x.dtype))
            states = after
        return torch.stack(outputs), *states


def _from_rest(x: Tensor, states: Sequence[Tensor | None]) -> list[Tensor]:
    return [at_rest(x) if state is None else state for state in states]
