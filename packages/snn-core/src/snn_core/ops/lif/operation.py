"""The neuron as an operation that PyTorch knows: differentiable, one node for `torch.compile` and `torch.export`.

`snn_core::lif` keeps what the backward needs, `snn_core::lif_forward` keeps nothing, `snn_core::lif_backward` gives the
gradients. They take decay, gain and threshold as one tensor [3], so that these can be learned. Which implementation
computes them is decided inside, where the real tensors are.
"""

# PyTorch leaves the types of its registration and autograd functions open.
# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false
from __future__ import annotations

from functools import lru_cache
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from snn_core.ops.common.arguments import check_differentiation, stack_constants
from snn_core.ops.common.implementation import implementation_of
from snn_core.ops.common.memory import empty
from snn_core.ops.lif import cpu, few_pass
from snn_core.ops.lif.settings import Affine, Settings
from snn_core.surrogate import SurrogateGradient

Options = tuple[bool, bool, bool, Any, float, str, str]
"""Soft reset, detach_reset, detach_membrane, surrogate (a name or a function), slope, save, implementation."""


def apply(
    x: Tensor,
    v_init: Tensor,
    constants: tuple[float | Tensor, float | Tensor, float | Tensor],
    lengths: Tensor | None,
    options: Options,
) -> tuple[Tensor, Tensor]:
    """Currents x [T, ...] from potentials v_init [...] -> spikes [T, ...] and the last potential [...].

    Potentials are relative to the resting one; constants are decay, gain and threshold; lengths [B] are the numbers of
    steps of each sample.
    """
    learned = stack_constants(*constants) if any(isinstance(value, Tensor) for value in constants) else None
    seen = torch.compiler.is_compiling() or type(x) not in (Tensor, torch.nn.Parameter)
    wanted = torch.is_grad_enabled() and (
        x.requires_grad or v_init.requires_grad or (learned is not None and learned.requires_grad)
    )
    if seen and not callable(options[3]):
        # A tracer looks on and shall see one node.
        given = stack_constants(*constants) if learned is None else learned
        if wanted:
            spikes, v_last, _ = torch.ops.snn_core.lif(x, v_init, given, lengths, *options)
        else:
            spikes, v_last = torch.ops.snn_core.lif_forward(x, v_init, given, lengths, *options)
        return spikes, v_last
    check_differentiation(x)
    known = constants if learned is None else learned.tolist()
    own = options[3] if callable(options[3]) else None
    s = _settings(*known, *options[:3], "" if own else options[3], *options[4:6])
    implementation = "torch" if own else options[6]
    if wanted:
        # The same without PyTorch's dispatcher and its wrappers in Python, which cost more than a small layer itself.
        return _Eager.apply(x, v_init, learned, lengths, s, own, implementation)  # pyright: ignore[reportReturnType]
    spikes, v_last, _ = run(x, v_init, s, implementation, keep=False, lengths=lengths)
    return spikes, v_last


def settings(constants: Tensor, options: tuple[Any, ...]) -> Settings:
    """The settings of a call from its constants [3] and the options, the last of which is the implementation."""
    return Settings(*constants.tolist(), *options[:6])


_settings = lru_cache(maxsize=1024)(Settings)
"""The same constants come with every step of a training, and a frozen dataclass takes its time to be made."""


def flat(x: Tensor) -> Tensor:
    """[T, ...] -> [T, N], without a copy where the memory of a step is dense."""
    return x.flatten(1) if x.dim() > 1 else x[:, None]


def run(
    x: Tensor,
    v_init: Tensor,
    s: Settings,
    implementation: str,
    *,
    keep: bool,
    lengths: Tensor | None = None,
    affine: Affine | None = None,
) -> tuple[Tensor, Tensor, Tensor]:
    """Spikes, last potential and what is kept, in the shapes of x and v_init; nothing is kept with save `x`."""
    spikes = empty(x.shape, dtype=x.dtype, device=x.device)
    v_last = empty(v_init.shape, dtype=v_init.dtype, device=x.device)
    fresh = keep and s.save != "x"
    kept = empty(x.shape if fresh else (0,), dtype=_kept_dtype(s.save, x, v_init), device=x.device)
    chosen = implementation_of(implementation, x, s.surrogate)
    if chosen is cpu:  # takes arrays as they are: making flat views costs more than a small layer itself
        cpu.forward(x, v_init, s, spikes, kept if fresh else None, v_last, lengths=lengths, affine=affine)
    else:
        kept_flat = flat(kept) if fresh else None
        arrays = (flat(x), v_init.reshape(-1), s, flat(spikes), kept_flat, v_last.view(-1))
        chosen.forward(*arrays, lengths=lengths, affine=affine)
    return spikes, v_last, kept


