"""The adaptive neuron as an operation that PyTorch knows: differentiable, one node for `torch.compile`.

`snn_core::alif` keeps what the backward needs, `snn_core::alif_forward` keeps nothing, `snn_core::alif_backward` gives
the gradients. They take decay, gain, threshold, beta and rho as one tensor [5], so that these can be learned. As in
`ops/lif/operation.py`, the implementation is chosen inside, where the real tensors are.
"""

# PyTorch leaves the types of its registration and autograd functions open.
# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false
from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from snn_core.ops.alif import few_pass
from snn_core.ops.alif.few_pass import Gradients
from snn_core.ops.alif.implementation import implementation_of
from snn_core.ops.alif.settings import Settings
from snn_core.ops.common.arguments import check_differentiation, stack_constants
from snn_core.ops.common.memory import empty
from snn_core.ops.lif.operation import flat
from snn_core.surrogate import SurrogateGradient

Options = tuple[bool, bool, bool, Any, float, str]
"""Soft reset, detach_reset, detach_membrane, surrogate (a name or a function), slope, implementation."""
Constants = tuple[float | Tensor, float | Tensor, float | Tensor, float | Tensor, float | Tensor]
"""Decay, gain, threshold, beta and rho."""


def apply(
    x: Tensor, v_init: Tensor, b_init: Tensor, constants: Constants, lengths: Tensor | None, options: Options
) -> tuple[Tensor, Tensor, Tensor]:
    """Currents x [T, ...] from v_init and b_init [...] -> spikes [T, ...], last potential and last adaptation [...].

    Potentials are relative to the resting one; lengths [B] are the numbers of steps of each sample.
    """
    learned = stack_constants(*constants) if any(isinstance(value, Tensor) for value in constants) else None
    seen = torch.compiler.is_compiling() or type(x) not in (Tensor, torch.nn.Parameter)
    inputs = (x, v_init, b_init) if learned is None else (x, v_init, b_init, learned)
    wanted = torch.is_grad_enabled() and any(tensor.requires_grad for tensor in inputs)
    surrogate, slope, implementation = options[3:]
    if seen and not callable(surrogate):
        # A tracer looks on and shall see one node.
        given = stack_constants(*constants) if learned is None else learned
        if wanted:
            spikes, v_last, b_last, _ = torch.ops.snn_core.alif(x, v_init, b_init, given, lengths, *options)
        else:
            spikes, v_last, b_last = torch.ops.snn_core.alif_forward(x, v_init, b_init, given, lengths, *options)
        return spikes, v_last, b_last
    check_differentiation(x)
    own = surrogate if callable(surrogate) else None
    known = constants if learned is None else learned.tolist()
    named = (*options[:3], "" if own else surrogate, slope)
    s = Settings(*known, *named)  # pyright: ignore[reportArgumentType, reportCallIssue]
    implementation = "torch" if own else implementation
    if wanted:
        # The same without PyTorch's dispatcher and its wrappers in Python, which cost more than a small layer itself.
        return _Eager.apply(x, v_init, b_init, learned, lengths, s, own, implementation)  # pyright: ignore[reportReturnType]
    spikes, v_last, b_last, _ = _run(x, v_init, b_init, s, implementation, keep=False, lengths=lengths)
    return spikes, v_last, b_last


def _settings(constants: Tensor, options: tuple[Any, ...]) -> Settings:
    return Settings(*constants.tolist(), *options[:5])


