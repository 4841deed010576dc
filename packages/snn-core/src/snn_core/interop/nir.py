"""Export to NIR, the exchange format of neuromorphic simulators and chips (Pedersen et al. 2024, arXiv:2311.14641).

Needs `pip install "snn-core[nir]"`. NIR describes neurons by differential equations; forward Euler with a step of dt
seconds yields our equations. With tau in time steps, v_rest = v_reset, and I the input current:

    nir.LIF   tau dt dv/dt = v_leak - v + r I    ->    v += (v_leak - v + r I) / tau
              v_leak = v_rest, r = 1 with decay_input, else tau
    nir.IF    dv/dt = r I                        ->    v += dt r I
              r = 1 / dt

A NIR neuron spikes above its threshold, ours at it. The threshold in the graph is therefore the float32 number just
below ours, so that both spike at the same float32 potentials.
"""

# nir ships no types.
# pyright: reportMissingTypeStubs=false, reportUnknownMemberType=false, reportUnknownVariableType=false
# pyright: reportUnknownArgumentType=false, reportUnknownParameterType=false
from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from itertools import pairwise
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from snn_core.layers import ScaledSpike, SpikingConv2d, SpikingLinear, SpikingMLP
from snn_core.neurons.lif import IF, LIF, PLIF

try:
    import nir
except ImportError as error:
    raise ImportError('snn_core.interop.nir needs the package nir: pip install "snn-core[nir]"') from error

__all__ = ["to_nir"]


@torch.no_grad()
def to_nir(module: nn.Module, *, input_shape: Sequence[int], dt: float = 1e-4, batch_axis: bool = True) -> nir.NIRGraph:
    """Convert a feed-forward network in evaluation mode to a NIR graph; `nir.write(path, graph)` saves it.

    Supported are `nn.Sequential` and our sequential layers (`SpikingLinear`, `SpikingConv2d`, `ScaledSpike`,
    `SpikingMLP`) of `nn.Linear`, `nn.Conv2d`, `nn.AvgPool2d`, `nn.Flatten`, batch norm directly after a linear layer or
    a convolution (folded into it), `nn.Dropout` and `nn.Identity` (dropped), `IF`, `LIF` and `PLIF` (as an LIF with its
    current tau). Nodes have the dotted names of the modules. NIR has no training settings (surrogate, detached terms)
    and no initial potential; ours is v_reset.

    Args:
        module: the network, in evaluation mode.
        input_shape: shape of one sample at one time step, without T and B, e.g. (2, 34, 34).
        dt: length of a time step in seconds.
        batch_axis: whether inputs are [T, B, ...] or [T, ...] without a batch; `nn.Flatten` counts axes by it.

    Raises:
        ValueError: NIR cannot express a module or setting (gives its path), the network is in training mode, dt is not
            above 0, or the input shape does not match the first layer.
    """
    if not dt > 0:
        raise ValueError(f"dt, the length of a time step in seconds, must be above 0, but it is {dt}")
    if module.training:
        raise ValueError("NIR describes networks in evaluation mode; call eval() on the network first")
    builder = _GraphBuilder(tuple(input_shape), dt, leading=2 if batch_axis else 1)
    builder.add("", module)
    return builder.graph()


