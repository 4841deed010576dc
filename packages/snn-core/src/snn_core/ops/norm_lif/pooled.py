"""Batch norm, neuron and max-pooling of maps as one operation on the CPU; the code is in `pooled.c`.

Only the input of the batch norm is saved. The spikes before the pooling, four times as many as after it, are never
stored, nor are the positions of the maxima; without the fusion they take 12 bytes per element and time step.
"""

# PyTorch leaves the types of its autograd functions open.
# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false
from __future__ import annotations

import ctypes
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from snn_core.ops.common.arguments import check_differentiation
from snn_core.ops.common.call import NeuronCall
from snn_core.ops.common.memory import empty, empty_like
from snn_core.ops.common.native import INTEGER, POINTER, Library, job_type, job_values
from snn_core.ops.common.operation import Constants, is_traced
from snn_core.ops.common.threads import split
from snn_core.ops.lif import LIF_OPERATION
from snn_core.ops.lif.constants import LIFConstants
from snn_core.ops.norm_lif.batch_norm import gradients, moments
from snn_core.ops.norm_lif.settings import Layout, Statistics

RING = 1 << 21
"""Bytes of the rows that are processed at once. On a processor with 2 MB of second-level cache, half of it took 1.1 to
1.3 times as long, and twice as much no less."""


class _Stage(ctypes.Structure):
    _fields_ = (
        ("neuron", job_type(LIFConstants)),
        *((name, INTEGER) for name in ("B", "H", "W", "C", "out_H", "out_W")),
        *(
            (name, ctypes.c_int32)
            for name in ("kernel_h", "kernel_w", "stride_h", "stride_w", "pad_h", "pad_w", "is_static", "chunk")
        ),
    )


_library = Library(
    Path(__file__).with_name("pooled.c"),
    {"snn_pool_forward": [POINTER] * 4, "snn_pool_backward": [POINTER] * 5},
    returns={"snn_pool_space": ([POINTER, ctypes.c_int32], INTEGER)},
)


def can_pool(x: Tensor, constants: Constants, call: NeuronCall, pool: nn.MaxPool2d) -> bool:
    """Return whether `apply_pooled` supports these maps [..., H, W, C], this neuron and this pooling."""
    kernel, stride, _, dilation = _geometry(pool)
    return (
        x.device.type == "cpu"
        and x.dtype in (torch.float32, torch.bfloat16, torch.float16)
        and x.is_contiguous()
        and not is_traced(x)
        and isinstance(call.surrogate, str)
        and call.implementation in ("auto", "native")
        and not any(isinstance(value, Tensor) for value in constants)
        and dilation == (1, 1)
        # Every row and column is in a window.
        and all(step <= size for step, size in zip(stride, kernel, strict=True))
        and not pool.ceil_mode
        and not pool.return_indices
        and _library.unavailable_reason() is None
    )


def apply_pooled(
    x: Tensor,
    constants: Constants,
    weight: Tensor,
    bias: Tensor,
    statistics: Statistics | None,
    layout: Layout,
    call: NeuronCall,
    pool: nn.MaxPool2d,
) -> tuple[Tensor, Tensor, Tensor]:
    """Input x -> pooled spikes [T, B, H', W', C], and the mean and biased variance [C] that were used.

    x is contiguous, [T, B, H, W, C] or, if it is static, [B, H, W, C]; all neurons start at rest. `statistics` replace
    those of the batch.
    """
    check_differentiation(x)
    values = LIF_OPERATION.read_constants(*constants)
    return _Pooled.apply(x, weight, bias, statistics, layout, values, call, pool)  # pyright: ignore[reportReturnType]


