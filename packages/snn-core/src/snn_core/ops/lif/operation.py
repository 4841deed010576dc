"""The neuron as an operation that PyTorch knows: differentiable, one node for `torch.compile` and `torch.export`.

`snn_core::lif` keeps what the backward needs, `snn_core::lif_forward` keeps nothing, `snn_core::lif_backward` gives the
gradients. They take decay, gain and threshold as one tensor [3], so that these can be learnt.
"""

# PyTorch leaves the types of its registration and autograd functions open.
# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false
from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from snn_core.ops.lif import few_pass
from snn_core.ops.lif.settings import Settings
from snn_core.surrogate import SurrogateGradient

Options = tuple[bool, bool, bool, Any, float, str]
"""Soft reset, detach_reset, detach_membrane, surrogate (a name or a function), slope, save."""


def apply(x: Tensor, v_init: Tensor, constants: Tensor, options: Options) -> tuple[Tensor, Tensor]:
    """Currents x [T, ...] from potentials v_init [...] -> spikes [T, ...] and the last potential [...].

    Potentials are relative to the resting one; constants [3] are decay, gain and threshold.
    """
    if callable(options[3]):
        return _WithOwnSurrogate.apply(x, v_init, constants, *options)  # pyright: ignore[reportReturnType]
    if torch.is_grad_enabled() and (x.requires_grad or v_init.requires_grad or constants.requires_grad):
        spikes, v_last, _ = torch.ops.snn_core.lif(x, v_init, constants, *options)
    else:
        spikes, v_last = torch.ops.snn_core.lif_forward(x, v_init, constants, *options)
    return spikes, v_last


def _settings(constants: Tensor, *options: Any) -> Settings:
    return Settings(*constants.tolist(), *options)


def _flat(x: Tensor) -> Tensor:
    """[T, ...] -> [T, N], without a copy where the memory of a step is dense, in whatever order of axes."""
    return x.flatten(1) if x.dim() > 1 else x[:, None]


def _run(x: Tensor, v_init: Tensor, s: Settings, keep: bool) -> tuple[Tensor, Tensor, Tensor]:
    """Spikes, last potential and what is kept, in the shapes of x and v_init."""
    spikes = torch.empty(x.shape, dtype=x.dtype, device=x.device)
    v_last = torch.empty(v_init.shape, dtype=v_init.dtype, device=x.device)
    dtype = {"d32": v_init.dtype, "d16": torch.float16, "u8": torch.uint8, "x": x.dtype}[s.save]
    fresh = keep and s.save != "x"
    kept = torch.empty(x.shape if fresh else (0,), dtype=dtype, device=x.device)
    few_pass.forward(_flat(x), v_init.reshape(-1), s, _flat(spikes), _flat(kept) if fresh else None, v_last.view(-1))
    return spikes, v_last, kept


def _run_backward(
    grad_spikes: Tensor | None,
    grad_v_last: Tensor | None,
    kept: Tensor,
    v_init: Tensor,
    s: Settings,
    x_dtype: torch.dtype,
    learnt: bool,
    bump: SurrogateGradient | None = None,
) -> tuple[Tensor, Tensor, Tensor]:
    grad_x = torch.empty(kept.shape, dtype=x_dtype, device=kept.device)
    grad_v = torch.empty(v_init.shape, dtype=v_init.dtype, device=kept.device)
    grad_constants = torch.zeros(3, dtype=torch.float64)
    few_pass.backward(
        None if grad_spikes is None else _flat(grad_spikes),
        None if grad_v_last is None else grad_v_last.reshape(-1),
        _flat(kept),
        v_init.reshape(-1),
        s,
        _flat(grad_x),
        grad_v.view(-1),
        grad_constants if learnt else None,
        bump,
    )
    return grad_x, grad_v, grad_constants


_OPTIONS = "bool soft_reset, bool detach_reset, bool detach_membrane, str surrogate, float slope, str save"
_library = torch.library.Library("snn_core", "DEF")
_library.define(f"lif(Tensor x, Tensor v_init, Tensor constants, {_OPTIONS}) -> (Tensor, Tensor, Tensor)")
_library.define(
    "lif_backward(Tensor? grad_spikes, Tensor? grad_v_last, Tensor kept, Tensor v_init, Tensor constants, "
    f"{_OPTIONS}, ScalarType x_dtype, bool learnt) -> (Tensor, Tensor, Tensor)"
)


def _lif(x: Tensor, v_init: Tensor, constants: Tensor, *options: Any) -> tuple[Tensor, Tensor, Tensor]:
    return _run(x, v_init, _settings(constants, *options), keep=True)


