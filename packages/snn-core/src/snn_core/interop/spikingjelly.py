"""Use our neurons in SpikingJelly's networks, its neurons and surrogates in ours, and convert whole networks.

Needs `pip install "snn-core[spikingjelly]"` (SpikingJelly 2, Fang et al. 2023, doi:10.1126/sciadv.adi1480).

The main difference: a SpikingJelly neuron keeps its membrane potential between calls until `functional.reset_net`, our
neurons are stateless. `MemoryNeuron` and `StatelessNeuron` wrap a neuron for use in the other library;
`to_spikingjelly` and `from_spikingjelly` replace it by its counterpart.

| snn-core | SpikingJelly | |
|---|---|---|
| `IF`, `LIF`, `PLIF` | `IFNode`, `LIFNode`, `ParametricLIFNode` | same equations, same parameter `w` of a learned tau |
| `sigmoid`, `atan`, `erf` | `Sigmoid`, `ATan`, `Erf` | slope is alpha |
| `triangle`, `rectangle`, `fast_sigmoid` | `PiecewiseQuadratic`, `Rect`, `SoftSign` | slope is alpha |
"""

# SpikingJelly ships no types.
# pyright: reportMissingTypeStubs=false, reportUnknownMemberType=false, reportUnknownVariableType=false
# pyright: reportUnknownArgumentType=false
from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from snn_core.layers import NeuronFactory
from snn_core.neurons.lif import IF, LIF, PLIF
from snn_core.neurons.neuron import Neuron
from snn_core.surrogate import SurrogateGradient

try:
    from spikingjelly.activation_based import base, surrogate
    from spikingjelly.activation_based import neuron as nodes
except ImportError as error:
    raise ImportError(
        'snn_core.interop.spikingjelly needs SpikingJelly 2: pip install "snn-core[spikingjelly]"'
    ) from error

__all__ = [
    "MemoryNeuron",
    "SpikingJellySurrogate",
    "StatelessNeuron",
    "from_spikingjelly",
    "stateless",
    "to_spikingjelly",
]

_SURROGATES: dict[str, type[surrogate.SurrogateFunctionBase]] = {
    "sigmoid": surrogate.Sigmoid,
    "atan": surrogate.ATan,
    "triangle": surrogate.PiecewiseQuadratic,
    "rectangle": surrogate.Rect,
    "fast_sigmoid": surrogate.SoftSign,
    "erf": surrogate.Erf,
}
_SURROGATE_NAMES = {kind: name for name, kind in _SURROGATES.items()}


class MemoryNeuron(base.MemoryModule):
    """One of our neurons as a SpikingJelly module: its membrane potential `v` persists between calls.

    So do its other states, such as the adaptation `b` of an `ALIF`.

    `functional.reset_net`, `set_step_mode` and `detach_net`, and the monitors (`AttributeMonitor("v", ...)`) work as
    for `LIFNode`. In step mode 'm' a call runs our operation once. As in SpikingJelly, an input of another shape starts
    at rest; unlike there, the potential stays in float32 for 16-bit inputs, and there is no `store_v_seq`.

    Shape: currents [T, ...] -> spikes [T, ...] in step mode 'm'; [...] -> [...] in step mode 's'.

    Args:
        neuron: the neuron; its parameters become those of this module.
        step_mode: 's' for one time step per call, 'm' for a sequence.

    Raises:
        ValueError: the step mode is unknown, or the neuron is not one of snn_core.
    """

    v: float | Tensor

    def __init__(self, neuron: Neuron, *, step_mode: str = "s") -> None:
        super().__init__()
        if not isinstance(neuron, Neuron):  # pyright: ignore[reportUnnecessaryIsInstance]
            raise ValueError(f"a memory neuron wraps a snn_core neuron such as LIF(), but got a {_type_name(neuron)}")
        self.neuron = neuron
        self.step_mode = step_mode
        self.register_memory("v", float(neuron.v_reset or 0.0))
        for name in neuron.extra_states:
            self.register_memory(name, 0.0)

    def single_step_forward(self, x: Tensor) -> Tensor:
        """Currents [...] of one time step -> spikes [...]."""
        return self.multi_step_forward(x[None])[0]

    def multi_step_forward(self, x_seq: Tensor) -> Tensor:
        """Currents [T, ...] -> spikes [T, ...]."""
        v_init = _start(self.v, self.neuron.v_reset or 0.0, x_seq)
        names = self.neuron.extra_states
        if not names:
            spikes, self.v = self.neuron(x_seq, v_init=v_init, return_v=True)
            return spikes
        others = {f"{name}_init": _start(getattr(self, name), 0.0, x_seq) for name in names}
        spikes, self.v, *last = self.neuron(x_seq, v_init=v_init, **others, return_state=True)
        for name, state in zip(names, last, strict=True):
            setattr(self, name, state)
        return spikes


