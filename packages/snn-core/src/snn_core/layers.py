"""Layers that end in a neuron: compute a real-valued drive, normalize it, spike.

Each is a `SpikingLayer`: its neuron is called `neuron`, and `adjust_drive` scales and shifts the input of that neuron.
Calibration sets firing rates with it, whatever the type of the layer.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Any, TypeGuard

import torch
from torch import Tensor, nn

from snn_core.argument_checks import check_number
from snn_core.distributed import SynchronizedBatchNorm
from snn_core.neurons.lif import LIF, LeakyNeuron
from snn_core.ops.norm_lif import update_running_statistics
from snn_core.ops.norm_lif.settings import BatchNorm, InputNorm

NeuronFactory = Callable[[], nn.Module]
"""Builds one layer of neurons: a module from currents [T, ...] to spikes [T, ...]."""


class SpikingLayer(nn.Module, ABC):
    """A layer whose last step is one neuron."""

    neuron: nn.Module

    @abstractmethod
    def adjust_drive(self, gain: float, offset: float) -> None:
        """Change the parameters in place so that the neuron receives `gain * drive + offset`."""


@torch.no_grad()
def _adjust_affine(weight: Tensor, bias: Tensor, gain: float, offset: float) -> None:
    weight.mul_(gain)
    bias.mul_(gain).add_(offset)


def _can_fuse(norm: nn.Module, neuron: nn.Module) -> TypeGuard[BatchNorm]:
    """Return whether batch norm and neuron can run as one operation: known types, and no hook between them."""
    return (
        isinstance(neuron, LeakyNeuron)
        and type(neuron).forward is LeakyNeuron.forward
        and type(norm) in (nn.BatchNorm1d, nn.BatchNorm2d)
        and norm.affine is True
        # Hooks on the neuron's output are unaffected by fusion.
        and not any(_hooks(norm, *_ALL_HOOKS))
        and not any(_hooks(neuron, "forward_pre", "backward"))
    )


_ALL_HOOKS = ("forward_pre", "forward", "backward_pre", "backward")


def _hooks(module: nn.Module, *kinds: str) -> list[Any]:
    return [getattr(module, f"_{kind}_hooks") for kind in kinds]


class SpikingLinear(SpikingLayer):
    """Linear -> batch norm -> neuron, over tokens.

    The batch of the batch norm is T*B*N. With `norm=False` the linear layer has a bias instead. Batch norm and an IF,
    LIF or PLIF neuron run as one fused operation, which saves only the output of the linear layer for the backward. A
    hook between the two, or another type of module, disables the fusion. The linear layer saves its input: within
    `spikes_as_bits` as one bit a spike.

    Shape: [T, B, N, C_in] (any axes between T and channels) -> spikes [T, B, N, C_out]
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        *,
        bias: bool = False,
        norm: bool = True,
        neuron: NeuronFactory = LIF,
    ) -> None:
        super().__init__()
        if not norm and not bias:
            raise ValueError("a spiking linear layer needs norm or bias, or nothing can shift its drive")
        self.linear = nn.Linear(in_channels, out_channels, bias=bias)
        self.norm = nn.BatchNorm1d(out_channels) if norm else None
        self.neuron = neuron()

    def forward(self, x: Tensor) -> Tensor:
        """Tokens [T, B, N, C_in] -> spikes [T, B, N, C_out]."""
        drive = self.linear(x)
        if self.norm is None:
            return self.neuron(drive)
        if _can_fuse(self.norm, self.neuron):
            return self.neuron(drive, norm=InputNorm(self.norm))
        return self.neuron(self.norm(drive.flatten(0, -2)).view(drive.shape))

    def adjust_drive(self, gain: float, offset: float) -> None:
        """Scale and shift the drive by weight and bias of the norm, or of the linear layer without one."""
        affine = self.linear if self.norm is None else self.norm
        _adjust_affine(affine.weight, affine.bias, gain, offset)