class _GraphBuilder:
    """The chain of NIR nodes so far and the shape of its output."""

    def __init__(self, shape: tuple[int, ...], dt: float, leading: int) -> None:
        self.input_shape = self.shape = shape
        self.dt = dt
        self.leading = leading
        self.nodes: dict[str, nir.NIRNode] = {}
        self.rules: dict[type[nn.Module], Callable[[str, Any], None]] = {
            nn.Linear: self.linear,
            nn.Conv2d: self.conv2d,
            nn.BatchNorm1d: self.batch_norm,
            nn.BatchNorm2d: self.batch_norm,
            nn.AvgPool2d: self.avg_pool2d,
            nn.Flatten: self.flatten,
            IF: self.neuron,
            LIF: self.neuron,
            PLIF: self.neuron,
            ScaledSpike: self.scaled_spike,
        }

    def graph(self) -> nir.NIRGraph:
        chain = {
            "input": nir.Input(input_type={"input": np.array(self.input_shape)}),
            **self.nodes,
            "output": nir.Output(output_type={"output": np.array(self.shape)}),
        }
        names = list(chain)
        return nir.NIRGraph(nodes=chain, edges=list(pairwise(names)))

    def add(self, path: str, module: nn.Module) -> None:
        if type(module) in (nn.Identity, nn.Dropout, nn.Dropout1d, nn.Dropout2d):
            if module.training:
                raise _refusal(path, module, "it is in training mode; call eval() on it first")
        elif (
            type(module) in (SpikingLinear, SpikingConv2d, SpikingMLP) or type(module).forward is nn.Sequential.forward
        ):
            for name, child in module.named_children():
                self.add(f"{path}.{name}" if path else name, child)
        elif type(module) in self.rules:
            self.rules[type(module)](path, module)
        else:
            known = "nn.Sequential, SpikingLinear, SpikingConv2d, SpikingMLP, nn.Dropout, nn.Identity"
            rules = ", ".join(kind.__name__ for kind in self.rules)
            raise _refusal(path, module, f"there is no rule to export it; supported are {known}, {rules}")

    def append(self, name: str, node: nir.NIRNode, shape: Iterable[int]) -> None:
        if name in ("input", "output"):
            raise ValueError(f"a module is called {name!r}, which NIR reserves for an end of the graph; rename it")
        self.nodes[name or type(node).__name__.lower()] = node
        self.shape = tuple(int(size) for size in shape)

    def linear(self, path: str, module: nn.Linear) -> None:
        if self.shape != (module.in_features,):
            raise _refusal(
                path,
                module,
                f"it takes samples of shape ({module.in_features},), but its input is {self.shape}; "
                "NIR has no axes besides the channels here",
            )
        weight = _array(module.weight)
        biased = module.bias is not None  # pyright: ignore[reportUnnecessaryComparison]
        node = nir.Affine(weight, _array(module.bias)) if biased else nir.Linear(weight)
        self.append(path, node, (module.out_features,))

    def conv2d(self, path: str, module: nn.Conv2d) -> None:
        if module.groups != 1:
            raise _refusal(path, module, f"groups={module.groups}, but NIR supports only 1")
        if module.padding_mode != "zeros":
            raise _refusal(path, module, f"padding_mode={module.padding_mode!r}, but NIR supports only zeros")
        if module.kernel_size[0] != module.kernel_size[1]:
            # nir 1.0.8 uses the height as the width when it infers the output shape, here and in `nir.read`.
            raise _refusal(
                path, module, f"kernel_size={module.kernel_size}, but the package nir assumes square kernels"
            )
        self._check_map(path, module, module.in_channels)
        bias = np.zeros(module.out_channels, dtype=np.float32) if module.bias is None else _array(module.bias)
        node = nir.Conv2d(
            input_shape=_pair(self.shape[1:]),
            weight=_array(module.weight),
            stride=_pair(module.stride),
            padding=module.padding if isinstance(module.padding, str) else _pair(module.padding),
            dilation=_pair(module.dilation),
            groups=1,
            bias=bias,
        )
        self.append(path, node, node.output_type["output"])

    def batch_norm(self, path: str, module: nn.BatchNorm1d | nn.BatchNorm2d) -> None:
        """Fold `gain * (y - mean) + shift` into the weights and the bias that make y."""
        if module.training or module.running_mean is None or module.running_var is None:
            raise _refusal(path, module, "it can only be folded with running statistics, in evaluation mode")
        if module.num_features != self.shape[0]:
            raise _refusal(path, module, f"it normalizes {module.num_features} channels, but its input is {self.shape}")
        name, node = next(reversed(self.nodes.items()), ("", None))
        if not isinstance(node, nir.Linear | nir.Affine | nir.Conv2d):
            raise _refusal(
                path,
                module,
                "NIR has no batch norm; it must follow a linear layer or convolution to be folded into",
            )
        variance = module.running_var.double()
        gain = (variance + module.eps).rsqrt() * (module.weight.double() if module.affine else 1.0)
        shift = module.bias.double() if module.affine else 0.0
        bias = 0.0 if isinstance(node, nir.Linear) else torch.from_numpy(node.bias).double()
        bias = (bias - module.running_mean.double()) * gain + shift
        weight = torch.from_numpy(node.weight).double()
        weight = weight * gain.view(-1, *[1] * (weight.dim() - 1))
        if isinstance(node, nir.Conv2d):
            node.weight, node.bias = _array(weight), _array(bias)
        else:
            self.nodes[name] = nir.Affine(_array(weight), _array(bias))

    def avg_pool2d(self, path: str, module: nn.AvgPool2d) -> None:
        kernel, stride, padding = (
            np.array(_pair(size)) for size in (module.kernel_size, module.stride, module.padding)
        )
        if module.ceil_mode:
            raise _refusal(path, module, "ceil_mode=True, but NIR rounds sizes down")
        if padding.any() and not module.count_include_pad:
            raise _refusal(path, module, "count_include_pad=False, but NIR averages over the padding too")
        if module.divisor_override not in (None, 1):
            raise _refusal(
                path, module, f"divisor_override={module.divisor_override}, but NIR has only averages and sums (1)"
            )
        self._check_map(path, module, self.shape[0])
        kind = nir.SumPool2d if module.divisor_override == 1 else nir.AvgPool2d
        size = (np.array(self.shape[1:]) + 2 * padding - kernel) // stride + 1
        self.append(path, kind(kernel_size=kernel, stride=stride, padding=padding), (self.shape[0], *size))

    def flatten(self, path: str, module: nn.Flatten) -> None:
        axes = len(self.shape) + self.leading
        start, end = (dim % axes - self.leading for dim in (module.start_dim, module.end_dim))
        if start < 0:
            raise _refusal(
                path,
                module,
                f"start_dim={module.start_dim} flattens time or batch; a sample's first axis is {self.leading}",
            )
        node = nir.Flatten(input_type={"input": np.array(self.shape)}, start_dim=start, end_dim=end)
        self.append(path, node, node.output_type["output"])

    def scaled_spike(self, path: str, module: ScaledSpike) -> None:
        scale, neuron = (f"{path}.{name}" if path else name for name in ("scale", "neuron"))
        self.append(scale, nir.Scale(self._full(float(module.scale))), self.shape)
        self.add(neuron, module.neuron)

    def neuron(self, path: str, module: IF | LIF | PLIF) -> None:
        if module.v_reset is None:
            raise _refusal(path, module, "v_reset=None, but NIR has no soft reset; give it a v_reset")
        below = np.nextafter(np.float32(float(module.v_threshold)), np.float32(-np.inf))
        threshold, reset = self._full(float(below)), self._full(module.v_reset)
        if isinstance(module, IF):
            self.append(path, nir.IF(r=self._full(1 / self.dt), v_threshold=threshold, v_reset=reset), self.shape)
            return
        tau = float(module.tau)
        node = nir.LIF(
            tau=self._full(tau * self.dt),
            r=self._full(1.0 if module.decay_input else tau),
            v_leak=reset.copy(),
            v_threshold=threshold,
            v_reset=reset,
        )
        self.append(path, node, self.shape)

    def _full(self, value: float) -> npt.NDArray[np.float64]:
        return np.full(self.shape, value, dtype=np.float64)

    def _check_map(self, path: str, module: nn.Module, channels: int) -> None:
        if len(self.shape) != 3 or self.shape[0] != channels:
            raise _refusal(path, module, f"it takes maps ({channels}, H, W), but its input is {self.shape}")


def _pair(size: int | Sequence[int]) -> tuple[int, int]:
    height, width = (size, size) if isinstance(size, int) else size
    return height, width


def _array(x: Tensor) -> npt.NDArray[np.float32]:
    return x.detach().float().cpu().numpy().copy()


def _refusal(path: str, module: nn.Module, reason: str) -> ValueError:
    return ValueError(f"{path or 'the network'} ({type(module).__name__}) cannot be exported to NIR: {reason}")
