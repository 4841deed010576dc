"""Converted neurons, surrogates and networks compute the same; what cannot be converted raises."""

import copy
import importlib
import itertools
import sys
from collections.abc import Callable
from typing import Any

import pytest
import torch
from spikingjelly.activation_based import functional, layer, monitor, neuron, surrogate
from torch import Tensor, nn

from present import present
from snn_core import (
    ALIF,
    IF,
    LIF,
    PLIF,
    SURROGATES,
    LeakyNeuron,
    Neuron,
    SpikingAttention,
    SpikingConv2d,
    SpikingLinear,
)
from snn_core.interop.spikingjelly import (
    MemoryNeuron,
    SpikingJellySurrogate,
    StatelessNeuron,
    from_spikingjelly,
    stateless,
    to_spikingjelly,
)

THEIRS = {
    "sigmoid": surrogate.Sigmoid,
    "atan": surrogate.ATan,
    "triangle": surrogate.PiecewiseQuadratic,
    "rectangle": surrogate.Rect,
    "fast_sigmoid": surrogate.SoftSign,
    "erf": surrogate.Erf,
}


def dyadic(*shape: int, low: int = -8, high: int = 20, unit: float = 0.125, seed: int = 0) -> Tensor:
    """Return numbers whose sums and halves are exact in float32, so that both libraries agree bit for bit."""
    return torch.randint(low, high, shape, generator=torch.Generator().manual_seed(seed)) * unit


def outputs_and_gradients(net: nn.Module, x: Tensor) -> tuple[Tensor, list[Tensor]]:
    """Spikes, and the gradients of the input and of every parameter for a fixed upstream gradient."""
    functional.reset_net(net)
    leaf = x.clone().requires_grad_()
    spikes = net(leaf)
    upstream = torch.randn(spikes.shape, generator=torch.Generator().manual_seed(1)).to(x.dtype)
    return spikes.detach(), list(torch.autograd.grad((spikes * upstream).sum(), [leaf, *net.parameters()]))


def assert_same(actual: nn.Module, expected: nn.Module, x: Tensor) -> None:
    """Equal spikes and gradients in float64, and for dyadic numbers in float32.

    Gradients of time constants are compared in float64 only: their terms cancel.
    """
    exact = torch.equal(x, (x * 8).round() / 8)
    for dtype, tolerance in ((torch.float64, 1e-12), (torch.float32, 1e-6))[: 1 + exact]:
        (spikes, gradients), (expected_spikes, expected_gradients) = (
            outputs_and_gradients(copy.deepcopy(net).to(dtype), x.to(dtype)) for net in (actual, expected)
        )
        assert 0.05 < expected_spikes.mean() < 0.95
        assert torch.equal(spikes, expected_spikes)
        for a, b in zip(gradients, expected_gradients, strict=True):
            assert b.norm() > 0
            if b.dim() or dtype == torch.float64:
                assert (a - b).norm() <= tolerance * b.norm()


# Ours in theirs


@pytest.mark.parametrize("step_mode", ["s", "m"])
@pytest.mark.parametrize(
    ("ours", "theirs"),
    [
        (IF(v_reset=None), neuron.IFNode(v_reset=None, detach_reset=True)),
        (LIF(v_reset=-0.5), neuron.LIFNode(v_reset=-0.5, detach_reset=True)),
        (PLIF(detach_reset=False), neuron.ParametricLIFNode(detach_reset=False)),
    ],
    ids=["IF", "LIF", "PLIF"],
)
def test_a_memory_neuron_keeps_its_potential_between_calls_until_reset(step_mode: str, ours: LeakyNeuron, theirs: Any):
    node = MemoryNeuron(ours)
    net, peer = nn.Sequential(node), nn.Sequential(theirs)
    for module in (net, peer):
        functional.reset_net(module)
        functional.set_step_mode(module, step_mode)
    x = dyadic(6, 3, 5)  # T=6 B=3 N=5
    calls = x.unbind(0) if step_mode == "s" else (x[:2], x[2:])
    for _ in range(2):
        actual, expected = ([module(call) for call in calls] for module in (net, peer))
        assert all(torch.equal(a, b) for a, b in zip(actual, expected, strict=True))
        assert isinstance(node.v, Tensor)
        assert torch.equal(node.v, theirs.v)
        functional.reset_net(net)
        functional.reset_net(peer)
        assert node.v == theirs.v == (ours.v_reset or 0.0)