class SpikingConv2d(SpikingLayer):
    """Convolution (no bias) -> batch norm -> neuron, over feature maps.

    The batch of the batch norm is T*B. Convolution and batch norm of a static input [B, C, H, W] run once; values,
    gradients and running statistics equal those of the input repeated over time. Batch norm and neuron are fused as in
    `SpikingLinear`.

    Shape: [T, B, C_in, H, W], or static [B, C_in, H, W] with `time_steps` -> spikes [T, B, C_out, H', W']; with the
    defaults H' = H and W' = W.

    Args:
        in_channels: channels of the input.
        out_channels: channels of the spikes.
        kernel_size: height and width of the kernel.
        stride: stride of the kernel.
        padding: zeros added on each side.
        neuron: builds the neuron.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        *,
        kernel_size: int | tuple[int, int] = 3,
        stride: int | tuple[int, int] = 1,
        padding: int | tuple[int, int] = 1,
        neuron: NeuronFactory = LIF,
    ) -> None:
        super().__init__()
        self.conv = nn.Conv2d(in_channels, out_channels, kernel_size, stride=stride, padding=padding, bias=False)
        self.norm = nn.BatchNorm2d(out_channels)
        self.neuron = neuron()

    def forward(self, x: Tensor, *, time_steps: int | None = None, pool: nn.MaxPool2d | None = None) -> Tensor:
        """Maps [T, B, C_in, H, W], or [B, C_in, H, W] repeated for `time_steps` -> spikes [T, B, C_out, H', W'].

        `pool` is applied to the spikes. On the CPU the maps then have channels last in memory, and the pooling is fused
        with batch norm and neuron; a hook on the neuron, which reads the spikes before the pooling, disables that.

        Raises:
            ValueError: a static input without `time_steps`, or a wrong number of axes.
        """
        if x.dim() != 5 and not (x.dim() == 4 and time_steps is not None):
            raise ValueError(
                f"maps must be [T, B, C, H, W], or [B, C, H, W] with time_steps, but the shape is {tuple(x.shape)}"
                + ("" if time_steps else " and time_steps is not given")
            )
        maps = x.flatten(0, -4)
        if pool is not None and x.device.type == "cpu":
            maps = _channels_last(maps)
        drive, steps = self.conv(maps), time_steps
        if x.dim() == 5:
            drive, steps = drive.unflatten(0, x.shape[:2]), None
        if not _can_fuse(self.norm, self.neuron):
            spikes = self.neuron(self._normalize(drive, steps))
        elif pool is not None and not any(_hooks(self.neuron, "forward")) and not any(_hooks(pool, *_ALL_HOOKS)):
            return self.neuron(drive, norm=InputNorm(self.norm, steps, pool))
        else:
            spikes = self.neuron(drive, norm=InputNorm(self.norm, steps))
        return spikes if pool is None else pool(spikes.flatten(0, 1)).unflatten(0, spikes.shape[:2])

    def _normalize(self, drive: Tensor, time_steps: int | None) -> Tensor:
        """Apply the batch norm to [T, B, C, H, W], or to [B, C, H, W] and repeat it."""
        if time_steps is None:
            return self.norm(drive.flatten(0, 1)).unflatten(0, drive.shape[:2])
        return self._normalize_repeated(drive, time_steps).expand(time_steps, -1, -1, -1, -1)

    def _normalize_repeated(self, drive: Tensor, time_steps: int) -> Tensor:
        """Apply batch norm as if `drive` were repeated `time_steps` times in the batch.

        Only the unbiased variance, which updates the running variance, depends on the repetition.
        """
        if isinstance(self.norm, SynchronizedBatchNorm):
            return self.norm(drive, repeats=time_steps)
        if not (type(self.norm) is nn.BatchNorm2d and self.training and self.norm.track_running_stats):
            return self.norm(drive)
        normalized, mean, invstd = torch.native_batch_norm(
            drive, self.norm.weight, self.norm.bias, None, None, True, 0.0, self.norm.eps
        )
        count = drive.numel() // drive.shape[1] * time_steps
        update_running_statistics(self.norm, mean, invstd.square().reciprocal() - self.norm.eps, count)
        return normalized

    def adjust_drive(self, gain: float, offset: float) -> None:
        """Scale and shift the drive by weight and bias of the batch norm."""
        _adjust_affine(self.norm.weight, self.norm.bias, gain, offset)


def _channels_last(maps: Tensor) -> Tensor:
    """Return maps [B, C, H, W] with channels last in memory."""
    if maps.shape[1] == 1:
        # Both formats describe one channel. The stride of its axis tells which one the convolution writes.
        maps = maps[:, 0].unsqueeze(-1).permute(0, 3, 1, 2)
    return maps.contiguous(memory_format=torch.channels_last)


class ScaledSpike(SpikingLayer):
    """A neuron whose input is scaled by one stored factor, for counts without a normalization.

    Shape: [T, ...] -> spikes [T, ...]

    Raises:
        ValueError: the scale is not finite.
    """

    scale: Tensor

    def __init__(self, scale: float, *, neuron: NeuronFactory = LIF) -> None:
        super().__init__()
        check_number("scale", scale)
        self.register_buffer("scale", torch.tensor(float(scale)))
        self.neuron = neuron()

    def forward(self, x: Tensor) -> Tensor:
        """Drive [T, ...] -> spikes [T, ...]."""
        return self.neuron(x * self.scale)

    @torch.no_grad()
    def adjust_drive(self, gain: float, offset: float) -> None:
        """Scale the drive by the stored factor.

        Raises:
            ValueError: the offset is not 0.
        """
        if offset:
            raise ValueError(f"a scaled spike can only scale its drive, but offset is {offset}")
        self.scale.mul_(gain)


class SpikingMLP(nn.Module):
    """The feed-forward part of a Transformer: two linear -> batch norm -> neuron layers with a wider middle.

    Shape: tokens [T, B, N, C] -> spikes [T, B, N, C]
    """

    def __init__(self, channels: int, *, expansion: int = 4, neuron: NeuronFactory = LIF) -> None:
        super().__init__()
        check_number("expansion", expansion, at_least=1)
        self.expand = SpikingLinear(channels, channels * expansion, bias=True, neuron=neuron)
        self.contract = SpikingLinear(channels * expansion, channels, bias=True, neuron=neuron)

    def forward(self, x: Tensor) -> Tensor:
        """Tokens [T, B, N, C] -> spikes [T, B, N, C]."""
        return self.contract(self.expand(x))
