"""Measure firing rates and synaptic operations by layer name.

Hooks exist only within the `with` block.
"""

# PyTorch leaves the types of its operations open.
# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false
from __future__ import annotations

from collections.abc import Generator, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import count
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.nn.modules.module import register_module_forward_hook, register_module_forward_pre_hook
from torch.utils._python_dispatch import TorchDispatchMode

from snn_core.layers import SpikingLayer


def spiking_layers(model: nn.Module) -> dict[str, SpikingLayer]:
    """Return every layer of `model` that ends in a neuron by its dotted name, in order of definition."""
    return {name: module for name, module in model.named_modules() if isinstance(module, SpikingLayer)}  # pyright: ignore[reportUnknownVariableType]


@contextmanager
def record_firing_rates(model: nn.Module) -> Generator[dict[str, float], None, None]:
    """Measure the fraction of (neuron, time step) pairs that spike within the block, by layer name.

    The dictionary is filled when the block ends; layers that did not run are missing. Forward passes are averaged by
    element.

    Yields:
        rates in [0, 1] by the name of each `SpikingLayer` inside `model`.
    """
    rates: dict[str, float] = {}
    spikes: dict[str, Tensor] = {}
    elements: dict[str, int] = {}

    def counter(name: str) -> Any:
        def count(_module: nn.Module, _inputs: Any, output: Tensor) -> None:
            # A tensor: reading its value here would synchronize with the device at every layer.
            fired = output.detach().sum(dtype=torch.float64)
            spikes[name] = spikes[name] + fired if name in spikes else fired
            elements[name] = elements.get(name, 0) + output.numel()

        return count

    handles = [layer.neuron.register_forward_hook(counter(name)) for name, layer in spiking_layers(model).items()]
    try:
        yield rates
    finally:
        for handle in handles:
            handle.remove()
        rates.update({name: float(spikes[name]) / elements[name] for name in spikes if elements[name]})


Values = Literal["spikes", "whole", "real"]
"""0 or 1; whole numbers, such as sums of spikes; or any real numbers."""


@dataclass(frozen=True)
class SynapticOperations:
    """Operation counts of one layer, or one product of activations, over all calls, time steps and samples."""

    macs: int
    """Multiply-accumulates of the dense computation, including those on the padding of a convolution."""
    operations: int
    """Multiply-accumulates whose input is not 0: the number of outputs that each nonzero input element reaches; in a
    product of activations the number of coincidences. A weight of 0 counts too."""
    input_rate: float
    """Fraction of input elements that are not 0, in [0, 1]."""
    inputs: Values
    """Kind of the inputs. In a product of activations the input is the spiking factor, or the left one if both or none
    spike."""

    @property
    def spiking(self) -> bool:
        """Whether every input was 0 or 1, so that `operations` are additions without multiplications."""
        return self.inputs == "spikes"


@contextmanager
def record_synaptic_operations(model: nn.Module) -> Generator[dict[str, SynapticOperations], None, None]:
    """Count synaptic operations of all products inside `model` within the block: layers, attention, anything else.

    All convolutions and matrix products that PyTorch's dispatcher runs while `model` or one of its modules is called
    are counted. An input element at the edge of a map reaches fewer outputs than one in the middle; padding, stride,
    dilation and groups are taken into account. A layer that computes a static input once (`SpikingConv2d` with
    `time_steps`) is counted once. PyTorch's fused attention with softmax counts as dense. Not counted: biases,
    normalization, neurons, element-wise operations and PyTorch's fused recurrent layers (`nn.LSTM`, `nn.GRU`).

    The dictionary is filled when the block ends; layers that did not run are missing.

    Yields:
        `SynapticOperations` in order of the first run, by the dotted name of each linear layer or convolution. Other
        products are named after the module that computes them and their index within one call: in `SpikingAttention`
        `[0]` is the first product of query, key and value, `[1]` the second.
    """
    results: dict[str, SynapticOperations] = {}
    counter = _Counter(model)
    # Hooks on the modules themselves would prevent the fusion of batch norm and neuron.
    entering = register_module_forward_pre_hook(counter.enter)
    leaving = register_module_forward_hook(counter.leave, always_call=True)
    try:
        with counter:
            yield results
    finally:
        entering.remove()
        leaving.remove()
        results.update({name: counts.result() for name, counts in counter.counts.items()})


_CONVOLUTION = torch.ops.aten.convolution.default
_MATRICES: dict[Any, int] = {
    torch.ops.aten.mm.default: 0,
    torch.ops.aten.bmm.default: 0,
    torch.ops.aten.mv.default: 0,
    torch.ops.aten.dot.default: 0,
    torch.ops.aten.addmm.default: 1,
    torch.ops.aten.baddbmm.default: 1,
    torch.ops.aten.addbmm.default: 1,
    torch.ops.aten.addmv.default: 1,
}
"""Index of the left factor in the arguments of each matrix product; the right factor follows."""
_FUSED_ATTENTION = "aten._scaled_dot_product_"
"""Prefix of the names of PyTorch's fused softmax attention."""