@pytest.mark.parametrize("step_mode", ["s", "m"])
def test_a_memory_neuron_keeps_the_adaptation_of_alif(step_mode: str):
    neuron, x = ALIF(beta=0.5, v_threshold=0.5, v_reset=-0.25), 2 * dyadic(6, 3, 5)
    node = MemoryNeuron(neuron, step_mode=step_mode)
    whole, v, b = neuron(x, return_state=True)
    assert not torch.equal(whole, ALIF(beta=0.0, v_threshold=0.5, v_reset=-0.25)(x))
    for _ in range(2):
        actual = [node(step)[None] for step in x] if step_mode == "s" else [node(x[:2]), node(x[2:])]
        assert torch.equal(torch.cat(actual), whole)
        assert isinstance(node.v, Tensor)
        assert isinstance(node.b, Tensor)
        assert torch.equal(node.v, v)
        assert torch.equal(node.b, b)
        functional.reset_net(node)
        assert (node.v, node.b) == (-0.25, 0.0)


def test_an_input_of_another_shape_starts_a_memory_neuron_at_rest():
    node = MemoryNeuron(LIF(v_reset=0.25), step_mode="m")
    node(dyadic(4, 3))
    assert torch.equal(node(dyadic(4, 5)), LIF(v_reset=0.25)(dyadic(4, 5)))


def test_a_memory_neuron_starts_at_a_custom_reset_value():
    node = MemoryNeuron(LIF(), step_mode="m")
    node.set_reset_value("v", 0.75)
    node.reset()
    x = dyadic(4, 2, 3)
    assert torch.equal(node(x), LIF()(x, v_init=torch.full((2, 3), 0.75)))


def test_detaching_a_memory_neuron_cuts_the_gradient_between_calls():
    grads = []
    for detach in (False, True):
        node, first = MemoryNeuron(LIF(), step_mode="m"), torch.full((1, 2), 0.5, requires_grad=True)
        node(first)
        if detach:
            functional.detach_net(node)
        (node(torch.full((1, 2), 0.5)).sum() + 0 * first.sum()).backward()
        grads.append(present(first.grad).abs().sum())
    assert grads[0] > 0
    assert grads[1] == 0


def test_monitors_record_a_memory_neuron():
    net = nn.Sequential(nn.Linear(5, 7), MemoryNeuron(LIF(), step_mode="m"))
    x = dyadic(4, 3, 5)
    with (
        monitor.OutputMonitor(net, MemoryNeuron) as spikes,
        monitor.AttributeMonitor("v", False, net, MemoryNeuron) as potentials,
    ):
        y = net(x)
        assert torch.equal(spikes["1"][0], y)
    assert torch.equal(potentials["1"][0], LIF()(net[0](x), return_v=True)[1])


def test_a_memory_neuron_trains_its_time_constant_and_moves_with_its_network():
    plif = PLIF()
    node = MemoryNeuron(plif, step_mode="m")
    net = nn.Sequential(nn.Linear(4, 4), node)
    assert list(net.state_dict()) == ["0.weight", "0.bias", "1.neuron.w"]
    net(dyadic(5, 2, 4)).sum().backward()
    assert plif.w.grad is not None
    net.double()
    assert isinstance(node.v, Tensor)
    assert node.v.dtype == torch.float64


# Theirs in ours


def test_a_stateless_neuron_gives_equal_results_in_every_call():
    x = dyadic(6, 3, 5).requires_grad_()
    for kind in ("LIFNode", "QIFNode", "IzhikevichNode", "KLIFNode", "CUBALIFNode", "TernaryLIFNode"):
        ours: Any = StatelessNeuron(kind)
        node = with_attributes(getattr(neuron, kind)(), step_mode="m")
        first = ours(x)
        assert torch.equal(ours(x), first)
        assert torch.equal(node(x), first)
        assert not any(isinstance(v, Tensor) for v in ours.node.memories())
        copy.deepcopy(ours)(x).sum().backward()


def test_a_stateless_neuron_ignores_the_step_mode_of_its_network():
    net, x = nn.Sequential(StatelessNeuron("LIFNode")), dyadic(6, 3, 5)
    expected = net(x)
    functional.set_step_mode(net, "s")
    assert torch.equal(net(x), expected)


def test_stateless_resets_the_state_of_an_instance():
    node, x = neuron.LIFNode(step_mode="m"), dyadic(6, 3, 5).requires_grad_()
    first = node(x)
    assert torch.equal(stateless(node)()(x), first)