def _start(memory: float | Tensor, rest: float, x_seq: Tensor) -> Tensor | None:
    """Return the state [...] before the first step of x_seq [T, ...], or None at rest."""
    shape = x_seq.shape[1:]
    if isinstance(memory, Tensor):
        return memory if memory.shape == shape else None
    return None if memory == rest else torch.full(shape, memory, device=x_seq.device)


class StatelessNeuron(nn.Module):
    """One of SpikingJelly's neurons as a stateless layer: it is reset before and after each call.

    Shape: currents [T, ...] -> spikes [T, ...]

    Args:
        node: the neuron as an instance, or the name of a class in `spikingjelly.activation_based.neuron` that needs no
            arguments. It is set to step mode 'm'.

    Raises:
        ValueError: the class does not exist or needs arguments, or the neuron has no multi-step mode.
    """

    def __init__(self, node: str | nn.Module) -> None:
        super().__init__()
        self.node = _node_by_name(node) if isinstance(node, str) else node
        if not isinstance(self.node, base.StepModule) or "m" not in self.node.supported_step_mode():
            raise ValueError(
                f"a neuron of SpikingJelly needs a multi-step mode to be a layer; {_type_name(self.node)} has none"
            )
        self.node.step_mode = "m"

    def forward(self, x: Tensor) -> Tensor:
        """Currents [T, ...] -> spikes [T, ...].

        Raises:
            ValueError: the neuron does not return one tensor in the shape of x.
        """
        self._reset()
        assert isinstance(self.node, base.StepModule)
        # Set in each call: `functional.set_step_mode` on the whole network changes the node too.
        self.node.step_mode = "m"
        try:
            spikes = self.node(x)
        finally:
            # A remaining state would keep the graph of this call alive and could not be memo.
            self._reset()
        if not isinstance(spikes, Tensor) or spikes.shape != x.shape:
            result = tuple(spikes.shape) if isinstance(spikes, Tensor) else type(spikes).__name__
            raise ValueError(
                f"{_type_name(self.node)} returned {result} for currents {tuple(x.shape)}; only neurons that map "
                "[T, ...] to [T, ...] can be a layer"
            )
        return spikes

    def _reset(self) -> None:
        for module in self.node.modules():
            if isinstance(module, base.MemoryModule):
                module.reset()


def stateless(node: str | nn.Module) -> NeuronFactory:
    """Return a factory of `StatelessNeuron`s for our layers, e.g. `SpikingLinear(8, 16, neuron=stateless("QIFNode"))`.

    Args:
        node: as in `StatelessNeuron`; every layer gets its own copy.

    Raises:
        ValueError: as in `StatelessNeuron`, raised by this call.
    """
    template = StatelessNeuron(node if isinstance(node, str) else _copy(node))
    return lambda: copy.deepcopy(template)


def _node_by_name(name: str) -> nn.Module:
    node_class = getattr(nodes, name, None)
    if not (isinstance(node_class, type) and issubclass(node_class, nn.Module)):
        raise ValueError(f"SpikingJelly has no neuron called {name!r}; see spikingjelly.activation_based.neuron")
    try:
        return node_class()
    except (TypeError, ValueError) as error:
        raise ValueError(f"{name} needs arguments ({error}); pass an instance instead of the name") from error


