"""Multi-step leaky integrate-and-fire: currents in, spikes and the last membrane potential out, no hidden state.

IF, LIF and PLIF are this one operation with other constants. It is registered with PyTorch, so that `torch.compile`
and `torch.export` see one node; `reference.py` holds the equations, and the other files ways to compute them.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from snn_core.ops.lif import few_pass
from snn_core.ops.lif.settings import Save, Settings
from snn_core.surrogate import SurrogateGradient, surrogate_gradient

__all__ = ["Save", "Settings", "leaky_integrate_fire", "lif"]


def lif(
    x: Tensor,
    *,
    v_init: Tensor | None = None,
    tau: float | Tensor = 2.0,
    v_threshold: float | Tensor = 1.0,
    v_reset: float | None = 0.0,
    decay_input: bool = True,
    detach_reset: bool = True,
    detach_membrane: bool = False,
    surrogate: str | SurrogateGradient = "sigmoid",
    slope: float = 4.0,
    save: Save = "d32",
) -> tuple[Tensor, Tensor]:
    """Run a layer of LIF neurons over a whole sequence; the equations are in `ops/lif/reference.py`.

    Args:
        x: input currents [T, ...], any floating dtype.
        v_init: membrane potential before the first step [...]; None means at rest (v_reset, or 0 for a soft reset).
        tau: membrane time constant in time steps, at least 1; a scalar tensor may be learnt.
        v_threshold: the neuron fires when its potential reaches this; a scalar tensor may be learnt.
        v_reset: potential after a spike; None subtracts the threshold instead (soft reset).
        decay_input: whether the current, too, is divided by tau.
        detach_reset: no gradient through the spike in the reset.
        detach_membrane: no gradient through the membrane potential between time steps.
        surrogate: name from `snn_core.SURROGATES`, or an even function `(h - v_threshold, slope) -> derivative`.
        slope: the surrogate's slope.
        save: what is kept for the backward, see `snn_core.ops.lif.Save`.

    Returns:
        spikes [T, ...] in the dtype of x, and the last membrane potential [...] in float32 (float64 if x is).

    Raises:
        ValueError: no time step, tau below 1, unknown surrogate or save, v_init of another shape than x[0], or options
            that cannot stand together.
    """
    if not isinstance(tau, Tensor) and tau < 1:
        raise ValueError(f"tau is a time constant in time steps and at least 1, but it is {tau}")
    leak = 1 / tau
    return leaky_integrate_fire(
        x,
        v_init=v_init,
        decay=1 - leak,
        gain=leak if decay_input else 1.0,
        v_threshold=v_threshold,
        v_reset=v_reset,
        detach_reset=detach_reset,
        detach_membrane=detach_membrane,
        surrogate=surrogate,
        slope=slope,
        save=save,
    )


def leaky_integrate_fire(
    x: Tensor,
    *,
    decay: float | Tensor,
    gain: float | Tensor,
    v_threshold: float | Tensor,
    v_init: Tensor | None = None,
    v_reset: float | None = 0.0,
    detach_reset: bool = True,
    detach_membrane: bool = False,
    surrogate: str | SurrogateGradient = "sigmoid",
    slope: float = 4.0,
    save: Save = "d32",
) -> tuple[Tensor, Tensor]:
    """The operation itself: `h = decay * v + gain * x` relative to the resting potential, fire, reset.

    Arguments, results and errors as in `lif`, with the share of the potential that is left after a step (`decay`) and
    the factor on the current (`gain`) in the place of tau.
    """
    if x.dim() == 0 or x.shape[0] == 0:
        raise ValueError(f"x needs at least one time step in its first axis, but its shape is {tuple(x.shape)}")
    if v_init is not None and v_init.shape != x.shape[1:]:
        raise ValueError(f"v_init has shape {tuple(v_init.shape)}, but one time step of x has {tuple(x.shape[1:])}")
    learnt = any(isinstance(c, Tensor) and c.requires_grad for c in (decay, gain, v_threshold))
    _check_save(save, surrogate, detach_reset, learnt)
    # The membrane stays in float32 under mixed precision: in 16 bits it would change 1 to 2 % of all spikes.
    dtype = torch.float64 if x.dtype == torch.float64 else torch.float32
    rest = v_reset or 0.0
    if v_init is None:
        v = torch.zeros(x.shape[1:], dtype=dtype, device=x.device)
    else:
        v = v_init.to(dtype) - rest if rest else v_init.to(dtype)
    constants = _constants(decay, gain, v_threshold - rest if rest else v_threshold)
    options = (v_reset is None, detach_reset, detach_membrane)
    if callable(surrogate):
        spikes, v_last = _WithOwnSurrogate.apply(x, v, constants, *options, surrogate, slope, save)  # pyright: ignore
    else:
        surrogate_gradient(surrogate)
        differentiated = torch.is_grad_enabled() and (x.requires_grad or v.requires_grad or constants.requires_grad)
        op = torch.ops.snn_core.lif if differentiated else torch.ops.snn_core.lif_forward
        spikes, v_last, *_ = op(x, v, constants, *options, surrogate, slope, save)
    return spikes, v_last + rest if rest else v_last


def _check_save(save: str, surrogate: str | SurrogateGradient, detach_reset: bool, learnt: bool) -> None:
    if save not in ("d32", "d16", "x", "u8"):
        raise ValueError(f"save is d32, d16, x or u8, but it is {save!r}")
    if save == "u8" and not detach_reset:
        raise ValueError("save u8 keeps no potential, which detach_reset=False needs; take another save")
    if save == "u8" and callable(surrogate):
        raise ValueError("save u8 needs a surrogate by name; take another save")
    if save in ("d16", "u8") and learnt:
        raise ValueError(f"save {save} is too coarse for a learnt tau or threshold; take d32 or x")


def _constants(decay: float | Tensor, gain: float | Tensor, threshold: float | Tensor) -> Tensor:
    """Decay, gain and threshold as [3] in float64, on the CPU unless they are learnt on another device."""
    values = (decay, gain, threshold)
    if not any(isinstance(value, Tensor) for value in values):
        return torch.tensor(values, dtype=torch.float64)
    return torch.stack([torch.as_tensor(value, dtype=torch.float64).cpu() for value in values])


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


def _like(x: Tensor, v_init: Tensor, save: str) -> tuple[Tensor, Tensor, Tensor]:
    """Shapes and types of what `lif` returns."""
    dtype = {"d32": v_init.dtype, "d16": torch.float16, "u8": torch.uint8, "x": x.dtype}[save]
    kept = x.new_empty(x.shape if save != "x" else (0,), dtype=dtype)
    return x.new_empty(x.shape), v_init.new_empty(v_init.shape), kept


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
torch.library.register_fake("snn_core::lif", lambda x, v, _c, *options: _like(x, v, options[-1]), lib=_library)
torch.library.register_fake("snn_core::lif_forward", lambda x, v, _c, *o: _like(x, v, o[-1])[:2], lib=_library)
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
            *grads,
            kept,
            v_init,
            _settings(constants, *ctx.options),
            ctx.x_dtype,
            ctx.needs_input_grad[2],
            ctx.surrogate,
        )
        wanted = [grad if needed else None for grad, needed in zip(found, ctx.needs_input_grad[:3], strict=True)]
        return (*wanted, *[None] * len(ctx.options))