def test_layers_build_their_own_spikingjelly_neurons():
    template = neuron.ParametricLIFNode(init_tau=3.0)
    attend = SpikingAttention(8, num_heads=2, neuron=stateless(template))
    assert attend(torch.randn(4, 2, 6, 8)).shape == (4, 2, 6, 8)  # T=4 B=2 N=6 C=8
    assert len({id(p) for name, p in attend.named_parameters() if name.endswith("node.w")}) == 5
    assert template.step_mode == "s"
    conv = SpikingConv2d(2, 3, neuron=stateless("LIFNode"))
    x = torch.randn(4, 2, 2, 6, 7)
    expected = SpikingConv2d(2, 3, neuron=LIF)
    expected.load_state_dict(conv.state_dict())
    assert torch.equal(conv(x), expected(x))


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: StatelessNeuron("LIFNod"), "no neuron called 'LIFNod'"),
        (lambda: StatelessNeuron("PSN"), "PSN needs arguments .*T.*pass an instance"),
        (lambda: StatelessNeuron(nn.ReLU()), "needs a multi-step mode to be a layer; ReLU has none"),
        (lambda: stateless("nope"), "no neuron called 'nope'"),
        (lambda: StatelessNeuron("NonSpikingIFNode")(torch.zeros(3, 2)), r"returned list for currents \(3, 2\)"),
        (lambda: MemoryNeuron(nn.ReLU()), "wraps a snn_core neuron such as LIF.*got a ReLU"),  # pyright: ignore[reportArgumentType]
        (lambda: MemoryNeuron(LIF(), step_mode="x"), "step_mode can only be"),
    ],
)
def test_neurons_that_cannot_be_wrapped_raise(make: Callable[[], object], message: str):
    with pytest.raises(ValueError, match=message):
        make()


# Surrogates


