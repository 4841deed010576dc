"""Batch norm and neuron as one operation: its forward, its backward, and how PyTorch gets to know them.

For the backward it keeps its input and nothing of that size besides: statistics and constants give the drive and the
potentials again. The drive itself is never a tensor, because the neuron scales and shifts what it reads.
"""

# PyTorch leaves the types of its registration and autograd functions open.
# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false
from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from snn_core.ops.common.arguments import check_differentiation, stack_constants
from snn_core.ops.common.memory import empty
from snn_core.ops.lif.operation import Options, run, run_backward, settings
from snn_core.ops.lif.settings import Affine, Settings
from snn_core.ops.norm_lif.batch_norm import gradients, moments
from snn_core.surrogate import SurrogateGradient

AT_ONCE = 1 << 22
"""Elements of the drive's gradient that are held at a time before they are summed over the steps of a static input."""


class Layout(NamedTuple):
    """How the input lies, and the norm's epsilon."""

    inner: int
    """How many elements in a row share a channel."""
    eps: float
    """Added to the variance."""
    repeats: int
    """How many steps the input stays the same; 0 where its first axis is time."""


class _Inputs(NamedTuple):
    """All tensors that the backward needs; statistics are those that were used."""

    x: Tensor
    v_init: Tensor
    lengths: Tensor | None
    weight: Tensor
    bias: Tensor
    mean: Tensor
    var: Tensor


