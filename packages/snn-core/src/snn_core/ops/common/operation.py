"""A neuron as an operation of PyTorch: differentiable, one node for torch.compile and torch.export.

`NeuronOperation("lif", ...)` registers three operations: `snn_core::lif` saves what the backward needs,
`snn_core::lif_forward` saves nothing, `snn_core::lif_backward` computes the gradients. Constants are one tensor, so
that they can be learned. The implementation is chosen inside, where the real tensors are.
"""

# PyTorch leaves the types of its registration and autograd functions open.
# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false
from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from snn_core.ops.common.arguments import (
    check_call,
    check_differentiation,
    check_finite,
    check_lengths,
    check_threshold,
    stack_constants,
    state_dtype,
)
from snn_core.ops.common.call import NeuronCall, Save
from snn_core.ops.common.implementation import Kernels, choose, load_kernels
from snn_core.ops.common.memory import empty, empty_like
from snn_core.ops.common.registration import register

Constants = tuple[float | Tensor, ...]
Decomposition = Callable[..., tuple[Tensor, ...]]
"""`(x, *states, constants, call) -> (spikes, *last states)` in operations of PyTorch alone."""

_OPTION_TYPES = {
    "soft_reset": "bool",
    "detach_reset": "bool",
    "detach_membrane": "bool",
    "surrogate": "str",
    "slope": "float",
    "save": "str",
    "implementation": "str",
}


def option_schema(*, save: bool) -> tuple[tuple[str, ...], str]:
    """Return names of the options in a schema, and their part of the schema; `save` may be fixed by the operation."""
    names = tuple(name for name in NeuronCall._fields if save or name != "save")
    return names, ", ".join(f"{_OPTION_TYPES[name]} {name}" for name in names)


