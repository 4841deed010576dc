"""Batch norm and the neuron as one operation, which keeps half of what the two keep one after the other.

Of an element and time step only batch norm's input stays for the backward: the normalized drive is computed where the
neuron reads it, forward and backward. `reference.py` holds the equations.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from snn_core.ops.common.arguments import check_constants, check_lengths, check_save
from snn_core.ops.lif import Implementation, Save, which_implementation
from snn_core.ops.norm_lif.batch_norm import arithmetic_dtype
from snn_core.ops.norm_lif.operation import Layout, apply
from snn_core.surrogate import SurrogateGradient, surrogate_gradient

__all__ = ["BatchNorm", "InputNorm", "norm_leaky_integrate_fire", "update_running_statistics"]

BatchNorm = nn.BatchNorm1d | nn.BatchNorm2d


@dataclass(frozen=True)
class InputNorm:
    """A batch norm between an input and the neuron that receives it."""

    module: BatchNorm
    """Normalizes tokens [T, ..., C] (BatchNorm1d) or maps [T, ..., C, H, W] (BatchNorm2d); it has weight and bias."""
    time_steps: int | None = None
    """How many steps an input without a time axis stays the same; None for an input with one."""


def norm_leaky_integrate_fire(
    x: Tensor,
    *,
    norm: InputNorm,
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
    lengths: Tensor | None = None,
    implementation: Implementation = "auto",
) -> tuple[Tensor, Tensor]:
    """Batch norm, then the neuron; in training, the norm's running statistics move as `nn.BatchNorm2d` moves them.

    What stands after `norm` is what `leaky_integrate_fire` takes. Whatever `save` says, x itself is kept, and
    potentials are computed from it once more; padding counts for the batch norm as it does where the two are apart.

    Args:
        x: input of the batch norm: tokens [T, ..., C] or maps [T, ..., C, H, W], without T if it stays the same.
        norm: the batch norm, and for how many steps x stays the same if it has no time axis.
        decay: share of the potential that is left after a step.
        gain: factor on the normalized current.
        v_threshold: the neuron fires when its potential reaches this.
        v_init: potential before the first step [...].
        v_reset: potential after a spike; None subtracts the threshold instead.
        detach_reset: no gradient through the spike in the reset.
        detach_membrane: no gradient through the potential between time steps.
        surrogate: name from `snn_core.SURROGATES`, or a function of one's own.
        slope: the surrogate's slope.
        save: must suit the other arguments.
        lengths: how many steps each sample has [B].
        implementation: `auto`, or one by name.

    Returns:
        spikes [T, ...] in the dtype of x, and the last membrane potential [...] in float32 (float64 if x is).

    Raises:
        ValueError: x has not the norm's channels, only one value a channel to take statistics of, and the errors of
            `leaky_integrate_fire`.
    """
    module, repeats = norm.module, norm.time_steps or 0
    assert module.weight is not None
    assert module.bias is not None
    axis = -1 if isinstance(module, nn.BatchNorm1d) else -3
    sample = x.shape[0 if norm.time_steps is not None else 1 :]
    if len(sample) < -axis or sample[axis] != module.num_features:
        axes = "[T, ..., C]" if axis == -1 else "[T, ..., C, H, W]"
        raise ValueError(f"x is {axes} with C = {module.num_features} as the batch norm's, but it is {tuple(x.shape)}")
    if 0 in (norm.time_steps, *x.shape[: x.dim() - len(sample)]):
        raise ValueError(f"x needs at least one time step, but it has none: {tuple(x.shape)}, {norm.time_steps} steps")
    if v_init is not None and v_init.shape != sample:
        raise ValueError(f"v_init has shape {tuple(v_init.shape)}, but one time step of x has {tuple(sample)}")
    learned = any(isinstance(c, Tensor) and c.requires_grad for c in (decay, gain, v_threshold))
    check_save(save, surrogate, detach_reset, learned)
    check_constants(v_threshold, v_reset, slope)
    if not callable(surrogate):
        surrogate_gradient(surrogate)
    if implementation != "auto":
        which_implementation(x, surrogate=surrogate, implementation=implementation)
    if lengths is not None:
        lengths = check_lengths(lengths, x.expand(repeats, *sample) if repeats else x)

    dtype, rest = arithmetic_dtype(x), v_reset or 0.0
    if v_init is None:
        v = torch.zeros((), dtype=dtype, device=x.device).expand(sample)
    else:
        v = v_init.to(dtype) - rest if rest else v_init.to(dtype)

    # Maps with channels last in memory are worked through in that order, as tokens are.
    last = axis == -3 and not x.is_contiguous() and x.movedim(-3, -1).is_contiguous()
    if last:
        x, v = x.movedim(-3, -1), v.movedim(-3, -1)
    inner = 1 if last or axis == -1 else x.shape[-1] * x.shape[-2]
    statistics = _statistics(module)
    count = x.numel() // len(module.weight)
    if statistics is None and count < 2:
        raise ValueError(f"a batch's variance needs more than one value a channel, but x has shape {tuple(x.shape)}")
    spikes, v_last, mean, var = apply(
        x.contiguous(),
        v,
        (decay, gain, v_threshold - rest if rest else v_threshold),
        lengths,
        module.weight.to(dtype),
        module.bias.to(dtype),
        statistics,
        Layout(inner, module.eps, repeats),
        (v_reset is None, detach_reset, detach_membrane, surrogate, slope, "x", implementation),
    )
    if statistics is None:
        update_running_statistics(module, mean, var, count * max(1, repeats))
    if last:
        spikes, v_last = spikes.movedim(-1, -3), v_last.movedim(-1, -3)
    return spikes, v_last + rest if rest else v_last


def _statistics(module: BatchNorm) -> tuple[Tensor, Tensor] | None:
    """The running mean and variance if they are to be used, None if the batch's own are."""
    if module.training or module.running_mean is None or module.running_var is None:
        return None
    return module.running_mean, module.running_var


@torch.no_grad()
def update_running_statistics(module: BatchNorm, mean: Tensor, var: Tensor, count: int) -> None:
    """Move the running statistics toward a batch's, as `nn.BatchNorm2d` does in training; else do nothing.

    Once a batch: activation checkpointing computes a forward again during the backward, and that does not count here
    (`nn.BatchNorm2d` itself counts it twice).

    Args:
        module: the batch norm.
        mean: the batch's mean [C].
        var: the batch's biased variance [C]; the running one becomes that of the unbiased.
        count: how many values of a channel there were.
    """
    if not (module.training and module.track_running_stats) or _in_backward():
        return
    assert module.running_mean is not None
    assert module.running_var is not None
    assert module.num_batches_tracked is not None
    module.num_batches_tracked.add_(1)
    for running, found in ((module.running_mean, mean), (module.running_var, var * (count / (count - 1)))):
        # Without a momentum, all batches count the same.
        share = 1 / module.num_batches_tracked.to(running.dtype) if module.momentum is None else module.momentum
        running.lerp_(found.to(running.dtype), share)


def _in_backward() -> bool:
    return not torch.compiler.is_compiling() and torch._C._current_graph_task_id() != -1  # pyright: ignore[reportAttributeAccessIssue, reportPrivateUsage, reportUnknownMemberType]