def apply(
    x: Tensor,
    v_init: Tensor,
    constants: tuple[float | Tensor, float | Tensor, float | Tensor],
    lengths: Tensor | None,
    weight: Tensor,
    bias: Tensor,
    statistics: tuple[Tensor, Tensor] | None,
    layout: Layout,
    options: Options,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Input x -> spikes [T, ...], the last potential [...], and the mean and biased variance [C] that were used.

    x is contiguous, [T, ...] or, where it stays the same, [...]; potentials are relative to rest; weight and bias are
    in the dtype of the arithmetic. `statistics` are a mean and a variance to use in the place of the batch's.
    """
    learned = stack_constants(*constants) if any(isinstance(value, Tensor) for value in constants) else None
    seen = torch.compiler.is_compiling() or type(x) not in (Tensor, torch.nn.Parameter)
    if seen and not callable(options[3]):
        given = stack_constants(*constants) if learned is None else learned
        named = (*options[:5], options[6])
        spikes, v_last, mean, var = torch.ops.snn_core.norm_lif(
            x, v_init, given, lengths, weight, bias, *(statistics or (None, None)), *layout, *named
        )
        if statistics is not None:
            mean, var = statistics
        return spikes, v_last, mean, var
    check_differentiation(x)
    known = constants if learned is None else learned.tolist()
    own = options[3] if callable(options[3]) else None
    named = (*options[:3], "" if own else options[3], options[4], "x")
    s = Settings(*known, *named)  # pyright: ignore[reportArgumentType, reportCallIssue]
    implementation = "torch" if own else options[6]
    # Straight, without PyTorch's dispatcher, which costs more than a small layer itself.
    return _Eager.apply(x, v_init, learned, lengths, weight, bias, statistics, layout, s, own, implementation)  # pyright: ignore[reportReturnType]


def _rows(x: Tensor, channels: int, inner: int) -> Tensor:
    return x.view(-1, channels, inner)


def _compiled(implementation: str) -> bool:
    """Whether batch norm may run in C where it can: an implementation of the neuron is asked for both."""
    return implementation in ("auto", "native")


def _affine(i: _Inputs, layout: Layout) -> Affine:
    scale = i.weight * torch.rsqrt(i.var + layout.eps)
    return scale, torch.addcmul(i.bias, i.mean, scale, value=-1), layout.inner


def _forward(
    x: Tensor,
    v_init: Tensor,
    lengths: Tensor | None,
    weight: Tensor,
    bias: Tensor,
    statistics: tuple[Tensor, Tensor] | None,
    layout: Layout,
    s: Settings,
    implementation: str,
) -> tuple[Tensor, Tensor, _Inputs]:
    rows = _rows(x, len(weight), layout.inner)
    mean, var = statistics or moments(rows, layout.eps, compiled=_compiled(implementation))
    inputs = _Inputs(x, v_init, lengths, weight, bias, mean, var)
    currents = x.expand(layout.repeats, *x.shape) if layout.repeats else x
    spikes, v_last, _ = run(
        currents, v_init, s, implementation, keep=False, lengths=lengths, affine=_affine(inputs, layout)
    )
    return spikes, v_last, inputs


def _backward(
    grad_spikes: Tensor | None,
    grad_v_last: Tensor | None,
    i: _Inputs,
    layout: Layout,
    s: Settings,
    implementation: str,
    *,
    of_batch: bool,
    learned: bool,
    bump: SurrogateGradient | None = None,
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    """Gradients of x, v_init, the constants, weight and bias; `of_batch` where the statistics are those of x."""
    x, affine = i.x, _affine(i, layout)

    def through_neuron(part: slice, kept: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        return run_backward(
            None if grad_spikes is None else grad_spikes[:, part],
            None if grad_v_last is None else grad_v_last[part],
            kept,
            i.v_init[part],
            s,
            implementation,
            x_dtype=x.dtype,
            learned=learned,
            lengths=None if i.lengths is None else i.lengths[part],
            affine=affine,
            bump=bump,
        )

    if not layout.repeats:
        grad_drive, grad_v, grad_constants = through_neuron(slice(None), x)
    else:
        # One current feeds all steps: its gradient is their sum, taken for a few samples at a time.
        grad_drive = empty(x.shape, dtype=x.dtype, device=x.device)
        grad_v = empty(x.shape, dtype=i.v_init.dtype, device=x.device)
        grad_constants = torch.zeros(3, dtype=torch.float64)
        size = max(1, AT_ONCE * len(x) // (layout.repeats * x.numel()))
        for start in range(0, len(x), size):
            part = slice(start, start + size)
            of_steps, grad_v[part], of_constants = through_neuron(part, x[part].expand(layout.repeats, *x[part].shape))
            torch.sum(of_steps, 0, out=grad_drive[part])
            grad_constants += of_constants
    channels = len(i.weight)
    grad_x, grad_weight, grad_bias = gradients(
        _rows(grad_drive, channels, layout.inner),
        _rows(x, channels, layout.inner),
        i.weight,
        i.mean,
        i.var,
        layout.eps,
        of_batch=of_batch,
        compiled=_compiled(implementation),
    )
    return grad_x.view(x.shape), grad_v, grad_constants, grad_weight, grad_bias


class _Eager(torch.autograd.Function):
    """The operation outside of a compiler."""

    @staticmethod
    def forward(
        ctx: Any,
        x: Tensor,
        v_init: Tensor,
        _constants: Tensor | None,
        lengths: Tensor | None,
        weight: Tensor,
        bias: Tensor,
        statistics: tuple[Tensor, Tensor] | None,
        layout: Layout,
        s: Settings,
        own: SurrogateGradient | None,
        implementation: str,
    ) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        spikes, v_last, inputs = _forward(x, v_init, lengths, weight, bias, statistics, layout, s, implementation)
        ctx.call, ctx.of_batch, ctx.own = (layout, s, implementation), statistics is None, own
        ctx.save_for_backward(*inputs)
        ctx.set_materialize_grads(False)
        found = (inputs.mean, inputs.var)
        ctx.mark_non_differentiable(*found)
        return spikes, v_last, *found

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grads: Any) -> tuple[Any, ...]:  # pyright: ignore[reportIncompatibleMethodOverride]
        wanted = ctx.needs_input_grad
        layout, s, implementation = ctx.call
        grad_spikes, grad_v_last = grads[:2]
        found = _backward(
            grad_spikes,
            grad_v_last,
            _Inputs(*ctx.saved_tensors),
            layout,
            s,
            implementation,
            of_batch=ctx.of_batch,
            learned=wanted[2],
            bump=ctx.own,
        )
        return _wanted(found, wanted)


def _wanted(grads: tuple[Tensor, ...], wanted: tuple[bool, ...]) -> tuple[Any, ...]:
    """Gradients of x, v_init, constants, weight and bias where they are wanted, None for all else that was given."""
    x, v_init, constants, weight, bias = (
        grad if wanted[place] else None for place, grad in zip((0, 1, 2, 4, 5), grads, strict=True)
    )
    return x, v_init, constants, None, weight, bias, *[None] * (len(wanted) - 6)


_OPTIONS = (
    "int inner, float eps, int repeats, bool soft_reset, bool detach_reset, bool detach_membrane, str surrogate, "
    "float slope, str implementation"
)
_TENSORS = "Tensor x, Tensor v_init, Tensor constants, Tensor? lengths, Tensor weight, Tensor bias"
_library = torch.library.Library("snn_core", "FRAGMENT")
_library.define(f"norm_lif({_TENSORS}, Tensor? mean, Tensor? var, {_OPTIONS}) -> (Tensor, Tensor, Tensor, Tensor)")
_library.define(
    f"norm_lif_backward(Tensor? grad_spikes, Tensor? grad_v_last, {_TENSORS}, Tensor mean, Tensor var, {_OPTIONS}, "
    "bool of_batch, bool learned) -> (Tensor, Tensor, Tensor, Tensor, Tensor)"
)


def _call(constants: Tensor, options: tuple[Any, ...]) -> tuple[Layout, Settings, str]:
    """Layout, settings and implementation from a schema's options."""
    return Layout(*options[:3]), settings(constants, (*options[3:8], "x")), options[8]


def _norm_lif(
    x: Tensor,
    v_init: Tensor,
    constants: Tensor,
    lengths: Tensor | None,
    weight: Tensor,
    bias: Tensor,
    mean: Tensor | None,
    var: Tensor | None,
    *options: Any,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Statistics that were given are not returned: the result of an operation is never one of its inputs."""
    given = None if mean is None or var is None else (mean, var)
    spikes, v_last, inputs = _forward(x, v_init, lengths, weight, bias, given, *_call(constants, options))
    if given:
        return spikes, v_last, weight.new_empty(0), weight.new_empty(0)
    return spikes, v_last, inputs.mean, inputs.var


def _norm_lif_backward(
    grad_spikes: Tensor | None,
    grad_v_last: Tensor | None,
    x: Tensor,
    v_init: Tensor,
    constants: Tensor,
    lengths: Tensor | None,
    weight: Tensor,
    bias: Tensor,
    mean: Tensor,
    var: Tensor,
    *rest: Any,
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    *options, of_batch, learned = rest
    inputs = _Inputs(x, v_init, lengths, weight, bias, mean, var)
    call = _call(constants, tuple(options))
    return _backward(grad_spikes, grad_v_last, inputs, *call, of_batch=of_batch, learned=learned)


def _like(
    x: Tensor,
    v_init: Tensor,
    _constants: Tensor,
    _lengths: Tensor | None,
    weight: Tensor,
    _bias: Tensor,
    mean: Tensor | None,
    _var: Tensor | None,
    *options: Any,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Shapes and types of what `norm_lif` returns."""
    repeats = options[2]
    spikes = x.new_empty((repeats, *x.shape) if repeats else x.shape)
    size = weight.shape if mean is None else (0,)
    return spikes, v_init.new_empty(v_init.shape), weight.new_empty(size), weight.new_empty(size)


def _like_backward(
    _grad_spikes: Tensor | None,
    _grad_v_last: Tensor | None,
    x: Tensor,
    v_init: Tensor,
    constants: Tensor,
    _lengths: Tensor | None,
    weight: Tensor,
    bias: Tensor,
    *_rest: Any,
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    grad_v = v_init.new_empty(v_init.shape)
    return torch.empty_like(x), grad_v, constants.new_empty(3), torch.empty_like(weight), torch.empty_like(bias)


def _setup_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
    *tensors, mean, var = inputs[:8]
    ctx.options, ctx.of_batch = inputs[8:], mean is None
    ctx.save_for_backward(*tensors, *(output[2:] if mean is None else (mean, var)))
    ctx.set_materialize_grads(False)


def _autograd(ctx: Any, grad_spikes: Tensor | None, grad_v_last: Tensor | None, *_unused: None) -> tuple[Any, ...]:
    wanted = ctx.needs_input_grad
    found = torch.ops.snn_core.norm_lif_backward(
        grad_spikes, grad_v_last, *ctx.saved_tensors, *ctx.options, ctx.of_batch, wanted[2]
    )
    return _wanted(found, wanted)


_library.impl("norm_lif", _norm_lif, "CompositeExplicitAutograd")
_library.impl("norm_lif_backward", _norm_lif_backward, "CompositeExplicitAutograd")
torch.library.register_fake("snn_core::norm_lif", _like, lib=_library)
torch.library.register_fake("snn_core::norm_lif_backward", _like_backward, lib=_library)
torch.library.register_autograd("snn_core::norm_lif", _autograd, setup_context=_setup_context, lib=_library)