class SpikingJellySurrogate:
    """A surrogate function of SpikingJelly as a `surrogate` for our neurons.

    Args:
        function: an instance, which ignores the slope of the neuron; or the name of a class in
            `spikingjelly.activation_based.surrogate`, whose `alpha` is then the slope of the neuron.

    Raises:
        ValueError: the class does not exist or has other settings than alpha, or the function cannot be used: it is in
            non-spiking mode, does not spike exactly where d >= 0, or its derivative is not finite or not even in d.
    """

    def __init__(self, function: str | surrogate.SurrogateFunctionBase) -> None:
        self._function = function
        self._check()

    def function(self, slope: float) -> surrogate.SurrogateFunctionBase:
        """Return the instance, or one of the named class with `alpha = slope`."""
        if not isinstance(self._function, str):
            return self._function
        function_class = getattr(surrogate, self._function, None)
        if not (isinstance(function_class, type) and issubclass(function_class, surrogate.SurrogateFunctionBase)):
            raise ValueError(
                f"SpikingJelly has no surrogate called {self._function!r}; see spikingjelly.activation_based.surrogate"
            )
        try:
            return function_class(alpha=float(slope))
        except TypeError as error:
            raise ValueError(f"{self._function} has no alpha; pass an instance instead of the name") from error

    def __call__(self, d: Tensor, slope: float) -> Tensor:
        """Distances to threshold d [...] -> derivative [...]."""
        return _value_and_derivative(self.function(slope), d)[1]

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self._function!r})"

    def _check(self) -> None:
        d = torch.logspace(-4, 1, 101, dtype=torch.float64)
        function = self.function(2.0)
        if not function.spiking:
            raise ValueError(f"{function} is in non-spiking mode; call set_spiking_mode(True) first")
        try:
            (fired, above), (silent, below) = _value_and_derivative(function, d), _value_and_derivative(function, -d)
        except RuntimeError as error:
            raise ValueError(f"{function} is not a step with a surrogate derivative: {error}") from error
        if not (fired.eq(1).all() and silent.eq(0).all()):
            raise ValueError(f"{function} does not spike exactly where the distance to threshold is 0 or more")
        if not torch.isfinite(above).all():
            raise ValueError(f"the derivative of {function} is not finite everywhere; use another surrogate")
        if not torch.allclose(above, below, rtol=1e-6, atol=1e-9):
            worst = int((above - below).abs().argmax())
            raise ValueError(
                f"a surrogate must be even, but the derivative of {function} is {above[worst].item():.4g} at "
                f"{d[worst].item():.4g} and {below[worst].item():.4g} at {-d[worst].item():.4g}; use another "
                "surrogate, or wrap the neuron in a StatelessNeuron"
            )


def _value_and_derivative(function: surrogate.SurrogateFunctionBase, d: Tensor) -> tuple[Tensor, Tensor]:
    with torch.enable_grad():
        leaf = d.detach().requires_grad_()
        value = function(leaf)
        (derivative,) = torch.autograd.grad(value.sum(), leaf)
    return value.detach(), derivative


_CopyMemo = dict[int, Any]
"""The memo of `copy.deepcopy`: the copy of an object by the id of the original."""


def to_spikingjelly(module: nn.Module) -> nn.Module:
    """Copy a network and replace each of our neurons by SpikingJelly's counterpart, in step mode 'm'.

    Everything else is unchanged, including shapes ([T, ...] in and out) and names in `state_dict`. The copy is
    stateful: call `functional.reset_net` between batches. A `StatelessNeuron` is unwrapped, a `MemoryNeuron` is kept.
    Forward hooks on our neurons are not copied.

    Raises:
        ValueError: a neuron or setting has no counterpart; gives its path, its value and what to do. This holds for
            neurons other than IF, LIF and PLIF; tau = 1; `learn_threshold`, `detach_membrane`; a `save` other than
            d32, an `implementation` other than auto; and custom surrogate functions.
    """
    return _copy_with(module, _to_theirs)


