"""Neurons and layers of the baseline: linear or convolution -> batch norm -> neuron."""

from __future__ import annotations

from collections.abc import Callable

import torch
from spikingjelly.activation_based import layer, neuron, surrogate
from torch import Tensor, nn

NodeFactory = Callable[[], nn.Module]
"""Builds one layer of neurons: a module from currents [T, ...] to spikes [T, ...]."""


def lif_node() -> neuron.LIFNode:
    """Return SpikingJelly's LIF with the published constants; gradients flow through time."""
    return neuron.LIFNode(tau=2.0, detach_reset=True, surrogate_function=surrogate.Sigmoid(4.0), step_mode="m")


class DetachedLIFNode(neuron.SimpleBaseNode):
    """LIF whose potential is detached between time steps, as in the published code: no gradient flows through time.

    `SimpleBaseNode` is SpikingJelly's class for neurons with another charge equation. Here it is also the
    fastest way: `SLTTLIFNode`, which detaches too, runs one step at a time.
    """

    v: float | Tensor
    """Membrane potential [...]; a number before the first step."""

    def __init__(self) -> None:
        super().__init__(surrogate_function=surrogate.Sigmoid(4.0), detach_reset=True, step_mode="m")
        self.tau = 2.0

    def neuronal_charge(self, x: Tensor) -> None:
        """Currents [...] of one time step: h = v + (x - v) / tau."""
        v = self.v.detach() if isinstance(self.v, Tensor) else self.v
        self.v = v + (x - v) / self.tau


class ConvLayer(nn.Module):
    """3x3 convolution without bias -> batch norm -> neuron.

    Shape: maps [T, B, C_in, H, W] -> spikes [T, B, C_out, H, W]
    """

    def __init__(self, in_channels: int, out_channels: int, node: NodeFactory) -> None:
        super().__init__()
        self.conv = layer.Conv2d(in_channels, out_channels, 3, padding=1, bias=False, step_mode="m")
        self.norm = layer.BatchNorm2d(out_channels, step_mode="m")
        self.neuron = node()

    def forward(self, x: Tensor) -> Tensor:
        """Maps [T, B, C_in, H, W] -> spikes [T, B, C_out, H, W]."""
        return self.neuron(self.norm(self.conv(x)))


class LinearLayer(nn.Module):
    """Linear -> batch norm -> neuron; the batch of the batch norm is T*B*N.

    A linear layer over [T, B, N, C] is a 1x1 convolution over [T*B, C, N] that needs no transposition, and is faster.

    Shape: tokens [T, B, N, C_in] -> spikes [T, B, N, C_out]
    """

    def __init__(self, in_channels: int, out_channels: int, node: NodeFactory, *, bias: bool = False) -> None:
        super().__init__()
        self.linear = nn.Linear(in_channels, out_channels, bias=bias)
        self.norm = nn.BatchNorm1d(out_channels)
        self.neuron = node()

    def forward(self, x: Tensor) -> Tensor:
        """Tokens [T, B, N, C_in] -> spikes [T, B, N, C_out]."""
        drive = self.norm(self.linear(x).flatten(0, 2)).unflatten(0, x.shape[:3])
        return self.neuron(drive)


class Projection(nn.Module):
    """Linear with bias -> neuron: the semantic projection of the residuals.

    Shape: residual [T, B, N, C] -> spikes [T, B, N, C]
    """

    def __init__(self, channels: int, node: NodeFactory) -> None:
        super().__init__()
        self.linear = nn.Linear(channels, channels)
        self.neuron = node()

    def forward(self, x: Tensor) -> Tensor:
        """Residual [T, B, N, C] -> spikes [T, B, N, C]."""
        return self.neuron(self.linear(x))


class MLP(nn.Module):
    """Two linear layers with four times the width between them.

    Shape: tokens [T, B, N, C] -> spikes [T, B, N, C]
    """

    def __init__(self, channels: int, node: NodeFactory) -> None:
        super().__init__()
        self.expand = LinearLayer(channels, 4 * channels, node, bias=True)
        self.contract = LinearLayer(4 * channels, channels, node, bias=True)

    def forward(self, x: Tensor) -> Tensor:
        """Tokens [T, B, N, C] -> spikes [T, B, N, C]."""
        return self.contract(self.expand(x))


class Attention(nn.Module):
    """Spiking attention without softmax: neuron(0.25 * query key^T value), then a linear layer.

    Over tokens within each time step, or over time at each token. Over time, the heads are merged as in the published
    code, which reads [h, T, d] as [T, h d].

    Shape: target [T, B, N, C], source [T, B, N, C] -> spikes [T, B, N, C]
    """

    def __init__(self, channels: int, num_heads: int, node: NodeFactory, *, over_time: bool) -> None:
        super().__init__()
        self.num_heads = num_heads
        self.over_time = over_time
        self.query = LinearLayer(channels, channels, node)
        self.key = LinearLayer(channels, channels, node)
        self.value = LinearLayer(channels, channels, node)
        self.spike = node()
        self.output = LinearLayer(channels, channels, node)

    def forward(self, target: Tensor, source: Tensor) -> Tensor:
        """Target [T, B, N, C], source [T, B, N, C] -> spikes [T, B, N, C]."""
        q, k, v = (self._split_heads(x) for x in (self.query(target), self.key(source), self.value(source)))
        attended = (q @ k.transpose(-2, -1)) @ v * 0.25
        return self.output(self.spike(self._merge_heads(attended, target.shape)))

    def _split_heads(self, x: Tensor) -> Tensor:
        """[T, B, N, C] -> [T, B, h, N, d], or over time [B, N, h, T, d]."""
        heads = x.unflatten(-1, (self.num_heads, -1))
        return heads.permute(1, 2, 3, 0, 4) if self.over_time else heads.transpose(2, 3)

    def _merge_heads(self, x: Tensor, shape: torch.Size) -> Tensor:
        """Invert `_split_heads`, except that time and heads are mixed over time: -> [T, B, N, C]."""
        T, B, N, C = shape
        if self.over_time:
            return x.reshape(B, N, T, C).permute(2, 0, 1, 3)
        return x.transpose(2, 3).reshape(T, B, N, C)
