"""A NIR graph, saved and loaded, gives the spikes of its network when integrated by Euler steps."""

import importlib
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import nir
import numpy as np
import pytest
import torch
from torch import Tensor, nn

from present import present
from snn_core import ALIF, IF, LIF, PLIF, Neuron, ScaledSpike, SpikingConv2d, SpikingLinear, SpikingMLP
from snn_core.interop.nir import to_nir


def windows(x: np.ndarray, kernel: Any, stride: Any, padding: Any, dilation: Any = (1, 1)) -> np.ndarray:
    """[B, C, H, W] -> [B, C, H', W', kh, kw], the patch under the kernel at each output position."""
    (kh, kw), (sh, sw), (ph, pw), (dh, dw) = kernel, stride, padding, dilation
    padded = np.pad(x, ((0, 0), (0, 0), (ph, ph), (pw, pw)))
    extent = (dh * (kh - 1) + 1, dw * (kw - 1) + 1)
    patches = np.lib.stride_tricks.sliding_window_view(padded, extent, axis=(2, 3))
    return patches[:, :, ::sh, ::sw, ::dh, ::dw]


def integrate(graph: nir.NIRGraph, currents: np.ndarray, dt: float) -> np.ndarray:
    """Integrate a chain of NIR nodes by forward Euler, from their equations: [T, B, ...] -> [T, B, ...]."""
    successor = dict(graph.edges)
    chain = ["input"]
    while chain[-1] in successor:
        chain.append(successor[chain[-1]])
    assert set(chain) == set(graph.nodes)
    potentials: dict[str, np.ndarray] = {}
    outputs = []
    for x in currents.astype(np.float64):
        for name in chain[1:-1]:
            x = step(graph.nodes[name], x, potentials, name, dt)
        outputs.append(x)
    return np.stack(outputs)


def step(node: nir.NIRNode, x: np.ndarray, potentials: dict[str, np.ndarray], name: str, dt: float) -> np.ndarray:
    match node:
        case nir.Affine():
            return x @ node.weight.T + node.bias
        case nir.Linear():
            return x @ node.weight.T
        case nir.Scale():
            return x * node.scale
        case nir.Conv2d():
            patches = windows(x, node.weight.shape[2:], node.stride, node.padding, node.dilation)
            return np.einsum("bchwij,ocij->bohw", patches, node.weight) + node.bias[:, None, None]
        case nir.AvgPool2d():
            return windows(x, node.kernel_size, node.stride, node.padding).mean((4, 5))
        case nir.SumPool2d():
            return windows(x, node.kernel_size, node.stride, node.padding).sum((4, 5))
        case nir.Flatten():
            start, end = int(node.start_dim), int(node.end_dim) % len(node.input_type["input"])
            shape = [*x.shape[: 1 + start], -1, *x.shape[2 + end :]]
            return x.reshape(shape)
        case nir.IF():
            v = potentials.get(name, np.broadcast_to(present(node.v_reset), x.shape)) + dt * node.r * x
        case nir.LIF():
            v = potentials.get(name, np.broadcast_to(present(node.v_reset), x.shape))
            v = v + dt / node.tau * (node.v_leak - v + node.r * x)
        case _:
            raise AssertionError(f"no equation for {node}")
    spikes = v > node.v_threshold
    potentials[name] = np.where(spikes, present(node.v_reset), v)
    return spikes.astype(np.float64)


def save_and_load(graph: nir.NIRGraph, folder: Path) -> nir.NIRGraph:
    nir.write(folder / "network.nir", graph)
    return nir.read(folder / "network.nir")


def randomize_norms(net: nn.Module) -> nn.Module:
    """Randomize batch norms and switch to evaluation mode."""
    for module in net.modules():
        if isinstance(module, nn.BatchNorm1d | nn.BatchNorm2d):
            present(module.running_mean).normal_(0.0, 0.3)
            present(module.running_var).uniform_(0.1, 0.6)
            if module.affine:
                nn.init.normal_(module.weight, 1.0, 0.2)
                nn.init.normal_(module.bias, 0.3, 0.2)
    return net.eval()