def from_spikingjelly(module: nn.Module) -> nn.Module:
    """Copy a network and replace each of SpikingJelly's neurons by ours.

    Everything else is unchanged: SpikingJelly's layers in step mode 'm' and its containers still take [T, B, ...], and
    names in `state_dict` are the same. The new neurons start at rest in each call, whatever the potential of the
    originals. A `MemoryNeuron` is unwrapped, a `StatelessNeuron` is kept. A surrogate without a counterpart becomes a
    `SpikingJellySurrogate` if it is even. Forward hooks on the neurons are not copied.

    Raises:
        ValueError: a neuron or setting has no counterpart; gives its path, its value and what to do. This holds for
            neurons other than IFNode, LIFNode and ParametricLIFNode; step mode 's'; `store_v_seq`; a precision
            configuration; a potential after `reset` other than the resting potential; and surrogates that are not even.
    """
    return _copy_with(module, _to_ours)


def _copy_with(module: nn.Module, convert: Callable[[str, nn.Module, _CopyMemo], nn.Module | None]) -> nn.Module:
    """Deep-copy a module; submodules for which `convert` returns a module are replaced by it wherever they occur."""
    memo: _CopyMemo = {}

    def visit(path: str, child: nn.Module) -> None:
        replacement = convert(path, child, memo)
        if replacement is not None:
            memo[id(child)] = replacement.train(child.training)
            return
        for name, grandchild in child.named_children():
            visit(f"{path}.{name}" if path else name, grandchild)

    visit("", module)
    return _copy(module, memo)


def _copy(module: nn.Module, memo: _CopyMemo | None = None) -> nn.Module:
    """Deep-copy a module whose memories may be part of a graph, on which `copy.deepcopy` fails."""
    detached = {id(v): v.detach().clone() for v in base.memories(module) if isinstance(v, Tensor)}
    return copy.deepcopy(module, {**detached, **(memo or {})})


def _to_theirs(path: str, module: nn.Module, memo: _CopyMemo) -> nn.Module | None:
    if isinstance(module, MemoryNeuron):
        return _copy(module)
    if isinstance(module, StatelessNeuron):
        return _copy(module.node)
    if not isinstance(module, Neuron):
        return None
    if type(module) not in (IF, LIF, PLIF):
        raise _refusal(path, module, "no counterpart in SpikingJelly; wrap it in a MemoryNeuron")
    if module.log_v_threshold is not None:
        advice = "has no counterpart; wrap the neuron in a MemoryNeuron, or replace it by one with a fixed threshold"
        raise _refusal(path, module, f"learn_threshold=True {advice}")
    if module.detach_membrane:
        raise _refusal(path, module, "detach_membrane=True has no counterpart; wrap the neuron in a MemoryNeuron")
    for name, default in (("save", "d32"), ("implementation", "auto")):
        if (value := getattr(module, name)) != default:
            advice = f"set the neuron's {name} to {default!r} first"
            raise _refusal(path, module, f"{name}={value!r} has no counterpart; {advice}")
    options: dict[str, Any] = {
        "v_threshold": float(module.v_threshold),
        "v_reset": None if module.v_reset is None else float(module.v_reset),
        "detach_reset": bool(module.detach_reset),
        "surrogate_function": _their_surrogate(path, module),
        "step_mode": "m",
    }
    if isinstance(module, PLIF):
        node = nodes.ParametricLIFNode(decay_input=module.decay_input, **options)
        node.w = _same_parameter(module.w, memo)
        return node
    if isinstance(module, LIF):
        if module.tau <= 1:
            raise _refusal(
                path, module, f"tau={module.tau} is not above 1, as LIFNode requires; wrap it in a MemoryNeuron"
            )
        return nodes.LIFNode(tau=float(module.tau), decay_input=module.decay_input, **options)
    return nodes.IFNode(**options)