def _run(
    x: Tensor,
    v_init: Tensor,
    b_init: Tensor,
    s: Settings,
    implementation: str,
    *,
    keep: bool,
    lengths: Tensor | None,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Spikes, last potential, last adaptation and the gap (empty unless it is to be kept), shaped like x and v_init."""
    spikes = empty(x.shape, dtype=x.dtype, device=x.device)
    v_last = empty(v_init.shape, dtype=v_init.dtype, device=x.device)
    b_last = empty(v_init.shape, dtype=v_init.dtype, device=x.device)
    gap = empty(x.shape if keep else (0,), dtype=v_init.dtype, device=x.device)
    implementation_of(implementation, x, s.surrogate).forward(
        flat(x),
        v_init.reshape(-1),
        b_init.reshape(-1),
        s,
        flat(spikes),
        flat(gap) if keep else None,
        v_last.view(-1),
        b_last.view(-1),
        lengths=lengths,
    )
    return spikes, v_last, b_last, gap


def _run_backward(
    upstream: tuple[Tensor | None, Tensor | None, Tensor | None],
    gap: Tensor,
    v_init: Tensor,
    b_init: Tensor,
    s: Settings,
    implementation: str,
    *,
    x_dtype: torch.dtype,
    learned: bool,
    lengths: Tensor | None,
    bump: SurrogateGradient | None = None,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Gradients of the currents, of v_init, of b_init and of the constants (empty unless they are learned)."""
    grad_spikes, grad_v_last, grad_b_last = upstream
    grad_x = empty(gap.shape, dtype=x_dtype, device=gap.device)
    grad_v, grad_b = (empty(v_init.shape, dtype=v_init.dtype, device=gap.device) for _ in range(2))
    grad_constants = torch.zeros(5, dtype=torch.float64, device=gap.device)
    arguments = (
        None if grad_spikes is None else flat(grad_spikes),
        None if grad_v_last is None else grad_v_last.reshape(-1),
        None if grad_b_last is None else grad_b_last.reshape(-1),
        flat(gap),
        v_init.reshape(-1),
        b_init.reshape(-1),
        s,
        Gradients(flat(grad_x), grad_v.view(-1), grad_b.view(-1), grad_constants if learned else None),
    )
    if bump is not None:
        few_pass.backward(*arguments, bump, lengths=lengths)
    else:
        implementation_of(implementation, grad_x, s.surrogate).backward(*arguments, lengths=lengths)
    return grad_x, grad_v, grad_b, grad_constants.cpu()


_OPTIONS = "bool soft_reset, bool detach_reset, bool detach_membrane, str surrogate, float slope, str implementation"
_INPUTS = f"Tensor x, Tensor v_init, Tensor b_init, Tensor constants, Tensor? lengths, {_OPTIONS}"
_library = torch.library.Library("snn_core", "FRAGMENT")
_library.define(f"alif({_INPUTS}) -> (Tensor, Tensor, Tensor, Tensor)")
_library.define(f"alif_forward({_INPUTS}) -> (Tensor, Tensor, Tensor)")
_library.define(
    "alif_backward(Tensor? grad_spikes, Tensor? grad_v_last, Tensor? grad_b_last, Tensor gap, Tensor v_init, "
    f"Tensor b_init, Tensor constants, Tensor? lengths, {_OPTIONS}, ScalarType x_dtype, bool learned) "
    "-> (Tensor, Tensor, Tensor, Tensor)"
)


def _alif(
    x: Tensor, v_init: Tensor, b_init: Tensor, constants: Tensor, lengths: Tensor | None, *options: Any
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    return _run(x, v_init, b_init, _settings(constants, options), options[5], keep=True, lengths=lengths)


def _alif_forward_only(
    x: Tensor, v_init: Tensor, b_init: Tensor, constants: Tensor, lengths: Tensor | None, *options: Any
) -> tuple[Tensor, Tensor, Tensor]:
    s = _settings(constants, options)
    spikes, v_last, b_last, _ = _run(x, v_init, b_init, s, options[5], keep=False, lengths=lengths)
    return spikes, v_last, b_last


def _alif_backward(
    grad_spikes: Tensor | None,
    grad_v_last: Tensor | None,
    grad_b_last: Tensor | None,
    gap: Tensor,
    v_init: Tensor,
    b_init: Tensor,
    constants: Tensor,
    lengths: Tensor | None,
    *rest: Any,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    *options, x_dtype, learned = rest
    return _run_backward(
        (grad_spikes, grad_v_last, grad_b_last),
        gap,
        v_init,
        b_init,
        _settings(constants, tuple(options)),
        options[5],
        x_dtype=x_dtype,
        learned=learned,
        lengths=lengths,
    )


def _like(x: Tensor, v_init: Tensor, *_rest: Any) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Shapes and types of what `alif` returns."""
    return (*_like_forward_only(x, v_init), x.new_empty(x.shape, dtype=v_init.dtype))


def _like_forward_only(x: Tensor, v_init: Tensor, *_rest: Any) -> tuple[Tensor, Tensor, Tensor]:
    return x.new_empty(x.shape), v_init.new_empty(v_init.shape), v_init.new_empty(v_init.shape)


def _like_backward(
    grad_spikes: Tensor | None,
    grad_v_last: Tensor | None,
    grad_b_last: Tensor | None,
    gap: Tensor,
    v_init: Tensor,
    b_init: Tensor,
    constants: Tensor,
    *rest: Any,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    grad_x = gap.new_empty(gap.shape, dtype=rest[-2])
    return grad_x, v_init.new_empty(v_init.shape), v_init.new_empty(v_init.shape), constants.new_empty(5)


def _setup_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
    x, v_init, b_init, constants, lengths, *options = inputs
    ctx.options, ctx.x_dtype = options, x.dtype
    ctx.save_for_backward(output[3], v_init, b_init, constants, lengths)
    ctx.set_materialize_grads(False)


def _autograd(
    ctx: Any, grad_spikes: Tensor | None, grad_v_last: Tensor | None, grad_b_last: Tensor | None, _gap: None
) -> tuple[Any, ...]:
    grads: tuple[Tensor, ...] = torch.ops.snn_core.alif_backward(
        grad_spikes,
        grad_v_last,
        grad_b_last,
        *ctx.saved_tensors,
        *ctx.options,
        ctx.x_dtype,
        ctx.needs_input_grad[3],
    )
    wanted = [grad if needed else None for grad, needed in zip(grads, ctx.needs_input_grad[:4], strict=True)]
    return (*wanted, *[None] * (1 + len(ctx.options)))


_library.impl("alif", _alif, "CompositeExplicitAutograd")
_library.impl("alif_forward", _alif_forward_only, "CompositeExplicitAutograd")
_library.impl("alif_backward", _alif_backward, "CompositeExplicitAutograd")
torch.library.register_fake("snn_core::alif", _like, lib=_library)
torch.library.register_fake("snn_core::alif_forward", _like_forward_only, lib=_library)
torch.library.register_fake("snn_core::alif_backward", _like_backward, lib=_library)
torch.library.register_autograd("snn_core::alif", _autograd, setup_context=_setup_context, lib=_library)


class _Eager(torch.autograd.Function):
    """What the registered operations do, called straight; takes surrogates without a name, too."""

    @staticmethod
    def forward(
        ctx: Any,
        x: Tensor,
        v_init: Tensor,
        b_init: Tensor,
        constants: Tensor | None,
        lengths: Tensor | None,
        s: Settings,
        own: SurrogateGradient | None,
        implementation: str,
    ) -> tuple[Tensor, Tensor, Tensor]:
        spikes, v_last, b_last, gap = _run(x, v_init, b_init, s, implementation, keep=True, lengths=lengths)
        ctx.settings, ctx.own, ctx.implementation, ctx.x_dtype = s, own, implementation, x.dtype
        ctx.save_for_backward(gap, v_init, b_init, lengths)
        ctx.set_materialize_grads(False)
        return spikes, v_last, b_last

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grads: Any) -> tuple[Any, ...]:  # pyright: ignore[reportIncompatibleMethodOverride]
        gap, v_init, b_init, lengths = ctx.saved_tensors
        found = _run_backward(
            grads,  # pyright: ignore[reportArgumentType]
            gap,
            v_init,
            b_init,
            ctx.settings,
            ctx.implementation,
            x_dtype=ctx.x_dtype,
            learned=ctx.needs_input_grad[3],
            lengths=lengths,
            bump=ctx.own,
        )
        wanted = [grad if needed else None for grad, needed in zip(found, ctx.needs_input_grad[:4], strict=True)]
        return (*wanted, None, None, None, None)