def run_backward(
    grad_spikes: Tensor | None,
    grad_v_last: Tensor | None,
    kept: Tensor,
    v_init: Tensor,
    s: Settings,
    implementation: str,
    *,
    x_dtype: torch.dtype,
    learned: bool,
    lengths: Tensor | None = None,
    affine: Affine | None = None,
    bump: SurrogateGradient | None = None,
) -> tuple[Tensor, Tensor, Tensor]:
    """Gradients of the currents (of what comes out of the affine, where there is one), of v_init and the constants."""
    grad_x = empty(kept.shape, dtype=x_dtype, device=kept.device)
    grad_v = empty(v_init.shape, dtype=v_init.dtype, device=kept.device)
    grad_constants = torch.zeros(3, dtype=torch.float64, device=kept.device)
    constants = grad_constants if learned else None
    chosen = few_pass if bump else implementation_of(implementation, grad_x, s.surrogate)
    if chosen is cpu:
        gradients = (grad_spikes, grad_v_last, kept, v_init, s, grad_x, grad_v, constants)
        cpu.backward(*gradients, lengths=lengths, affine=affine)
        return grad_x, grad_v, grad_constants
    gradients = (
        None if grad_spikes is None else flat(grad_spikes),
        None if grad_v_last is None else grad_v_last.reshape(-1),
        flat(kept),
        v_init.reshape(-1),
        s,
        flat(grad_x),
        grad_v.view(-1),
        constants,
    )
    if bump is not None:
        few_pass.backward(*gradients, bump, lengths=lengths, affine=affine)
    else:
        chosen.backward(*gradients, lengths=lengths, affine=affine)
    return grad_x, grad_v, grad_constants.cpu()


def _kept_dtype(save: str, x: Tensor, v_init: Tensor) -> torch.dtype:
    return {"d32": v_init.dtype, "d16": torch.float16, "u8": torch.uint8, "x": x.dtype}[save]


_OPTIONS = (
    "bool soft_reset, bool detach_reset, bool detach_membrane, str surrogate, float slope, str save, str implementation"
)
_INPUTS = f"Tensor x, Tensor v_init, Tensor constants, Tensor? lengths, {_OPTIONS}"
_library = torch.library.Library("snn_core", "FRAGMENT")
_library.define(f"lif({_INPUTS}) -> (Tensor, Tensor, Tensor)")
_library.define(f"lif_forward({_INPUTS}) -> (Tensor, Tensor)")
_library.define(
    "lif_backward(Tensor? grad_spikes, Tensor? grad_v_last, Tensor kept, Tensor v_init, Tensor constants, "
    f"Tensor? lengths, {_OPTIONS}, ScalarType x_dtype, bool learned) -> (Tensor, Tensor, Tensor)"
)


def _lif(
    x: Tensor, v_init: Tensor, constants: Tensor, lengths: Tensor | None, *options: Any
) -> tuple[Tensor, Tensor, Tensor]:
    return run(x, v_init, settings(constants, options), options[6], keep=True, lengths=lengths)


def _lif_forward_only(
    x: Tensor, v_init: Tensor, constants: Tensor, lengths: Tensor | None, *options: Any
) -> tuple[Tensor, Tensor]:
    spikes, v_last, _ = run(x, v_init, settings(constants, options), options[6], keep=False, lengths=lengths)
    return spikes, v_last


def _lif_backward(
    grad_spikes: Tensor | None,
    grad_v_last: Tensor | None,
    kept: Tensor,
    v_init: Tensor,
    constants: Tensor,
    lengths: Tensor | None,
    *rest: Any,
) -> tuple[Tensor, Tensor, Tensor]:
    *options, x_dtype, learned = rest
    s = settings(constants, tuple(options))
    return run_backward(
        grad_spikes, grad_v_last, kept, v_init, s, options[6], x_dtype=x_dtype, learned=learned, lengths=lengths
    )


