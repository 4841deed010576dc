"""Batch norm and neuron as one operation of PyTorch: forward, backward and registration.

The backward saves only the input: statistics and constants give the drive and the potentials again. The drive is never
stored as a tensor, because the neuron scales and shifts its input.
"""

# PyTorch leaves the types of its registration and autograd functions open.
# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false
from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from snn_core.ops.common.arguments import check_differentiation, stack_constants
from snn_core.ops.common.call import Affine, NeuronCall
from snn_core.ops.common.memory import empty
from snn_core.ops.common.operation import Constants, is_traced, option_schema
from snn_core.ops.common.registration import register
from snn_core.ops.lif import LIF_OPERATION
from snn_core.ops.lif.constants import LIFConstants
from snn_core.ops.norm_lif.batch_norm import gradients, moments
from snn_core.ops.norm_lif.decomposition import decompose_norm_lif
from snn_core.ops.norm_lif.settings import Layout, Statistics

GRADIENT_ELEMENTS = 1 << 22
"""Elements of the drive's gradient that are held at once before they are summed over the steps of a static input."""


class _Saved(NamedTuple):
    """All tensors that the backward needs; mean and variance are those that were used."""

    x: Tensor
    v_init: Tensor | None
    lengths: Tensor | None
    weight: Tensor
    bias: Tensor
    mean: Tensor
    var: Tensor


def apply(
    x: Tensor,
    v_init: Tensor | None,
    constants: Constants,
    lengths: Tensor | None,
    weight: Tensor,
    bias: Tensor,
    statistics: Statistics | None,
    layout: Layout,
    call: NeuronCall,
    *,
    return_v: bool,
) -> tuple[Tensor, Tensor | None, Tensor, Tensor]:
    """Input x -> spikes [T, ...], the last potential [...], and the mean and biased variance [C] that were used.

    x is contiguous, [T, ...] or, if it is static, [...]; potentials are relative to rest; weight and bias have the
    dtype of the arithmetic. `statistics` replace those of the batch. The `save` of the call is `x`. The potential may
    be None without `return_v`.
    """
    learned = stack_constants(*constants) if any(isinstance(value, Tensor) for value in constants) else None
    if is_traced(x) and not callable(call.surrogate):
        stacked = stack_constants(*constants) if learned is None else learned
        options = [value for name, value in zip(NeuronCall._fields, call, strict=True) if name in _OPTIONS]
        if v_init is None:
            v_init = x.new_zeros((), dtype=weight.dtype).expand(x.shape if layout.repeats else x.shape[1:])
        spikes, v_last, mean, var = torch.ops.snn_core.norm_lif(
            x, v_init, stacked, lengths, weight, bias, *(statistics or (None, None)), *layout, *options
        )
        if statistics is not None:
            mean, var = statistics
        return spikes, v_last, mean, var
    check_differentiation(x)
    values = LIF_OPERATION.read_constants(*(constants if learned is None else learned.tolist()))
    # Not through PyTorch's dispatcher, which costs more than a small layer.
    return _Eager.apply(x, v_init, learned, lengths, weight, bias, statistics, layout, values, call, return_v)  # pyright: ignore[reportReturnType]


def _rows(x: Tensor, channels: int, inner: int) -> Tensor:
    return x.view(-1, channels, inner)


def _native_norm(call: NeuronCall) -> bool:
    """Return whether batch norm may run in C: it follows the implementation of the neuron."""
    return call.implementation in ("auto", "native") and not callable(call.surrogate)


def _affine(saved: _Saved, layout: Layout) -> Affine:
    scale = saved.weight * torch.rsqrt(saved.var + layout.eps)
    return scale, torch.addcmul(saved.bias, saved.mean, scale, value=-1), layout.inner


def _forward(
    x: Tensor,
    v_init: Tensor | None,
    lengths: Tensor | None,
    weight: Tensor,
    bias: Tensor,
    statistics: Statistics | None,
    layout: Layout,
    constants: LIFConstants,
    call: NeuronCall,
    *,
    return_v: bool,
) -> tuple[Tensor, Tensor | None, _Saved]:
    rows = _rows(x, len(weight), layout.inner)
    mean, var = statistics or moments(rows, layout.eps, native=_native_norm(call))
    saved = _Saved(x, v_init, lengths, weight, bias, mean, var)
    currents = x.expand(layout.repeats, *x.shape) if layout.repeats else x
    spikes, _, *v_last = LIF_OPERATION.forward(
        currents,
        (v_init,),
        constants,
        call,
        lengths,
        save=False,
        return_states=return_v,
        affine=_affine(saved, layout),
    )
    return spikes, v_last[0] if return_v else None, saved


