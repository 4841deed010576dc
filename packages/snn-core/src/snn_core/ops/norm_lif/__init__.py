"""Batch norm and neuron as one operation, which saves half of what the two save separately.

Only the input of the batch norm is saved for the backward: the normalized drive is computed where the neuron reads it,
forward and backward. `reference.py` has the equations.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from snn_core.ops.common.arguments import check_call, check_lengths, check_threshold, state_dtype
from snn_core.ops.common.call import NeuronCall
from snn_core.ops.common.implementation import choose
from snn_core.ops.common.operation import Constants
from snn_core.ops.lif import LIF_OPERATION
from snn_core.ops.norm_lif.operation import apply
from snn_core.ops.norm_lif.pooled import apply_pooled, can_pool
from snn_core.ops.norm_lif.settings import BatchNorm, InputNorm, Layout, Statistics


def norm_lif(
    x: Tensor,
    norm: InputNorm,
    constants: Constants,
    call: NeuronCall,
    *,
    v_init: Tensor | None,
    v_reset: float | None,
    lengths: Tensor | None,
    return_v: bool = True,
) -> tuple[Tensor, Tensor | None]:
    """Run batch norm and neuron; in training, update the running statistics as `nn.BatchNorm2d` does.

    Potentials are recomputed from x for every `save`. Padding is included in the statistics, as without fusion.

    Args:
        x: input of the batch norm: tokens [T, ..., C] or maps [T, ..., C, H, W], without T if it is static.
        norm: the batch norm, and the number of steps of a static x.
        constants: decay, gain and threshold, see `LIFConstants`; the threshold is absolute.
        call: the options.
        v_init: potential before the first step [...]; None means at rest.
        v_reset: potential after a spike; None subtracts the threshold instead.
        lengths: number of steps of each sample [B].
        return_v: whether to return the last membrane potential.

    Returns:
        spikes [T, ...] in the dtype of x, pooled if the norm has a `pool`, and the last membrane potential [...] in
        float32 (float64 if x is), or None.

    Raises:
        ValueError: x does not have the channels of the norm, there is only one value per channel to compute statistics
            from, and the errors of `snn_core.lif`.
    """
    module, repeats = norm.module, norm.time_steps or 0
    assert module.weight is not None
    assert module.bias is not None
    axis = -1 if isinstance(module, nn.BatchNorm1d) else -3
    sample = x.shape[0 if norm.time_steps is not None else 1 :]
    if len(sample) < -axis or sample[axis] != module.num_features:
        axes = "[T, ..., C]" if axis == -1 else "[T, ..., C, H, W]"
        raise ValueError(
            f"x must be {axes} with C = {module.num_features} of the batch norm, but it is {tuple(x.shape)}"
        )
    if 0 in (norm.time_steps, *x.shape[: x.dim() - len(sample)]):
        raise ValueError(f"x needs at least one time step, but it has none: {tuple(x.shape)}, {norm.time_steps} steps")
    if v_init is not None and v_init.shape != sample:
        raise ValueError(f"v_init has shape {tuple(v_init.shape)}, but one time step of x has {tuple(sample)}")
    decay, gain, threshold = constants
    check_call(call, learned=any(isinstance(c, Tensor) and c.requires_grad for c in constants))
    check_threshold(threshold, v_reset, call.slope)
    if call.implementation != "auto":
        choose(LIF_OPERATION.kernels, x, call.surrogate, call.implementation)
    if lengths is not None:
        lengths = check_lengths(lengths, x.expand(repeats, *sample) if repeats else x)

    dtype, rest = state_dtype(x), v_reset or 0.0
    v = None
    if v_init is not None:
        v = v_init.to(dtype) - rest if rest else v_init.to(dtype)

    # Maps with channels last in memory are processed in that order, like tokens.
    last = axis == -3 and not x.is_contiguous() and x.movedim(-3, -1).is_contiguous()
    if last:
        x, v = x.movedim(-3, -1), None if v is None else v.movedim(-3, -1)
    inner = 1 if last or axis == -1 else x.shape[-1] * x.shape[-2]
    statistics = _statistics(module)
    count = x.numel() // len(module.weight)
    if statistics is None and count < 2:
        raise ValueError(
            f"the variance of a batch needs more than one value per channel, but x has shape {tuple(x.shape)}"
        )
    relative = (decay, gain, threshold - rest if rest else threshold)
    weight, bias = module.weight.to(dtype), module.bias.to(dtype)
    layout, pool, v_last = Layout(inner, module.eps, repeats), norm.pool, None
    at_rest = v is None and lengths is None and not return_v
    pooled = pool is not None and last and at_rest and can_pool(x, relative, call, pool)
    if pool is not None and pooled:
        spikes, mean, var = apply_pooled(x, relative, weight, bias, statistics, layout, call, pool)
    else:
        spikes, v_last, mean, var = apply(
            x.contiguous(),
            v,
            relative,
            lengths,
            weight,
            bias,
            statistics,
            layout,
            call._replace(save="x"),
            return_v=return_v,
        )
    if statistics is None:
        update_running_statistics(module, mean, var, count * max(1, repeats))
    if last:
        spikes = spikes.movedim(-1, -3)
    if pool is not None and not pooled:
        spikes = pool(spikes.flatten(0, 1)).unflatten(0, spikes.shape[:2])
    if v_last is None or not return_v:
        return spikes, None
    if last:
        v_last = v_last.movedim(-1, -3)
    return spikes, v_last + rest if rest else v_last


def _statistics(module: BatchNorm) -> Statistics | None:
    """Return the running mean and variance if they are used, None if those of the batch are."""
    if module.training or module.running_mean is None or module.running_var is None:
        return None
    return Statistics(module.running_mean, module.running_var)


@torch.no_grad()
def update_running_statistics(module: BatchNorm, mean: Tensor, var: Tensor, count: int) -> None:
    """Update the running statistics as `nn.BatchNorm2d` does in training; else do nothing.

    Once per batch: the forward that activation checkpointing repeats in the backward does not count (in
    `nn.BatchNorm2d` it counts twice).

    Args:
        module: the batch norm.
        mean: the batch's mean [C].
        var: the batch's biased variance [C]; the running variance uses the unbiased one.
        count: number of values per channel.
    """
    if not (module.training and module.track_running_stats) or _in_backward():
        return
    assert module.running_mean is not None
    assert module.running_var is not None
    assert module.num_batches_tracked is not None
    module.num_batches_tracked.add_(1)
    for running, new in ((module.running_mean, mean), (module.running_var, var * (count / (count - 1)))):
        # Without a momentum, all batches have the same weight.
        weight = 1 / module.num_batches_tracked.to(running.dtype) if module.momentum is None else module.momentum
        running.lerp_(new.to(running.dtype), weight)


def _in_backward() -> bool:
    return not torch.compiler.is_compiling() and torch._C._current_graph_task_id() != -1  # pyright: ignore[reportAttributeAccessIssue, reportPrivateUsage, reportUnknownMemberType]
