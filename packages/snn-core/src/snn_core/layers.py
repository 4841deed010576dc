"""Layers that end in a neuron: a real-valued drive is computed, normalised, and fired.

Every one is a `SpikingLayer`: it names its neuron `neuron`, and `adjust_drive` scales and shifts what that neuron
receives, which is how data-dependent initialisation sets firing rates without knowing what kind of layer it is.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from snn_core.neurons import LIF

NeuronFactory = Callable[[], nn.Module]
"""Makes one neuron layer: a module from currents [T, ...] to spikes [T, ...]."""


class SpikingLayer(nn.Module, ABC):
    """A layer whose last step is one neuron."""

    neuron: nn.Module

    @abstractmethod
    def adjust_drive(self, gain: float, offset: float) -> None:
        """Change the parameters in place so that the neuron receives `gain * drive + offset` from now on."""


@torch.no_grad()
def _adjust_affine(weight: Tensor, bias: Tensor, gain: float, offset: float) -> None:
    weight.mul_(gain)
    bias.mul_(gain).add_(offset)


class SpikingLinear(SpikingLayer):
    """Linear -> batch norm -> neuron, over tokens.

    Batch norm sees T*B*N as its batch. With `norm=False` the linear layer's own bias takes its place.

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
            raise ValueError("a spiking linear layer needs norm or bias: without both nothing can shift its drive")
        self.linear = nn.Linear(in_channels, out_channels, bias=bias)
        self.norm = nn.BatchNorm1d(out_channels) if norm else None
        self.neuron = neuron()

    def forward(self, x: Tensor) -> Tensor:
        """Tokens [T, B, N, C_in] -> spikes [T, B, N, C_out]."""
        drive = self.linear(x)
        if self.norm is not None:
            drive = self.norm(drive.flatten(0, -2)).view(drive.shape)
        return self.neuron(drive)

    def adjust_drive(self, gain: float, offset: float) -> None:
        """Change the normalisation's (or the linear layer's) scale and bias in place."""
        affine = self.linear if self.norm is None else self.norm
        _adjust_affine(affine.weight, affine.bias, gain, offset)


class SpikingConv2d(SpikingLayer):
    """Convolution 3x3 (stride 1, padding 1, no bias) -> batch norm -> neuron, over feature maps.

    Batch norm sees T*B as its batch. A static input [B, C, H, W] is the same at each time step, so its convolution and
    batch norm run once; values, gradients and running statistics equal those of the input repeated over time.

    Shape: [T, B, C_in, H, W], or static [B, C_in, H, W] with `time_steps` -> spikes [T, B, C_out, H, W]
    """

    def __init__(self, in_channels: int, out_channels: int, *, neuron: NeuronFactory = LIF) -> None:
        super().__init__()
        self.conv = nn.Conv2d(in_channels, out_channels, 3, padding=1, bias=False)
        self.norm = nn.BatchNorm2d(out_channels)
        self.neuron = neuron()

    def forward(self, x: Tensor, *, time_steps: int | None = None) -> Tensor:
        """Maps [T, B, C_in, H, W], or [B, C_in, H, W] held for `time_steps` -> spikes [T, B, C_out, H, W].

        Raises:
            ValueError: a static input without `time_steps`, or another number of axes.
        """
        if x.dim() == 5:
            drive = self.norm(self.conv(x.flatten(0, 1))).unflatten(0, x.shape[:2])
        elif x.dim() == 4 and time_steps is not None:
            drive = self._normalise_repeated(self.conv(x), time_steps).expand(time_steps, -1, -1, -1, -1)
        else:
            raise ValueError(
                f"maps are [T, B, C, H, W], or [B, C, H, W] with time_steps, but the shape is {tuple(x.shape)}"
                + ("" if time_steps else " and time_steps is not given")
            )
        return self.neuron(drive)

    def _normalise_repeated(self, drive: Tensor, time_steps: int) -> Tensor:
        """Batch norm of `drive` as if it stood `time_steps` times in the batch.

        Mean and biased variance are the same; only the unbiased variance, which goes into the running one, is not:
        n / (n - 1) of n values becomes nT / (nT - 1) of nT.
        """
        if not (self.training and self.norm.track_running_stats):
            return self.norm(drive)
        assert self.norm.running_var is not None
        assert self.norm.num_batches_tracked is not None
        assert self.norm.momentum is not None
        momentum, running_var = self.norm.momentum, self.norm.running_var
        # Autograd keeps the tensor it was given, so batch norm updates a copy and the corrected value is stored apart.
        updated = running_var.clone()
        normalised = F.batch_norm(
            drive,
            self.norm.running_mean,
            updated,
            self.norm.weight,
            self.norm.bias,
            training=True,
            momentum=momentum,
            eps=self.norm.eps,
        )
        with torch.no_grad():
            self.norm.num_batches_tracked.add_(1)
            kept = running_var * (1 - momentum)
            n = drive.numel() // drive.shape[1]
            factor = (n - 1) / n * (n * time_steps) / (n * time_steps - 1)
            running_var.copy_(kept + (updated - kept) * factor)
        return normalised

    def adjust_drive(self, gain: float, offset: float) -> None:
        """Change the batch norm's scale and bias in place."""
        _adjust_affine(self.norm.weight, self.norm.bias, gain, offset)


class ScaledSpike(SpikingLayer):
    """A neuron on a drive times one stored scale, for integer counts that no normalisation precedes.

    Shape: [T, ...] -> spikes [T, ...]
    """

    scale: Tensor

    def __init__(self, scale: float, *, neuron: NeuronFactory = LIF) -> None:
        super().__init__()
        self.register_buffer("scale", torch.tensor(float(scale)))
        self.neuron = neuron()

    def forward(self, x: Tensor) -> Tensor:
        """Drive [T, ...] -> spikes [T, ...]."""
        return self.neuron(x * self.scale)

    @torch.no_grad()
    def adjust_drive(self, gain: float, offset: float) -> None:
        """Change the scale in place.

        Raises:
            ValueError: an offset other than 0, which a scale cannot give.
        """
        if offset:
            raise ValueError(f"a scaled spike can change its drive's gain only, but offset is {offset}")
        self.scale.mul_(gain)


class SpikingMLP(nn.Module):
    """Two linear -> batch norm -> neuron layers with a wider middle, the Transformer's feed-forward part.

    Shape: tokens [T, B, N, C] -> spikes [T, B, N, C]
    """

    def __init__(self, channels: int, *, expansion: int = 4, neuron: NeuronFactory = LIF) -> None:
        super().__init__()
        self.expand = SpikingLinear(channels, channels * expansion, bias=True, neuron=neuron)
        self.contract = SpikingLinear(channels * expansion, channels, bias=True, neuron=neuron)

    def forward(self, x: Tensor) -> Tensor:
        """Tokens [T, B, N, C] -> spikes [T, B, N, C]."""
        return self.contract(self.expand(x))