@pytest.mark.parametrize("name", SURROGATES)
def test_surrogates_of_both_libraries_have_the_same_derivative(name: str):
    d = torch.linspace(-2, 2, 1001, dtype=torch.float64)
    actual = SpikingJellySurrogate(THEIRS[name].__name__)(d, 3.0)
    torch.testing.assert_close(actual, SURROGATES[name](d, 3.0), rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(SpikingJellySurrogate(THEIRS[name](alpha=3.0))(d, 99.0), actual)


def test_a_surrogate_of_spikingjelly_trains_our_neuron_as_it_trains_theirs():
    function = surrogate.PiecewiseLeakyReLU(w=0.5, c=0.1)
    ours = LIF(surrogate=SpikingJellySurrogate(function))
    theirs = neuron.LIFNode(surrogate_function=function, detach_reset=True, step_mode="m")
    assert_same(ours, theirs, dyadic(6, 3, 5))


@pytest.mark.parametrize(
    ("function", "message"),
    [
        (surrogate.S2NN(), "must be even, but the derivative of S2NN"),
        ("LogTailedReLU", "must be even, but the derivative of LogTailedReLU"),
        (surrogate.LeakyKReLU(), "is 1 at 0.0001 and 0 at -0.0001; use another"),
        (surrogate.MultiLevelSpikeCount(3), "does not spike exactly where the distance"),
        (surrogate.PoissonPass(), "is not a step with a surrogate derivative"),
        (surrogate.ATan(spiking=False), "non-spiking mode"),
        ("ATanh", "no surrogate called 'ATanh'"),
        ("PiecewiseLeakyReLU", "has no alpha; pass an instance"),
    ],
)
def test_unusable_surrogates_raise(function: Any, message: str):
    with pytest.raises(ValueError, match=message):
        SpikingJellySurrogate(function)


# Networks


def network() -> nn.Sequential:
    """Three kinds of neurons with settings that differ from the defaults, and weights that keep every sum exact."""
    net = nn.Sequential(
        nn.Linear(5, 7),
        LIF(tau=4.0, decay_input=False, v_reset=-0.5, surrogate="atan", slope=2.0, detach_reset=False),
        nn.Linear(7, 6),
        nn.Sequential(PLIF(v_threshold=0.5, surrogate="triangle", slope=0.5)),
        nn.Linear(6, 4),
        IF(v_reset=None, v_threshold=0.75, surrogate="fast_sigmoid", slope=3.0),
    )
    with torch.no_grad():
        for number, p in enumerate(p for p in net.parameters() if p.dim()):
            p.copy_(dyadic(*p.shape, low=-4, high=8, seed=number))
    return net


def test_a_converted_network_computes_the_same():
    net = network()
    theirs = to_spikingjelly(net)
    assert [type(m).__name__ for m in theirs.modules() if isinstance(m, neuron.BaseNode)] == [
        "LIFNode",
        "ParametricLIFNode",
        "IFNode",
    ]
    assert_same(theirs, net, dyadic(6, 3, 5))  # T=6 B=3 C=5


def test_a_round_trip_changes_nothing():
    net, x = network(), dyadic(6, 3, 5)
    first = net[0]
    assert isinstance(first, nn.Linear)
    theirs = to_spikingjelly(net)
    theirs(x)  # leaves potentials that are part of a graph
    converted: Any = from_spikingjelly(theirs)
    functional.reset_net(theirs)
    assert str(converted) == str(net)
    assert list(converted.state_dict()) == list(theirs.state_dict()) == list(net.state_dict())
    assert_same(converted, net, x)
    converted[0].weight.data.zero_()
    assert first.weight.abs().sum() > 0


@pytest.mark.parametrize("kind", ["IFNode", "LIFNode", "ParametricLIFNode"])
def test_every_shared_setting_is_converted(kind: str):
    x = dyadic(6, 3, 5)
    for v_reset, detach_reset, decay_input, name in itertools.product(
        (0.0, -0.5, None), (True, False), (True, False), THEIRS
    ):
        options = {} if kind == "IFNode" else {"decay_input": decay_input}
        theirs = getattr(neuron, kind)(
            v_threshold=0.75,
            v_reset=v_reset,
            detach_reset=detach_reset,
            surrogate_function=THEIRS[name](alpha=0.5),
            step_mode="m",
            **options,
        )
        ours = from_spikingjelly(theirs)
        assert (ours.surrogate, ours.slope) == (name, 0.5)
        assert_same(ours, theirs, x)


def test_layers_of_both_libraries_are_kept():
    theirs = nn.Sequential(
        layer.Conv2d(2, 3, 3, padding=1, bias=False),
        layer.BatchNorm2d(3),
        neuron.LIFNode(v_threshold=0.25, detach_reset=True),
        layer.SeqToANNContainer(nn.AvgPool2d(2)),
        layer.Flatten(),
        layer.Linear(3 * 2 * 3, 5),
        neuron.IFNode(v_threshold=0.1, surrogate_function=surrogate.PiecewiseExp(alpha=2.0)),
    )
    functional.set_step_mode(theirs, "m")
    ours = from_spikingjelly(theirs)
    assert isinstance(ours, nn.Sequential)
    assert [type(module) for module in ours if type(module).__module__.startswith("snn_core")] == [LIF, IF]
    x = torch.randn(4, 2, 2, 4, 6, generator=torch.Generator().manual_seed(3)) + 0.5  # T=4 B=2 C=2 H=4 W=6
    assert_same(ours, theirs, x)
    assert_same(to_spikingjelly(ours), theirs, x)
    spiking = nn.Sequential(
        SpikingConv2d(2, 3), nn.Flatten(2), SpikingLinear(72, 5, neuron=lambda: PLIF(v_threshold=0.25))
    )
    assert_same(to_spikingjelly(spiking), spiking, x)


def test_a_time_constant_that_neurons_share_stays_shared():
    net = nn.Sequential(PLIF(tau=3.0), PLIF())
    net[1].w = net[0].w
    theirs: Any = to_spikingjelly(net)
    assert theirs[0].w is theirs[1].w is not net[0].w
    assert len(list(from_spikingjelly(theirs).parameters())) == 1


def test_frozen_parameters_training_mode_and_shared_neurons_survive():
    shared = PLIF(tau=3.0)
    shared.w.requires_grad_(False)
    net = nn.ModuleDict(
        {"a": nn.Sequential(nn.Linear(2, 2), shared), "b": nn.Sequential(nn.Linear(2, 2), shared)}
    ).eval()
    theirs: Any = to_spikingjelly(net)
    assert theirs["a"][1] is theirs["b"][1]
    assert not theirs["a"][1].w.requires_grad
    assert not any(module.training for module in theirs.modules())
    converted: Any = from_spikingjelly(theirs)
    assert converted["a"][1] is converted["b"][1]
    assert torch.equal(converted["a"][1].w, shared.w)
    assert converted["a"][1].w is not shared.w


def test_wrapped_neurons_are_unwrapped():
    theirs: Any = to_spikingjelly(nn.Sequential(stateless(neuron.QIFNode(tau=3.0))(), MemoryNeuron(LIF())))
    assert [type(module) for module in theirs] == [neuron.QIFNode, MemoryNeuron]
    assert theirs[0].tau == 3.0
    assert type(theirs[1].neuron) is LIF
    ours = from_spikingjelly(nn.Sequential(StatelessNeuron("QIFNode"), MemoryNeuron(PLIF(tau=3.0), step_mode="m")))
    assert isinstance(ours, nn.Sequential)
    assert [type(module) for module in ours] == [StatelessNeuron, PLIF]


def with_attributes(node: nn.Module, **attributes: Any) -> nn.Module:
    for name, value in attributes.items():
        setattr(node, name, value)
    return node


def with_start(node: neuron.LIFNode) -> neuron.LIFNode:
    node.set_reset_value("v", 0.5)
    return node


class CustomLIF(LIF):
    pass


class CustomNode(neuron.LIFNode):
    pass


@pytest.mark.parametrize(
    ("ours", "message"),
    [
        (LIF(learn_threshold=True), "learn_threshold=True has no counterpart; wrap the neuron in a MemoryNeuron"),
        (LIF(detach_membrane=True), "detach_membrane=True has no counterpart"),
        (LIF(save="d16"), "save='d16' has no counterpart; set the neuron's save to 'd32'"),
        (LIF(implementation="torch"), "implementation='torch' has no counterpart; set the neuron's implementation to"),
        (LIF(tau=1.0), "tau=1.0 is not above 1, as LIFNode requires; wrap it in a MemoryNeuron"),
        (LIF(surrogate=lambda d, slope: torch.ones_like(d)), "surrogate=<function .* use one of sigmoid, atan"),
        (ALIF(), "no counterpart in SpikingJelly; wrap it in a MemoryNeuron"),
        (CustomLIF(), "no counterpart in SpikingJelly; wrap it in a MemoryNeuron"),
    ],
)
def test_settings_without_a_counterpart_in_theirs_raise_with_their_path(ours: Neuron, message: str):
    with pytest.raises(ValueError, match=rf"^body\.1 \(\w+\): {message}"):
        to_spikingjelly(nn.ModuleDict({"body": nn.Sequential(nn.Linear(2, 2), ours)}))


@pytest.mark.parametrize(
    ("theirs", "message"),
    [
        (neuron.LIFNode(), "step_mode='s' has no counterpart: .*set_step_mode"),
        (MemoryNeuron(LIF()), "step_mode='s' has no counterpart: .*set_step_mode"),
        (neuron.LIFNode(step_mode="m", store_v_seq=True), "store_v_seq=True has no counterpart"),
        (
            with_attributes(neuron.LIFNode(step_mode="m"), _neuron_precision=(torch.float32, "fp32", "fp32")),
            "the precision",
        ),
        (
            with_start(neuron.LIFNode(step_mode="m")),
            "potential after reset is 0.5, but ours start at rest, which is 0.0",
        ),
        (neuron.LIFNode(step_mode="m", surrogate_function=surrogate.S2NN()), "surrogate has no counterpart: .*even"),
        (neuron.IFNode(step_mode="m", surrogate_function=surrogate.Sigmoid(spiking=False)), "non-spiking mode"),
        (neuron.QIFNode(step_mode="m"), "no counterpart in snn_core; wrap it in a StatelessNeuron"),
        (neuron.HalfThresholdIFNode(step_mode="m"), "no counterpart in snn_core"),
        (CustomNode(step_mode="m"), "no counterpart in snn_core"),
        (neuron.PSN(T=4), "no counterpart in snn_core"),
    ],
    ids=lambda value: None if isinstance(value, str) else type(value).__name__,
)
def test_settings_without_a_counterpart_in_ours_raise_with_their_path(theirs: nn.Module, message: str):
    with pytest.raises(ValueError, match=rf"^body\.1 \(\w+\): .*{message}"):
        from_spikingjelly(nn.ModuleDict({"body": nn.Sequential(nn.Linear(2, 2), theirs)}))


def test_errors_name_a_network_that_is_a_single_neuron():
    with pytest.raises(ValueError, match=r"^the network \(QIFNode\)"):
        from_spikingjelly(neuron.QIFNode(step_mode="m"))


def test_without_spikingjelly_the_error_names_the_extra(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(sys.modules, "spikingjelly.activation_based", None)
    monkeypatch.delitem(sys.modules, "snn_core.interop.spikingjelly")
    with pytest.raises(ImportError, match=r'pip install "snn-core\[spikingjelly\]"'):
        importlib.import_module("snn_core.interop.spikingjelly")