def assert_same_spikes(net: nn.Module, x: Tensor, tmp_path: Path, dt: float = 1e-4, batch_axis: bool = True) -> None:
    graph = to_nir(net, input_shape=x.shape[2 if batch_axis else 1 :], dt=dt, batch_axis=batch_axis)
    with torch.no_grad():
        expected = net(x).numpy()
    assert 0.05 < expected.mean() < 0.95
    currents = x.numpy() if batch_axis else x.numpy()[:, None]
    actual = integrate(save_and_load(graph, tmp_path), currents, dt)
    np.testing.assert_array_equal(actual if batch_axis else actual[:, 0], expected)


@pytest.mark.parametrize("v_reset", [0.0, -0.5])
@pytest.mark.parametrize(
    "make",
    [
        lambda **options: IF(**options),
        lambda **options: LIF(tau=4.0, **options),
        lambda **options: LIF(tau=4.0, decay_input=False, **options),
        lambda **options: PLIF(**options),
    ],
    ids=["IF", "LIF", "LIF without decay_input", "PLIF"],
)
def test_nir_neurons_spike_at_our_threshold(make: Callable[..., Neuron], v_reset: float, tmp_path: Path):
    # Dyadic currents often meet the threshold exactly; a NIR neuron spikes only above it.
    x = torch.randint(-4, 17, (8, 3, 50), generator=torch.Generator().manual_seed(2)) * 0.25  # T=8 B=3 N=50
    neuron = make(v_threshold=0.5, v_reset=v_reset).eval()
    assert_same_spikes(neuron, x, tmp_path, dt=2.0**-10)
    at_threshold = neuron(x)[0] > make(v_threshold=0.5 + 2**-20, v_reset=v_reset)(x)[0]
    assert at_threshold.any()


def test_a_network_of_spiking_layers_with_batch_norm_folded(tmp_path: Path):
    net = nn.Sequential(
        SpikingConv2d(2, 3, neuron=lambda: LIF(v_threshold=0.25)),
        nn.Flatten(2),
        nn.Dropout(0.5),
        SpikingLinear(3 * 5 * 4, 8, neuron=lambda: LIF(tau=3.0, v_reset=-0.25, v_threshold=0.5)),
        nn.Sequential(SpikingMLP(8, expansion=2, neuron=lambda: PLIF(v_threshold=0.5))),
        SpikingLinear(8, 6, bias=True, norm=False, neuron=lambda: IF(learn_threshold=True, v_threshold=0.5)),
        ScaledSpike(0.75, neuron=lambda: IF(v_threshold=0.5)),
    )
    x = torch.rand(6, 3, 2, 5, 4) * 2  # T=6 B=3 C=2 H=5 W=4
    assert_same_spikes(randomize_norms(net), x, tmp_path)
    assert list(to_nir(net, input_shape=(2, 5, 4)).nodes) == [
        "input",
        "0.conv",
        "0.neuron",
        "1",
        "3.linear",
        "3.neuron",
        "4.0.expand.linear",
        "4.0.expand.neuron",
        "4.0.contract.linear",
        "4.0.contract.neuron",
        "5.linear",
        "5.neuron",
        "6.scale",
        "6.neuron",
        "output",
    ]


def test_plain_layers_on_a_stream_without_a_batch(tmp_path: Path):
    net = nn.Sequential(
        nn.Conv2d(2, 4, 2, stride=(1, 2), padding=(1, 0), bias=False),
        nn.BatchNorm2d(4, affine=False),
        LIF(decay_input=False),
        nn.AvgPool2d((2, 3), stride=1, padding=1),
        nn.Conv2d(4, 3, 2, dilation=2),
        LIF(v_threshold=0.2),
        nn.AvgPool2d(2, divisor_override=1),
        nn.Flatten(),
        nn.Identity(),
        nn.Linear(9, 5, bias=False),
        nn.BatchNorm1d(5),
        LIF(v_threshold=0.25),
    )
    x = torch.randn(9, 2, 7, 8)  # T=9 C=2 H=7 W=8
    assert_same_spikes(randomize_norms(net), x, tmp_path, dt=1e-3, batch_axis=False)


def test_time_is_in_seconds():
    lif = to_nir(LIF(tau=5.0).eval(), input_shape=(3,), dt=2e-3).nodes["lif"]
    integrator = to_nir(IF().eval(), input_shape=(3,), dt=2e-3).nodes["if"]
    assert isinstance(lif, nir.LIF)
    assert isinstance(integrator, nir.IF)
    np.testing.assert_allclose(lif.tau, [0.01] * 3)
    np.testing.assert_allclose(integrator.r, [500.0] * 3)