def _to_ours(path: str, module: nn.Module, memo: _CopyMemo) -> nn.Module | None:
    if isinstance(module, StatelessNeuron):
        return _copy(module)
    if isinstance(module, MemoryNeuron):
        _check_step_mode(path, module)
        return copy.deepcopy(module.neuron)
    if not any(kind.__module__.startswith(nodes.__name__) for kind in type(module).__mro__):
        return None
    if type(module) not in (nodes.IFNode, nodes.LIFNode, nodes.ParametricLIFNode):
        raise _refusal(path, module, "no counterpart in snn_core; wrap it in a StatelessNeuron")
    assert isinstance(module, nodes.BaseNode)
    _check_step_mode(path, module)
    if module.store_v_seq:
        raise _refusal(path, module, "store_v_seq=True has no counterpart; set it to False first")
    if module._neuron_precision is not None:  # pyright: ignore[reportPrivateUsage]
        raise _refusal(path, module, f"the precision {module._neuron_precision} has no counterpart; remove it first")  # pyright: ignore[reportPrivateUsage]
    start, rest = module.get_reset_value("v"), module.v_reset or 0.0
    if not isinstance(start, float | int) or start != rest:
        advice = f"ours start at rest, which is {rest}; call set_reset_value('v', {rest}) first"
        raise _refusal(path, module, f"its potential after reset is {start}, but {advice}")
    options: dict[str, Any] = {
        "v_threshold": module.v_threshold,
        "v_reset": module.v_reset,
        "detach_reset": module.detach_reset,
        **_our_surrogate(path, module),
    }
    if isinstance(module, nodes.ParametricLIFNode):
        neuron = PLIF(decay_input=module.decay_input, **options)
        neuron.w = _same_parameter(module.w, memo)
        return neuron
    if isinstance(module, nodes.LIFNode):
        return LIF(tau=module.tau, decay_input=module.decay_input, **options)
    return IF(**options)


def _check_step_mode(path: str, module: base.MemoryModule) -> None:
    if module.step_mode != "m":
        advice = "our neurons take whole sequences [T, ...]; call functional.set_step_mode(net, 'm') first"
        raise _refusal(path, module, f"step_mode={module.step_mode!r} has no counterpart: {advice}")


def _their_surrogate(path: str, neuron: Neuron) -> surrogate.SurrogateFunctionBase:
    function = neuron.surrogate
    if isinstance(function, SpikingJellySurrogate):
        return copy.deepcopy(function.function(neuron.slope))
    if not isinstance(function, str) or function not in _SURROGATES:
        advice = f"has no counterpart; use one of {', '.join(_SURROGATES)}, or wrap the neuron in a MemoryNeuron"
        raise _refusal(path, neuron, f"surrogate={function!r} {advice}")
    return _SURROGATES[function](alpha=float(neuron.slope))


def _our_surrogate(path: str, node: nodes.BaseNode) -> dict[str, str | float | SurrogateGradient]:
    function = node.surrogate_function
    name = _SURROGATE_NAMES.get(type(function))
    if name is not None and function.spiking:
        return {"surrogate": name, "slope": float(function.alpha)}  # pyright: ignore[reportArgumentType]
    try:
        return {"surrogate": SpikingJellySurrogate(copy.deepcopy(function))}
    except ValueError as error:
        raise _refusal(path, node, f"its surrogate has no counterpart: {error}") from error


def _same_parameter(parameter: nn.Parameter, memo: _CopyMemo) -> nn.Parameter:
    """Return the copy of a parameter; neurons that share it share the copy."""
    if id(parameter) not in memo:
        memo[id(parameter)] = nn.Parameter(parameter.detach().clone(), requires_grad=parameter.requires_grad)
    return memo[id(parameter)]


def _refusal(path: str, module: nn.Module, reason: str) -> ValueError:
    return ValueError(f"{path or 'the network'} ({_type_name(module)}): {reason}")


def _type_name(module: object) -> str:
    return type(module).__name__