class _Counter(TorchDispatchMode):
    """Intercept every operation and attribute products to the running module."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.names = {module: name for name, module in model.named_modules()}
        # A weight is identified by its storage, because a product often gets a view of it.
        self.weights = {x.untyped_storage().data_ptr() for x in (*model.parameters(), *model.buffers())}
        self.running: list[tuple[nn.Module, Iterator[int]]] = []
        self.counts: dict[str, _Counts] = {}
        self.reach: dict[tuple[Any, ...], Tensor] = {}

    def enter(self, module: nn.Module, _inputs: Any) -> None:
        if module in self.names:
            self.running.append((module, count()))

    def leave(self, module: nn.Module, _inputs: Any, _output: Any) -> None:
        if module in self.names:
            self.running.pop()

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        if torch.is_inference_mode_enabled():  # composite operations are not decomposed here
            with self:
                result = func.decompose(*args, **kwargs)
            if result is not NotImplemented:
                return result
        result = func(*args, **kwargs)
        if self.running:
            if func is _CONVOLUTION:
                self._next().add_convolution(args, result, self._reach(args))
            elif func in _MATRICES:
                left, right = args[_MATRICES[func] : _MATRICES[func] + 2]
                self._next().add_matrices(left, right, self._is_weight(left), self._is_weight(right))
            elif str(func).startswith(_FUSED_ATTENTION):
                self._next().add_attention(*args[:3])
        return result

    def _next(self) -> _Counts:
        """Return the counts of the product that runs now."""
        module, numbers = self.running[-1]
        name, number = self.names[module], next(numbers)
        return self.counts.setdefault(name if isinstance(module, _Synapses) else f"{name}[{number}]", _Counts())

    def _is_weight(self, x: Tensor) -> bool:
        return x.untyped_storage().data_ptr() in self.weights

    def _reach(self, args: tuple[Any, ...]) -> Tensor:
        """Return how many outputs each element of a sample [C, ...] reaches: the gradient of a sum of unit weights."""
        x, weight, _, *settings = args
        key = (x.shape[1:], weight.shape, x.device, str(settings))
        if key not in self.reach:
            ones = [torch.ones(shape, device=x.device) for shape in ((1, *x.shape[1:]), weight.shape)]
            out = torch.ones_like(torch.ops.aten.convolution(*ones, None, *settings))
            gradients = torch.ops.aten.convolution_backward(out, *ones, None, *settings, [True, False, False])
            self.reach[key] = gradients[0][0].round().long()
        return self.reach[key]


_Synapses = nn.Linear | nn.Conv1d | nn.Conv2d | nn.Conv3d | nn.ConvTranspose1d | nn.ConvTranspose2d | nn.ConvTranspose3d


class _Factor:
    """Statistics of one factor of a product. Values stay on the device until they are read."""

    def __init__(self) -> None:
        self.elements = 0
        self.nonzero = torch.zeros((), dtype=torch.int64)
        self.binary = self.whole = torch.ones((), dtype=torch.bool)

    def add(self, x: Tensor) -> Tensor:
        """Add one tensor to the statistics; return a mask of its nonzero elements."""
        active = x != 0
        self.elements += x.numel()
        self.nonzero = self.nonzero.to(x.device) + active.sum()
        self.binary = self.binary.to(x.device) & ((x == 1) == active).all()
        self.whole = self.whole.to(x.device) & (x == x.floor()).all()
        return active

    @property
    def rate(self) -> float:
        return float(self.nonzero) / self.elements if self.elements else 0.0

    @property
    def values(self) -> Values:
        return "spikes" if bool(self.binary) else "whole" if bool(self.whole) else "real"


class _Counts:
    """Counts of one layer or product."""

    def __init__(self) -> None:
        self.macs = 0
        self.operations = torch.zeros((), dtype=torch.int64)
        self.real = False
        self.factors: dict[str, _Factor] = {}

    def add_convolution(self, args: tuple[Any, ...], output: Tensor, reach: Tensor) -> None:
        x, weight, transposed = args[0], args[1], args[6]
        # Each output of a convolution, and each input of a transposed one, uses the weights of one channel.
        self.macs += (x if transposed else output).numel() * weight[0].numel()
        self._add((self._active("left", x).sum(0) * reach).sum())

    def add_matrices(self, left: Tensor, right: Tensor, left_is_weight: bool, right_is_weight: bool) -> None:
        left = left[None] if left.dim() == 1 else left
        right = right[:, None] if right.dim() == 1 else right
        rows, columns = left.shape[-2], right.shape[-1]
        self.macs += left.numel() * columns
        if right_is_weight:
            self._add(self._active("left", left).sum() * columns)
        elif left_is_weight:
            self._add(self._active("right", right).sum() * rows)
        else:
            # At each index of the summed axis, every row's element meets every column's.
            self._add((self._active("left", left).sum(-2) * self._active("right", right).sum(-1)).sum())

    def add_attention(self, query: Tensor, key: Tensor, value: Tensor) -> None:
        # No softmax output is 0, so all of query [..., N, d], key [..., M, d] and value [..., M, e] counts.
        self.real = True
        macs = query.numel() * key.shape[-2] + query[..., 0].numel() * value.shape[-2] * value.shape[-1]
        self._active("left", query)
        self.macs += macs
        self._add(torch.tensor(macs, device=query.device))

    def _active(self, side: str, x: Tensor) -> Tensor:
        return self.factors.setdefault(side, _Factor()).add(x)

    def _add(self, operations: Tensor) -> None:
        self.operations = self.operations.to(operations.device) + operations

    def result(self) -> SynapticOperations:
        factors = [self.factors[side] for side in ("left", "right") if side in self.factors]
        spiking = [] if self.real else [factor for factor in factors if factor.values == "spikes"]
        inputs: Values = "real"
        if spiking:
            inputs = "spikes"
        elif not self.real and all(factor.values == "whole" for factor in factors):
            inputs = "whole"
        return SynapticOperations(self.macs, int(self.operations), (spiking or factors)[0].rate, inputs)