def _backward(
    grad_spikes: Tensor | None,
    grad_v_last: Tensor | None,
    saved: _Saved,
    layout: Layout,
    constants: LIFConstants,
    call: NeuronCall,
    *,
    of_batch: bool,
    v_needed: bool,
    learned: bool,
) -> tuple[Tensor, Tensor | None, Tensor | None, Tensor, Tensor]:
    """Return gradients of x, v_init, the constants, weight and bias; `of_batch`: the statistics are those of x."""
    x, affine = saved.x, _affine(saved, layout)

    def through_neuron(samples: slice, currents: Tensor) -> tuple[Any, ...]:
        grads = (
            None if grad_spikes is None else grad_spikes[:, samples],
            None if grad_v_last is None else grad_v_last[samples],
        )
        lengths = None if saved.lengths is None else saved.lengths[samples]
        states = (None if saved.v_init is None else saved.v_init[samples],)
        return LIF_OPERATION.backward(
            grads,
            currents,
            states,
            constants,
            call,
            lengths,
            x_dtype=x.dtype,
            states_needed=[v_needed],
            learned=learned,
            affine=affine,
        )

    if not layout.repeats:
        grad_drive, grad_v, grad_constants = through_neuron(slice(None), x)
    else:
        # One current drives all steps: its gradient is their sum, computed for a few samples at a time.
        grad_drive = empty(x.shape, dtype=x.dtype, device=x.device)
        grad_v = empty(x.shape, dtype=saved.weight.dtype, device=x.device) if v_needed else None
        grad_constants = torch.zeros(len(constants), dtype=torch.float64) if learned else None
        size = max(1, GRADIENT_ELEMENTS * len(x) // (layout.repeats * x.numel()))
        for start in range(0, len(x), size):
            samples = slice(start, start + size)
            currents = x[samples].expand(layout.repeats, *x[samples].shape)
            of_steps, of_v, of_constants = through_neuron(samples, currents)
            torch.sum(of_steps, 0, out=grad_drive[samples])
            if grad_v is not None:
                grad_v[samples] = of_v
            if grad_constants is not None:
                grad_constants += of_constants
    channels = len(saved.weight)
    grad_x, grad_weight, grad_bias = gradients(
        _rows(grad_drive, channels, layout.inner),
        _rows(x, channels, layout.inner),
        saved.weight,
        saved.mean,
        saved.var,
        layout.eps,
        of_batch=of_batch,
        native=_native_norm(call),
    )
    return grad_x.view(x.shape), grad_v, grad_constants, grad_weight, grad_bias


class _Eager(torch.autograd.Function):
    """The operation without the dispatcher; also supports custom surrogates."""

    @staticmethod
    def forward(
        ctx: Any,
        x: Tensor,
        v_init: Tensor | None,
        _learned: Tensor | None,
        lengths: Tensor | None,
        weight: Tensor,
        bias: Tensor,
        statistics: Statistics | None,
        layout: Layout,
        constants: LIFConstants,
        call: NeuronCall,
        return_v: bool,
    ) -> tuple[Tensor, Tensor | None, Tensor, Tensor]:
        spikes, v_last, saved = _forward(
            x, v_init, lengths, weight, bias, statistics, layout, constants, call, return_v=return_v
        )
        ctx.arguments, ctx.of_batch = (layout, constants, call), statistics is None
        ctx.save_for_backward(*saved)
        ctx.set_materialize_grads(False)
        ctx.mark_non_differentiable(saved.mean, saved.var)
        return spikes, v_last, saved.mean, saved.var

    @staticmethod
    def backward(ctx: Any, *grads: Any) -> tuple[Any, ...]:  # pyright: ignore[reportIncompatibleMethodOverride]
        # Gradients are enabled with create_graph=True only; the wrapper costs as much as a small layer.
        return (_eager_backward_once if torch.is_grad_enabled() else _eager_backward)(ctx, *grads)


def _eager_backward(ctx: Any, *grads: Any) -> tuple[Any, ...]:
    needed = ctx.needs_input_grad
    results = _backward(
        grads[0],
        grads[1],
        _Saved(*ctx.saved_tensors),
        *ctx.arguments,
        of_batch=ctx.of_batch,
        v_needed=needed[1],
        learned=needed[2],
    )
    return _select(results, needed)


_eager_backward_once = once_differentiable(_eager_backward)


def _select(grads: Sequence[Tensor | None], needed: Sequence[bool]) -> tuple[Any, ...]:
    """Return gradients of x, v_init, constants, weight and bias where needed, None for all other arguments."""
    x, v_init, constants, weight, bias = (
        grad if needed[index] else None for index, grad in zip((0, 1, 2, 4, 5), grads, strict=True)
    )
    return x, v_init, constants, None, weight, bias, *[None] * (len(needed) - 6)


_OPTIONS, _OPTION_SCHEMA = option_schema(save=False)
_TENSORS = "Tensor x, Tensor v_init, Tensor constants, Tensor? lengths, Tensor weight, Tensor bias"
_REST = f"int inner, float eps, int repeats, {_OPTION_SCHEMA}"


class _Arguments(NamedTuple):
    """The arguments of the registered operation, in the order of its schema."""

    x: Tensor
    v_init: Tensor
    constants: Tensor
    lengths: Tensor | None
    weight: Tensor
    bias: Tensor
    statistics: Statistics | None
    layout: Layout
    call: NeuronCall

    @classmethod
    def parse(cls, arguments: Sequence[Any]) -> _Arguments:
        """Group the flat arguments."""
        x, v_init, constants, lengths, weight, bias, mean, var, inner, eps, repeats, *options = arguments
        call = NeuronCall(**dict(zip(_OPTIONS, options, strict=True)), save="x")
        statistics = None if mean is None else Statistics(mean, var)
        layout = Layout(inner, eps, repeats)
        return cls(x, v_init, constants, lengths, weight, bias, statistics, layout, call)


def _run(*arguments: Any) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    a = _Arguments.parse(arguments)
    values = LIF_OPERATION.read_constants(*a.constants.tolist())
    spikes, v_last, saved = _forward(
        a.x, a.v_init, a.lengths, a.weight, a.bias, a.statistics, a.layout, values, a.call, return_v=True
    )
    assert v_last is not None
    if a.statistics is not None:
        # The result of an operation must not be one of its inputs.
        return spikes, v_last, a.weight.new_empty(0), a.weight.new_empty(0)
    return spikes, v_last, saved.mean, saved.var


def _run_backward(grad_spikes: Tensor | None, grad_v_last: Tensor | None, *rest: Any) -> tuple[Tensor, ...]:
    *arguments, of_batch, learned = rest
    a = _Arguments.parse(arguments)
    assert a.statistics is not None
    values = LIF_OPERATION.read_constants(*a.constants.tolist())
    saved = _Saved(a.x, a.v_init, a.lengths, a.weight, a.bias, *a.statistics)
    grad_x, grad_v, grad_constants, *others = _backward(
        grad_spikes, grad_v_last, saved, a.layout, values, a.call, of_batch=of_batch, v_needed=True, learned=learned
    )
    assert grad_v is not None
    # The results of an operation are tensors, whether they are needed or not.
    if grad_constants is None:
        grad_constants = a.constants.new_zeros(len(values))
    return grad_x, grad_v, grad_constants, *others


def _decompose(*arguments: Any) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    a = _Arguments.parse(arguments)
    assert a.lengths is None, "samples of different lengths cannot be exported"
    assert a.statistics is not None
    values = LIFConstants(*a.constants.to(a.v_init.dtype).unbind(0))  # pyright: ignore[reportArgumentType]
    spikes, v_last = decompose_norm_lif(a.x, a.v_init, values, a.weight, a.bias, a.statistics, a.layout, a.call)
    return spikes, v_last, a.weight.new_empty(0), a.weight.new_empty(0)


def _fake(*arguments: Any) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    a = _Arguments.parse(arguments)
    spikes = a.x.new_empty((a.layout.repeats, *a.x.shape) if a.layout.repeats else a.x.shape)
    size = a.weight.shape if a.statistics is None else (0,)
    return spikes, a.v_init.new_empty(a.v_init.shape), a.weight.new_empty(size), a.weight.new_empty(size)


def _fake_backward(
    _grad_spikes: Tensor | None, _grad_v_last: Tensor | None, *arguments: Any
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    x, v_init, constants, _, weight, bias = arguments[:6]
    grad_v = v_init.new_empty(v_init.shape)
    return torch.empty_like(x), grad_v, constants.new_empty(3), torch.empty_like(weight), torch.empty_like(bias)


def _save_for_backward(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
    *tensors, mean, var = inputs[:8]
    ctx.options, ctx.of_batch = inputs[8:], mean is None
    ctx.save_for_backward(*tensors, *(output[2:] if mean is None else (mean, var)))
    ctx.set_materialize_grads(False)


def _gradient(ctx: Any, grad_spikes: Tensor | None, grad_v_last: Tensor | None, *_unused: None) -> tuple[Any, ...]:
    needed = ctx.needs_input_grad
    results = torch.ops.snn_core.norm_lif_backward(
        grad_spikes, grad_v_last, *ctx.saved_tensors, *ctx.options, ctx.of_batch, needed[2]
    )
    return _select(results, needed)


register(
    f"norm_lif_backward(Tensor? grad_spikes, Tensor? grad_v_last, {_TENSORS}, Tensor mean, Tensor var, {_REST}, "
    "bool of_batch, bool learned) -> (Tensor, Tensor, Tensor, Tensor, Tensor)",
    _run_backward,
    _fake_backward,
)
register(
    f"norm_lif({_TENSORS}, Tensor? mean, Tensor? var, {_REST}) -> (Tensor, Tensor, Tensor, Tensor)",
    _run,
    _fake,
    gradient=_gradient,
    save_for_backward=_save_for_backward,
    decomposition=_decompose,
)