class _Pooled(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        x: Tensor,
        weight: Tensor,
        bias: Tensor,
        statistics: Statistics | None,
        layout: Layout,
        constants: LIFConstants,
        call: NeuronCall,
        pool: nn.MaxPool2d,
    ) -> tuple[Tensor, Tensor, Tensor]:
        mean, var = statistics or moments(x.view(-1, x.shape[-1], 1), layout.eps, native=True)
        ctx.arguments, ctx.of_batch = (layout, constants, call, pool), statistics is None
        ctx.save_for_backward(x, weight, bias, mean, var)
        ctx.set_materialize_grads(False)
        ctx.mark_non_differentiable(mean, var)
        affine = _affine(weight, bias, mean, var, layout.eps)
        shape = _output_shape(x, layout, pool)
        spikes = empty(shape, dtype=x.dtype, device=x.device)
        _run("snn_pool_forward", x, shape, affine, layout, constants, call, pool, x.data_ptr(), spikes.data_ptr())
        return spikes, mean, var

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grads: Any) -> tuple[Any, ...]:  # pyright: ignore[reportIncompatibleMethodOverride]
        x, weight, bias, mean, var = ctx.saved_tensors
        layout, constants, call, pool = ctx.arguments
        if grads[0] is None:
            return (None,) * 8
        grad_spikes = grads[0].contiguous()
        grad_drive = empty_like(x)
        affine = _affine(weight, bias, mean, var, layout.eps)
        pointers = grad_spikes.data_ptr(), x.data_ptr(), grad_drive.data_ptr()
        _run("snn_pool_backward", x, grad_spikes.shape, affine, layout, constants, call, pool, *pointers)
        channels = x.shape[-1]
        grad_x, grad_weight, grad_bias = gradients(
            grad_drive.view(-1, channels, 1),
            x.view(-1, channels, 1),
            weight,
            mean,
            var,
            layout.eps,
            of_batch=ctx.of_batch,
            native=True,
        )
        return grad_x.view(x.shape), grad_weight, grad_bias, None, None, None, None, None


def _affine(weight: Tensor, bias: Tensor, mean: Tensor, var: Tensor, eps: float) -> tuple[Tensor, Tensor]:
    scale = weight * torch.rsqrt(var + eps)
    return scale, torch.addcmul(bias, mean, scale, value=-1)


def _run(
    function: str,
    x: Tensor,
    out_shape: tuple[int, ...],
    affine: tuple[Tensor, Tensor],
    layout: Layout,
    constants: LIFConstants,
    call: NeuronCall,
    pool: nn.MaxPool2d,
    *pointers: int,
) -> None:
    """Call the C function on all samples."""
    T, B, out_H, out_W, C = out_shape
    H, W = x.shape[-3:-1]
    kernel, stride, padding, _ = _geometry(pool)
    # Gap and gradient of every row in the window, for all channels or a power of two of them.
    chunk = RING // (2 * 4 * T * kernel[0] * W)
    chunk = C if chunk >= C else max(16, 1 << chunk.bit_length() >> 1)
    backward = int(function == "snn_pool_backward")
    run_samples = _library.function(function)

    def run(start: int, stop: int) -> None:
        neuron = job_values(T, B, start, stop, constants, call, x.dtype, lengths=None, affine=(*affine, 1))
        geometry = (B, H, W, C, out_H, out_W, *kernel, *stride, *padding, int(bool(layout.repeats)), min(chunk, C))
        stage = _Stage(job_type(LIFConstants)(*neuron), *geometry)
        size = _library.function("snn_pool_space")(ctypes.byref(stage), backward)
        space = torch.empty(size)
        run_samples(ctypes.byref(stage), *pointers, space.data_ptr())

    split(run, B, steps=T * H * W * C, multiple=1)


def _output_shape(x: Tensor, layout: Layout, pool: nn.MaxPool2d) -> tuple[int, int, int, int, int]:
    *steps, B, H, W, C = x.shape
    kernel, stride, padding, _ = _geometry(pool)
    out_H, out_W = (
        (size + 2 * pad - window) // step + 1
        for size, pad, window, step in zip((H, W), padding, kernel, stride, strict=True)
    )
    return layout.repeats or steps[0], B, out_H, out_W, C


def _geometry(pool: nn.MaxPool2d) -> tuple[tuple[int, int], ...]:
    """Return kernel size, stride, padding and dilation, each of height and width."""
    values = pool.kernel_size, pool.stride, pool.padding, pool.dilation
    return tuple((value, value) if isinstance(value, int) else (value[0], value[1]) for value in values)