class NeuronOperation:
    """The dynamics of a neuron: constants, states, kernels and decomposition, registered under a name.

    Args:
        name: of the registered operation.
        constants: named tuple of the constants, `threshold` among them. Potentials are relative to the resting
            potential, which is v_reset, or 0 with a soft reset.
        states: names of the states, the membrane potential first; each has the shape of a time step.
        kernels: the implementations. `forward(x, *states, constants, call, spikes, saved, *last_states, *, lengths)`
            writes its last arguments;
            `backward(grad_spikes, *grad_last_states, saved, *states, constants, call, grad_x, *grad_states,
            grad_constants, *, lengths)` writes gradients and adds to those of the constants. Arrays have the shape of x
            or of a time step. A state that is None is at rest (0); of the arrays to write, all but spikes and grad_x
            may be None, and are then not needed.
        decomposition: the equations in operations of PyTorch alone, for exporters.
        save: the only `save` that the kernels support; None if they support all.
    """

    def __init__(
        self,
        name: str,
        *,
        constants: type[Any],
        states: tuple[str, ...],
        kernels: Kernels,
        decomposition: Decomposition,
        save: Save | None = None,
    ) -> None:
        self.name = name
        self.constants = constants
        self.states = states
        self.kernels = kernels
        self.decomposition = decomposition
        self.save: Save | None = save
        self._threshold: int = constants._fields.index("threshold")
        # Every step of a training has the same constants and options.
        self.read_constants = lru_cache(maxsize=1024)(self._read_constants)
        self.prepare = lru_cache(maxsize=1024, typed=True)(self._prepare)
        self.options, option_types = option_schema(save=save is None)
        self._register(option_types)

    def __call__(
        self,
        x: Tensor,
        states: Sequence[Tensor | None],
        constants: Constants,
        call: NeuronCall,
        *,
        v_reset: float | None,
        lengths: Tensor | None,
        return_states: bool = True,
    ) -> tuple[Tensor, ...]:
        """Check the arguments and run the neurons over a sequence.

        Args:
            x: currents [T, ...].
            states: states before the first step [...]; None means at rest.
            constants: in the order of `constants`; the threshold is absolute.
            call: the options.
            v_reset: potential after a spike, None for a soft reset.
            lengths: number of steps of each sample [B].
            return_states: whether to return the last states.

        Returns:
            spikes [T, ...] in the dtype of x and the last states [...] in float32 (float64 if x is).

        Raises:
            ValueError: an argument is wrong; says what to do.
        """
        shape = x.shape
        if not shape or shape[0] == 0:
            raise ValueError(f"x needs at least one time step in its first axis, but its shape is {tuple(shape)}")
        learned = any(isinstance(value, Tensor) for value in constants)
        # A compiler does not trace through a cache.
        cached = not (learned or callable(call.surrogate) or torch.compiler.is_compiling())
        constants, call = (self.prepare if cached else self._prepare)(constants, call, v_reset)
        if call.implementation != "auto":
            choose(self.kernels, x, call.surrogate, call.implementation)
        if lengths is not None:
            lengths = check_lengths(lengths, x)
        rest = v_reset or 0.0
        initial = list(states)
        for index, state in enumerate(states):
            if state is None:
                continue
            if state.shape != shape[1:]:
                raise ValueError(
                    f"{self.states[index]}_init has shape {tuple(state.shape)}, but one time step of x has "
                    f"{tuple(shape[1:])}"
                )
            state = state.to(state_dtype(x))
            initial[index] = state - rest if rest and index == 0 else state
        stacked = stack_constants(*constants) if learned else None
        spikes, *last_states = self._apply(x, initial, constants, stacked, call, lengths, return_states=return_states)
        if not return_states:
            return (spikes,)
        if rest:
            last_states[0] = last_states[0] + rest
        return spikes, *last_states

    def _prepare(self, constants: Constants, call: NeuronCall, v_reset: float | None) -> tuple[Constants, NeuronCall]:
        """Check the options; return the constants relative to the resting potential, and the call with its `save`."""
        check_call(call, learned=any(isinstance(c, Tensor) and c.requires_grad for c in constants))
        index = self._threshold
        check_threshold(constants[index], v_reset, call.slope)
        if self.save is not None:
            call = call._replace(save=self.save)
        if v_reset:
            constants = (*constants[:index], constants[index] - v_reset, *constants[index + 1 :])
        return constants, call

    def _apply(
        self,
        x: Tensor,
        states: Sequence[Tensor | None],
        constants: Constants,
        learned: Tensor | None,
        call: NeuronCall,
        lengths: Tensor | None,
        *,
        return_states: bool,
    ) -> tuple[Tensor, ...]:
        differentiable = torch.is_grad_enabled() and (
            x.requires_grad
            or any(state is not None and state.requires_grad for state in states)
            or (learned is not None and learned.requires_grad)
        )
        if is_traced(x) and not callable(call.surrogate):
            # While tracing (torch.compile, torch.export), emit a single operation.
            stacked = stack_constants(*constants) if learned is None else learned
            tensors = [at_rest(x) if state is None else state for state in states]
            options = [value for name, value in zip(NeuronCall._fields, call, strict=True) if name in self.options]
            if differentiable:
                outputs = getattr(torch.ops.snn_core, self.name)(x, *tensors, stacked, lengths, *options)
                return outputs[:-1]
            return getattr(torch.ops.snn_core, f"{self.name}_forward")(x, *tensors, stacked, lengths, *options)
        check_differentiation(x)
        values = self.read_constants(*(constants if learned is None else learned.tolist()))
        if differentiable:
            # Not through PyTorch's dispatcher and its wrappers in Python, which cost more than a small layer.
            return _Eager.apply(self, values, call, lengths, return_states, learned, x, *states)  # pyright: ignore[reportReturnType]
        spikes, _, *last_states = self.forward(
            x, states, values, call, lengths, save=False, return_states=return_states
        )
        return spikes, *last_states

    def _read_constants(self, *values: float) -> Any:
        """Return the named tuple of constants after checking that they are finite."""
        check_finite(self.constants._fields, values)
        return self.constants(*values)

    def forward(
        self,
        x: Tensor,
        states: Sequence[Tensor | None],
        constants: Any,
        call: NeuronCall,
        lengths: Tensor | None,
        *,
        save: bool,
        return_states: bool = True,
        **extra: Any,
    ) -> tuple[Any, ...]:
        """Run the kernels: spikes, the saved tensor (None if there is nothing to save) and the last states, if wanted.

        `extra` goes to the kernels.
        """
        spikes = empty_like(x)
        saved = empty_like(x, _saved_dtype(call.save, x)) if save and call.save != "x" else None
        last_states = list[Tensor | None]([None] * len(states))
        if return_states:
            dtype = state_dtype(x)
            last_states = [empty(x.shape[1:], dtype=dtype, device=x.device) for _ in states]
        kernels = load_kernels(self.kernels, x, call.surrogate, call.implementation)
        kernels.forward(x, *states, constants, call, spikes, saved, *last_states, lengths=lengths, **extra)
        return (spikes, saved, *last_states) if return_states else (spikes, saved)

    def backward(
        self,
        grads: Sequence[Tensor | None],
        saved: Tensor,
        states: Sequence[Tensor | None],
        constants: Any,
        call: NeuronCall,
        lengths: Tensor | None,
        *,
        x_dtype: torch.dtype,
        states_needed: Sequence[bool],
        learned: bool,
        **extra: Any,
    ) -> tuple[Any, ...]:
        """Run the kernels: gradients of the currents, of the states and of the constants, in this order.

        Those of states and constants that are not needed are None. `grads` are the gradients of spikes and last states.
        `saved` is x with save `x`.
        """
        grad_x = empty_like(saved, x_dtype)
        dtype = state_dtype(grad_x)
        grad_states = [
            empty(saved.shape[1:], dtype=dtype, device=saved.device) if needed else None for needed in states_needed
        ]
        grad_constants = torch.zeros(len(constants), dtype=torch.float64, device=saved.device) if learned else None
        kernels = load_kernels(self.kernels, grad_x, call.surrogate, call.implementation)
        kernels.backward(
            *grads, saved, *states, constants, call, grad_x, *grad_states, grad_constants, lengths=lengths, **extra
        )
        return grad_x, *grad_states, None if grad_constants is None else grad_constants.cpu()

    def parse_options(self, options: Sequence[Any]) -> NeuronCall:
        """Return the call of flat options in the order of the schema."""
        values = dict(zip(self.options, options, strict=True))
        return NeuronCall(**values) if self.save is None else NeuronCall(**values, save=self.save)

    def _register(self, option_types: str) -> None:
        n = len(self.states)
        states = ", ".join(f"Tensor {name}_init" for name in self.states)
        grads = ", ".join(f"Tensor? grad_{name}_last" for name in self.states)
        common = f"Tensor constants, Tensor? lengths, {option_types}"

        def parse(arguments: Sequence[Any]) -> tuple[Sequence[Tensor], Tensor, Tensor | None, NeuronCall]:
            """Split states, constants, lengths and options."""
            return arguments[:n], arguments[n], arguments[n + 1], self.parse_options(arguments[n + 2 :])

        def run(x: Tensor, *arguments: Any) -> tuple[Tensor, ...]:
            states, constants, lengths, call = parse(arguments)
            values = self.read_constants(*constants.tolist())
            spikes, saved, *last_states = self.forward(x, states, values, call, lengths, save=True)
            return spikes, *last_states, x.new_empty(0) if saved is None else saved

        def run_inference(x: Tensor, *arguments: Any) -> tuple[Tensor, ...]:
            states, constants, lengths, call = parse(arguments)
            values = self.read_constants(*constants.tolist())
            spikes, _, *last_states = self.forward(x, states, values, call, lengths, save=False)
            return spikes, *last_states

        def run_backward(*arguments: Any) -> tuple[Tensor, ...]:
            grads, saved, (*rest, x_dtype, learned) = arguments[: n + 1], arguments[n + 1], arguments[n + 2 :]
            states, constants, lengths, call = parse(rest)
            values = self.read_constants(*constants.tolist())
            # The results of an operation are tensors, whether they are needed or not.
            *results, grad_constants = self.backward(
                grads, saved, states, values, call, lengths, x_dtype=x_dtype, states_needed=[True] * n, learned=learned
            )
            return *results, constants.new_zeros(len(values)) if grad_constants is None else grad_constants

        def fake(x: Tensor, *arguments: Any) -> tuple[Tensor, ...]:
            _, _, _, call = parse(arguments)
            shape = (0,) if call.save == "x" else x.shape
            saved = x.new_empty(shape, dtype=_saved_dtype(call.save, x))
            return *fake_inference(x, *arguments), saved

        def fake_inference(x: Tensor, *arguments: Any) -> tuple[Tensor, ...]:
            return x.new_empty(x.shape), *(state.new_empty(state.shape) for state in arguments[:n])

        def fake_backward(*arguments: Any) -> tuple[Tensor, ...]:
            saved, *states = arguments[n + 1 : 2 * n + 2]
            grad_states = (state.new_empty(state.shape) for state in states)
            grad_constants = arguments[2 * n + 2].new_empty(len(self.constants._fields))
            return saved.new_empty(saved.shape, dtype=arguments[-2]), *grad_states, grad_constants

        def save_for_backward(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
            x, *tensors = inputs[: n + 3]
            ctx.options, ctx.x_dtype = inputs[n + 3 :], x.dtype
            saves_x = self.parse_options(ctx.options).save == "x"
            ctx.save_for_backward(x if saves_x else output[-1], *tensors)
            ctx.set_materialize_grads(False)

        def gradient(ctx: Any, *grads: Any) -> tuple[Any, ...]:
            needed = ctx.needs_input_grad[: n + 2]
            backward = getattr(torch.ops.snn_core, f"{self.name}_backward")
            results = backward(*grads[:-1], *ctx.saved_tensors, *ctx.options, ctx.x_dtype, needed[-1])
            selected = [grad if need else None for grad, need in zip(results, needed, strict=True)]
            return *selected, *[None] * (1 + len(ctx.options))

        def decompose(x: Tensor, *arguments: Any) -> tuple[Tensor, ...]:
            states, constants, lengths, call = parse(arguments)
            assert lengths is None, "samples of different lengths cannot be exported"
            values = self.constants(*constants.to(states[0].dtype).unbind(0))
            return self.decomposition(x, *states, values, call)

        results = ", ".join(["Tensor"] * (n + 1))
        register(
            f"{self.name}_backward(Tensor? grad_spikes, {grads}, Tensor saved, {states}, {common}, "
            f"ScalarType x_dtype, bool learned) -> ({results}, Tensor)",
            run_backward,
            fake_backward,
        )
        register(
            f"{self.name}_forward(Tensor x, {states}, {common}) -> ({results})",
            run_inference,
            fake_inference,
            decomposition=decompose,
        )
        register(
            f"{self.name}(Tensor x, {states}, {common}) -> ({results}, Tensor)",
            run,
            fake,
            gradient=gradient,
            save_for_backward=save_for_backward,
        )


def is_traced(x: Tensor) -> bool:
    """Return whether a compiler or a tensor subclass traces this call."""
    return torch.compiler.is_compiling() or type(x) not in (Tensor, torch.nn.Parameter)


def at_rest(x: Tensor) -> Tensor:
    """Return a state [...] of currents x [T, ...] at rest: one expanded zero, which takes no memory."""
    return x.new_zeros((), dtype=state_dtype(x)).expand(x.shape[1:])


def _saved_dtype(save: Save, x: Tensor) -> torch.dtype:
    return {"d32": state_dtype(x), "d16": torch.float16, "u8": torch.uint8, "x": x.dtype}[save]


class _Eager(torch.autograd.Function):
    """The registered operation without the dispatcher; also supports custom surrogates."""

    @staticmethod
    def forward(
        ctx: Any,
        operation: NeuronOperation,
        constants: Any,
        call: NeuronCall,
        lengths: Tensor | None,
        return_states: bool,
        _learned: Tensor | None,
        x: Tensor,
        *states: Tensor | None,
    ) -> tuple[Tensor, ...]:
        spikes, saved, *last_states = operation.forward(
            x, states, constants, call, lengths, save=True, return_states=return_states
        )
        ctx.arguments, ctx.x_dtype = (operation, constants, call), x.dtype
        ctx.save_for_backward(x if saved is None else saved, lengths, *states)
        ctx.set_materialize_grads(False)
        return spikes, *last_states

    @staticmethod
    def backward(ctx: Any, *grads: Any) -> tuple[Any, ...]:  # pyright: ignore[reportIncompatibleMethodOverride]
        # Gradients are enabled with create_graph=True only; the wrapper costs as much as a small layer.
        return (_backward_once if torch.is_grad_enabled() else _backward)(ctx, *grads)


def _backward(ctx: Any, *grads: Any) -> tuple[Any, ...]:
    saved, lengths, *states = ctx.saved_tensors
    operation, constants, call = ctx.arguments
    *_, learned, x_needed = ctx.needs_input_grad[:7]
    states_needed = ctx.needs_input_grad[7:]
    if len(grads) == 1:
        grads = (*grads, *[None] * len(states))
    grad_x, *grad_states, grad_constants = operation.backward(
        grads,
        saved,
        states,
        constants,
        call,
        lengths,
        x_dtype=ctx.x_dtype,
        states_needed=states_needed,
        learned=learned,
    )
    return None, None, None, None, None, grad_constants, grad_x if x_needed else None, *grad_states


_backward_once = once_differentiable(_backward)