def test_exporting_does_not_change_the_network():
    net = nn.Sequential(SpikingLinear(4, 3)).eval()
    before = {name: value.clone() for name, value in net.state_dict().items()}
    graph = to_nir(net, input_shape=(4,))
    linear = graph.nodes["0.linear"]
    assert isinstance(linear, nir.Affine | nir.Linear)
    linear.weight[:] = 0
    assert all(torch.equal(value, before[name]) for name, value in net.state_dict().items())


@pytest.mark.parametrize(
    ("net", "shape", "message"),
    [
        (LIF(v_reset=None), (3,), r"^the network \(LIF\) cannot be .* no soft reset"),
        (nn.Sequential(nn.Sequential(nn.Linear(2, 2), nn.ReLU())), (2,), r"^0\.1 \(ReLU\) .* no rule .* AvgPool2d"),
        (nn.Sequential(ALIF()), (2,), r"^0 \(ALIF\) .* no rule"),
        (nn.Sequential(nn.Linear(4, 2)), (5, 4), r"samples of shape \(4,\), but its input is \(5, 4\)"),
        (nn.Sequential(nn.Conv2d(2, 2, 3, groups=2)), (2, 8, 8), "groups=2"),
        (nn.Sequential(nn.Conv2d(2, 2, 3, padding_mode="circular")), (2, 8, 8), "padding_mode='circular'"),
        (nn.Sequential(nn.Conv2d(2, 2, (3, 2))), (2, 8, 8), r"kernel_size=\(3, 2\), but .* assumes square"),
        (nn.Sequential(nn.Conv2d(2, 2, 3)), (3, 8, 8), r"maps \(2, H, W\), but its input is \(3, 8, 8\)"),
        (nn.Sequential(nn.AvgPool2d(3, ceil_mode=True)), (3, 8, 8), "ceil_mode=True"),
        (nn.Sequential(nn.AvgPool2d(3, padding=1, count_include_pad=False)), (3, 8, 8), "count_include_pad"),
        (nn.Sequential(nn.AvgPool2d(3, divisor_override=5)), (3, 8, 8), "divisor_override=5"),
        (nn.Sequential(nn.Flatten(1)), (3, 8, 8), "start_dim=1 flattens time or batch; .* first axis is 2"),
        (nn.Sequential(nn.BatchNorm1d(4)), (4,), "must follow a linear layer"),
        (nn.Sequential(nn.Linear(4, 4), nn.BatchNorm1d(4, track_running_stats=False)), (4,), "running statistics"),
        (nn.Sequential(nn.Linear(4, 4), nn.BatchNorm1d(5)), (4,), r"normalizes 5 channels, but its input is \(4,\)"),
        (nn.Sequential(LIF(), nn.BatchNorm1d(4)), (4,), "must follow a linear layer"),
        (nn.Sequential(SpikingLinear(4, 4, neuron=nn.Tanh)), (4,), r"^0\.neuron \(Tanh\)"),
        (nn.Sequential(nn.Linear(4, 4), nn.Dropout().train()), (4,), r"^1 \(Dropout\) .* training mode"),
        (nn.ModuleDict({"a": LIF()}), (4,), r"^the network \(ModuleDict\)"),
    ],
    ids=str,
)
def test_unsupported_modules_raise_with_their_path(net: nn.Module, shape: tuple[int, ...], message: str):
    for module in net.modules():
        if not isinstance(module, nn.Dropout):
            module.training = False
    with pytest.raises(ValueError, match=message):
        to_nir(net, input_shape=shape)


def test_invalid_arguments_raise():
    net = nn.Sequential(nn.Linear(2, 3))
    with pytest.raises(ValueError, match=r"call eval\(\) on the network first"):
        to_nir(net, input_shape=(2,))
    with pytest.raises(ValueError, match="above 0, but it is 0"):
        to_nir(net.eval(), input_shape=(2,), dt=0)
    named = nn.Sequential()
    named.add_module("output", nn.Linear(2, 3))
    with pytest.raises(ValueError, match="a module is called 'output'"):
        to_nir(named.eval(), input_shape=(2,))


def test_without_nir_the_error_names_the_extra(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(sys.modules, "nir", None)
    monkeypatch.delitem(sys.modules, "snn_core.interop.nir")
    with pytest.raises(ImportError, match=r'pip install "snn-core\[nir\]"'):
        importlib.import_module("snn_core.interop.nir")