def _lif_backward(
    grad_spikes: Tensor | None,
    grad_v_last: Tensor | None,
    kept: Tensor,
    v_init: Tensor,
    constants: Tensor,
    *rest: Any,
) -> tuple[Tensor, Tensor, Tensor]:
    *options, x_dtype, learnt = rest
    return _run_backward(grad_spikes, grad_v_last, kept, v_init, _settings(constants, *options), x_dtype, learnt)


def _lif_forward_only(x: Tensor, v_init: Tensor, constants: Tensor, *options: Any) -> tuple[Tensor, Tensor]:
    spikes, v_last, _ = _run(x, v_init, _settings(constants, *options), keep=False)
    return spikes, v_last


def _like(x: Tensor, v_init: Tensor, _constants: Tensor, *options: Any) -> tuple[Tensor, Tensor, Tensor]:
    """Shapes and types of what `lif` returns."""
    save = options[-1]
    dtype = {"d32": v_init.dtype, "d16": torch.float16, "u8": torch.uint8, "x": x.dtype}[save]
    kept = x.new_empty(x.shape if save != "x" else (0,), dtype=dtype)
    return x.new_empty(x.shape), v_init.new_empty(v_init.shape), kept


def _like_forward_only(x: Tensor, v_init: Tensor, *_rest: Any) -> tuple[Tensor, Tensor]:
    return x.new_empty(x.shape), v_init.new_empty(v_init.shape)


def _setup_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
    x, v_init, constants, *options = inputs
    ctx.options, ctx.x_dtype = options, x.dtype
    ctx.save_for_backward(x if options[-1] == "x" else output[2], v_init, constants)
    ctx.set_materialize_grads(False)


def _autograd(ctx: Any, grad_spikes: Tensor | None, grad_v_last: Tensor | None, _kept: None) -> tuple[Any, ...]:
    kept, v_init, constants = ctx.saved_tensors
    grads: tuple[Tensor, ...] = torch.ops.snn_core.lif_backward(
        grad_spikes, grad_v_last, kept, v_init, constants, *ctx.options, ctx.x_dtype, ctx.needs_input_grad[2]
    )
    wanted = [grad if needed else None for grad, needed in zip(grads, ctx.needs_input_grad[:3], strict=True)]
    return (*wanted, *[None] * len(ctx.options))


def _like_backward(
    grad_spikes: Tensor | None, grad_v_last: Tensor | None, kept: Tensor, v_init: Tensor, constants: Tensor, *rest: Any
) -> tuple[Tensor, Tensor, Tensor]:
    return kept.new_empty(kept.shape, dtype=rest[-2]), v_init.new_empty(v_init.shape), constants.new_empty(3)


_library.define(f"lif_forward(Tensor x, Tensor v_init, Tensor constants, {_OPTIONS}) -> (Tensor, Tensor)")
_library.impl("lif", _lif, "CompositeExplicitAutograd")
_library.impl("lif_forward", _lif_forward_only, "CompositeExplicitAutograd")
_library.impl("lif_backward", _lif_backward, "CompositeExplicitAutograd")
torch.library.register_fake("snn_core::lif", _like, lib=_library)
torch.library.register_fake("snn_core::lif_forward", _like_forward_only, lib=_library)
torch.library.register_fake("snn_core::lif_backward", _like_backward, lib=_library)
torch.library.register_autograd("snn_core::lif", _autograd, setup_context=_setup_context, lib=_library)


class _WithOwnSurrogate(torch.autograd.Function):
    """The same for a surrogate that has no name, which a registered operation could not take."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, v_init: Tensor, constants: Tensor, *options: Any) -> tuple[Tensor, Tensor]:
        *flags, surrogate, slope, save = options
        ctx.surrogate = surrogate
        options = (*flags, "", slope, save)
        spikes, v_last, kept = _run(x, v_init, _settings(constants, *options), keep=True)
        _setup_context(ctx, (x, v_init, constants, *options), (spikes, v_last, kept))
        return spikes, v_last

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grads: Any) -> tuple[Any, ...]:  # pyright: ignore[reportIncompatibleMethodOverride]
        kept, v_init, constants = ctx.saved_tensors
        found = _run_backward(
            grads[0],
            grads[1],
            kept,
            v_init,
            _settings(constants, *ctx.options),
            ctx.x_dtype,
            ctx.needs_input_grad[2],
            ctx.surrogate,
        )
        wanted = [grad if needed else None for grad, needed in zip(found, ctx.needs_input_grad[:3], strict=True)]
        return (*wanted, *[None] * len(ctx.options))