def _like(
    x: Tensor, v_init: Tensor, _constants: Tensor, _lengths: Tensor | None, *options: Any
) -> tuple[Tensor, Tensor, Tensor]:
    """Shapes and types of what `lif` returns."""
    save = options[5]
    kept = x.new_empty(x.shape if save != "x" else (0,), dtype=_kept_dtype(save, x, v_init))
    return x.new_empty(x.shape), v_init.new_empty(v_init.shape), kept


def _like_forward_only(x: Tensor, v_init: Tensor, *_rest: Any) -> tuple[Tensor, Tensor]:
    return x.new_empty(x.shape), v_init.new_empty(v_init.shape)


def _like_backward(
    grad_spikes: Tensor | None, grad_v_last: Tensor | None, kept: Tensor, v_init: Tensor, constants: Tensor, *rest: Any
) -> tuple[Tensor, Tensor, Tensor]:
    return kept.new_empty(kept.shape, dtype=rest[-2]), v_init.new_empty(v_init.shape), constants.new_empty(3)


def _setup_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
    x, v_init, constants, lengths, *options = inputs
    ctx.options, ctx.x_dtype = options, x.dtype
    ctx.save_for_backward(x if options[5] == "x" else output[2], v_init, constants, lengths)
    ctx.set_materialize_grads(False)


def _autograd(ctx: Any, grad_spikes: Tensor | None, grad_v_last: Tensor | None, _kept: None) -> tuple[Any, ...]:
    kept, v_init, constants, lengths = ctx.saved_tensors
    grads: tuple[Tensor, ...] = torch.ops.snn_core.lif_backward(
        grad_spikes, grad_v_last, kept, v_init, constants, lengths, *ctx.options, ctx.x_dtype, ctx.needs_input_grad[2]
    )
    wanted = [grad if needed else None for grad, needed in zip(grads, ctx.needs_input_grad[:3], strict=True)]
    return (*wanted, *[None] * (1 + len(ctx.options)))


_library.impl("lif", _lif, "CompositeExplicitAutograd")
_library.impl("lif_forward", _lif_forward_only, "CompositeExplicitAutograd")
_library.impl("lif_backward", _lif_backward, "CompositeExplicitAutograd")
torch.library.register_fake("snn_core::lif", _like, lib=_library)
torch.library.register_fake("snn_core::lif_forward", _like_forward_only, lib=_library)
torch.library.register_fake("snn_core::lif_backward", _like_backward, lib=_library)
torch.library.register_autograd("snn_core::lif", _autograd, setup_context=_setup_context, lib=_library)


class _Eager(torch.autograd.Function):
    """What the registered operations do, called straight; takes surrogates without a name, too."""

    @staticmethod
    def forward(
        ctx: Any,
        x: Tensor,
        v_init: Tensor,
        constants: Tensor | None,
        lengths: Tensor | None,
        s: Settings,
        own: SurrogateGradient | None,
        implementation: str,
    ) -> tuple[Tensor, Tensor]:
        spikes, v_last, kept = run(x, v_init, s, implementation, keep=True, lengths=lengths)
        ctx.settings, ctx.own, ctx.implementation, ctx.x_dtype = s, own, implementation, x.dtype
        ctx.save_for_backward(x if s.save == "x" else kept, v_init, lengths)
        ctx.set_materialize_grads(False)
        return spikes, v_last

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grads: Any) -> tuple[Any, ...]:  # pyright: ignore[reportIncompatibleMethodOverride]
        kept, v_init, lengths = ctx.saved_tensors
        wanted = ctx.needs_input_grad
        grad_spikes, grad_v_last = grads
        grad_x, grad_v, grad_constants = run_backward(
            grad_spikes,
            grad_v_last,
            kept,
            v_init,
            ctx.settings,
            ctx.implementation,
            x_dtype=ctx.x_dtype,
            learned=wanted[2],
            lengths=lengths,
            bump=ctx.own,
        )
        return (
            grad_x if wanted[0] else None,
            grad_v if wanted[1] else None,
            grad_constants if wanted[2] else None,
            None,
            None,
            None,
            None,
        )
