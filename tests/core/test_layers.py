"""Spiking layers: fusion changes only memory, a static input costs one step, drives can be scaled and shifted."""

import copy
from collections.abc import Callable
from typing import Any

import pytest
import torch
from spikingjelly.activation_based import functional, layer, neuron
from spikingjelly.activation_based import surrogate as jelly_surrogate
from torch import Tensor, nn

from present import present
from snn_core import (
    IF,
    LIF,
    PLIF,
    ScaledSpike,
    SpikingConv2d,
    SpikingLayer,
    SpikingLinear,
    SpikingMLP,
    packing,
    record_firing_rates,
)

MAPS, TOKENS = (4, 3, 2, 7, 5), (4, 3, 6, 2)  # T=4 B=3 C=2 H=7 W=5, and T=4 B=3 N=6 C=2


class Wrapped(nn.Module):
    """Another type of neuron, which cannot be fused."""

    def __init__(self, inner: nn.Module) -> None:
        super().__init__()
        self.inner = inner

    def forward(self, drive: Tensor) -> Tensor:
        return self.inner(drive)


def build_layer(shape: tuple[int, ...], neuron: Callable[[], nn.Module] = LIF) -> SpikingConv2d | SpikingLinear:
    return SpikingConv2d(2, 9, neuron=neuron) if len(shape) == 5 else SpikingLinear(2, 9, neuron=neuron)


def unfused(layer: SpikingLayer) -> SpikingLayer:
    """Return a copy of the layer whose batch norm and neuron are not fused."""
    twin = copy.deepcopy(layer)
    twin.neuron = Wrapped(twin.neuron)
    return twin


def assert_equal_training(one: SpikingLayer, other: SpikingLayer, x: Tensor, *, rtol: float, atol: float) -> Tensor:
    """Assert equal spikes, gradients and statistics; return the spikes."""
    a, b = x.clone().requires_grad_(), x.clone().requires_grad_()
    spikes, expected = one(a), other(b)
    assert torch.equal(spikes, expected)
    upstream = torch.randn(spikes.shape, dtype=x.dtype)
    spikes.backward(upstream)
    expected.backward(upstream)
    torch.testing.assert_close(a.grad, b.grad, rtol=rtol, atol=atol)
    for (name, p), q in zip(one.named_parameters(), other.parameters(), strict=True):
        torch.testing.assert_close(p.grad, q.grad, rtol=rtol, atol=atol, msg=lambda text, n=name: f"{n}: {text}")
    for p, q in zip(one.buffers(), other.buffers(), strict=True):
        torch.testing.assert_close(p, q)
    return spikes


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("kind", [IF, LIF, PLIF])
@pytest.mark.parametrize("shape", [MAPS, TOKENS], ids=["maps", "tokens"])
def test_fused_batch_norm_and_neuron_equal_the_unfused(shape: tuple[int, ...], kind: type, training: bool):
    for dtype, tolerance in ((torch.float64, 1e-9), (torch.float32, 1e-4)):
        ours = (
            build_layer(shape, lambda: kind(v_threshold=0.1, learn_threshold=True, v_reset=-0.1))
            .to(dtype)
            .train(training)
        )
        spikes = assert_equal_training(
            ours, unfused(ours), torch.randn(shape, dtype=dtype), rtol=tolerance, atol=tolerance
        )
        assert 0.05 < spikes.mean() < 0.95


def test_custom_surrogates_train_equally_when_fused():
    ours = build_layer(MAPS, lambda: LIF(surrogate=lambda d, slope: slope / (1 + d.abs()))).double()
    x = torch.randn(MAPS, dtype=torch.float64)
    assert_equal_training(ours, unfused(ours), x, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("shape", [MAPS, TOKENS], ids=["maps", "tokens"])
def test_mixed_precision_keeps_statistics_and_membrane_in_float32(shape: tuple[int, ...]):
    ours = build_layer(shape)
    exact, norm = copy.deepcopy(ours), present(ours.norm)
    x, exact_norm = torch.randn(shape), present(exact.norm)
    with torch.autocast("cpu", torch.bfloat16):
        spikes = ours(x)
        product = ours.conv(x.flatten(0, 1)) if isinstance(ours, SpikingConv2d) else ours.linear(x)
    product = product.float()
    if len(shape) == 5:
        expected = exact.neuron(exact_norm(product).unflatten(0, shape[:2]))
    else:
        expected = exact.neuron(exact_norm(product.flatten(0, -2)).view(product.shape))
    assert spikes.dtype == torch.bfloat16
    assert torch.equal(spikes.float(), expected)
    torch.testing.assert_close(norm.running_var, exact_norm.running_var)
    spikes.sum().backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in ours.parameters())


def test_hooks_get_the_spikes_and_the_drive_of_the_neuron():
    ours = build_layer(MAPS)
    x = torch.randn(MAPS)
    fired, drives = list[Tensor](), list[Tensor]()

    def record(_module: nn.Module, _args: Any, output: Tensor) -> None:
        fired.append(output)

    def shift(_module: nn.Module, _args: Any, output: Tensor) -> Tensor:
        return output + 1

    with record_firing_rates(ours) as rates:
        ours.neuron.register_forward_hook(record)
        spikes = ours(x)
    assert torch.equal(fired[0], spikes)
    assert rates[""] == pytest.approx(spikes.mean().item())
    ours.neuron.register_forward_pre_hook(lambda _module, args: drives.append(args[0]))
    assert torch.equal(ours(x), spikes)
    assert torch.equal(ours.neuron.forward(drives[0]), spikes)
    present(ours.norm).register_forward_hook(shift)
    assert ours(x).mean() > spikes.mean()


def test_another_type_of_norm_is_used_unfused():
    ours = build_layer(MAPS)
    assert isinstance(ours, SpikingConv2d)
    norm = nn.InstanceNorm2d(9)
    ours.norm = norm  # pyright: ignore[reportAttributeAccessIssue]
    x = torch.randn(MAPS)
    drive = norm(ours.conv(x.flatten(0, 1))).unflatten(0, MAPS[:2])
    assert torch.equal(ours(x), LIF()(drive))


def saved_bytes(model: nn.Module, x: Tensor, *, bits: bool = False) -> int:
    """Return the bytes saved for the backward, each storage once, without input, parameters and buffers."""
    others = {tensor.untyped_storage().data_ptr() for tensor in (x, *model.parameters(), *model.buffers())}
    sizes: dict[int, int] = {}

    def save(tensor: Tensor) -> object:
        saved = packing.pack_if_binary(tensor) if bits else tensor
        storage = (saved if isinstance(saved, Tensor) else saved.memory.bits).untyped_storage()
        if storage.data_ptr() not in others:
            sizes[storage.data_ptr()] = storage.nbytes()
        return saved

    with torch.autograd.graph.saved_tensors_hooks(save, packing.restore):
        alive = model(x)
    assert alive.requires_grad
    return sum(sizes.values())


@pytest.mark.parametrize(("bits", "ratio"), [(False, 0.56), (True, 0.3)], ids=["unpacked", "packed"])
def test_blocks_save_a_fraction_of_the_memory_of_spikingjelly(bits: bool, ratio: float):
    def theirs() -> nn.Module:
        node = neuron.LIFNode(detach_reset=True, surrogate_function=jelly_surrogate.Sigmoid(4.0))
        return nn.Sequential(layer.Conv2d(16, 16, 3, padding=1, bias=False), layer.BatchNorm2d(16), node)

    jelly = nn.Sequential(*[theirs() for _ in range(3)])
    functional.set_step_mode(jelly, "m")
    x = torch.rand(4, 8, 16, 12, 12).round()
    neurons = 3 * x.numel()
    ours = saved_bytes(nn.Sequential(*[SpikingConv2d(16, 16) for _ in range(3)]), x, bits=bits)
    peer = saved_bytes(jelly, x)
    assert peer / neurons == pytest.approx(14.7, abs=0.3)
    # The input is not counted, so two of three layers save spikes.
    assert ours / neurons == pytest.approx(4 + (2 / 3) * (1 / 8 if bits else 4), abs=0.1)
    assert ours <= ratio * peer


def test_a_static_input_is_saved_once_for_all_steps():
    ours, x = SpikingConv2d(2, 16), torch.randn(8, 2, 12, 12)

    class Static(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return ours(x, time_steps=10)

    model = Static()
    model.ours = ours
    assert saved_bytes(model, x) == pytest.approx(4 * 8 * 16 * 12 * 12, abs=500)


@pytest.mark.parametrize("time_steps", [None, 4])
def test_torch_compile_captures_one_graph(time_steps: int | None):
    ours = build_layer(MAPS, PLIF)
    twin = copy.deepcopy(ours)
    x = torch.randn(MAPS[1:] if time_steps else MAPS)
    compiled = torch.compile(ours, fullgraph=True, backend="aot_eager")
    more = {"time_steps": time_steps} if time_steps else {}
    outputs: list[Tensor] = []
    for run in (compiled, twin):
        out = run(x, **more)
        out.sum().backward()
        outputs.append(out)
    assert torch.equal(*outputs)
    for p, q in zip(ours.parameters(), twin.parameters(), strict=True):
        torch.testing.assert_close(p.grad, q.grad)
    torch.testing.assert_close(present(ours.norm).running_var, present(twin.norm).running_var)


def test_names_of_parameters_and_statistics():
    statistics = ["norm.running_mean", "norm.running_var", "norm.num_batches_tracked"]
    assert list(build_layer(MAPS).state_dict()) == ["conv.weight", "norm.weight", "norm.bias", *statistics]
    assert list(build_layer(TOKENS).state_dict()) == ["linear.weight", "norm.weight", "norm.bias", *statistics]


def test_convolution_uses_kernel_size_stride_and_padding():
    ours = SpikingConv2d(2, 9, kernel_size=(3, 5), stride=2, padding=(0, 2))
    assert ours.conv.weight.shape == (9, 2, 3, 5)
    assert ours(torch.randn(4, 3, 2, 9, 8)).shape == (4, 3, 9, 4, 4)
    assert ours(torch.randn(3, 2, 9, 8), time_steps=4).shape == (4, 3, 9, 4, 4)


@pytest.mark.parametrize("momentum", [0.1, None])
@pytest.mark.parametrize("fused", [True, False], ids=["fused", "unfused"])
@pytest.mark.parametrize("training", [True, False])
def test_a_static_input_equals_its_repetition(training: bool, fused: bool, momentum: float | None):
    kind = PLIF if fused else lambda: Wrapped(PLIF())
    once, repeated = (SpikingConv2d(2, 5, neuron=kind).double().train(training) for _ in range(2))
    repeated.load_state_dict(once.state_dict())
    once.norm.momentum = repeated.norm.momentum = momentum
    x = torch.randn(3, 2, 6, 7, dtype=torch.float64)  # B=3 C=2 H=6 W=7
    upstream = torch.randn(4, 3, 5, 6, 7, dtype=torch.float64)
    a, b = x.clone().requires_grad_(), x.clone().requires_grad_()
    for _ in range(2):  # twice, so that running statistics matter
        out_a, out_b = once(a, time_steps=4), repeated(b.expand(4, -1, -1, -1, -1))
        assert torch.equal(out_a, out_b)
        (out_a * upstream).sum().backward()
        (out_b * upstream).sum().backward()
    torch.testing.assert_close(a.grad, b.grad, rtol=1e-10, atol=1e-12)
    for (name, p), q in zip(once.named_parameters(), repeated.parameters(), strict=True):
        torch.testing.assert_close(p.grad, q.grad, rtol=1e-9, atol=1e-10, msg=lambda text, n=name: f"{n}: {text}")
    for name, statistic in once.state_dict().items():
        torch.testing.assert_close(statistic, repeated.state_dict()[name], rtol=1e-12, atol=1e-14)


def test_the_gradient_of_a_static_input_is_summed_in_chunks(monkeypatch: pytest.MonkeyPatch):
    x, upstream = torch.randn(5, 2, 6, 7, dtype=torch.float64), torch.randn(3, 5, 4, 6, 7, dtype=torch.float64)
    results = []
    for elements in (1 << 22, 1000):  # all 5 samples together, and 1 at a time of 4 * 6 * 7 neurons and 3 steps
        monkeypatch.setattr("snn_core.ops.norm_lif.operation.GRADIENT_ELEMENTS", elements)
        torch.manual_seed(0)
        leaf, one = x.clone().requires_grad_(), SpikingConv2d(2, 4, neuron=PLIF).double()
        one(leaf, time_steps=3).backward(upstream)
        results.append((leaf.grad, one.neuron.w.grad, one.conv.weight.grad))
    for a, b in zip(*results, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-9, atol=1e-11)


@pytest.mark.parametrize(
    ("layer", "shape"),
    [
        (SpikingLinear(6, 9), (4, 2, 5, 6)),
        (SpikingLinear(6, 9, bias=True, norm=False), (4, 2, 5, 6)),
        (SpikingConv2d(6, 9), (4, 2, 6, 5, 3)),
        (ScaledSpike(0.25), (4, 2, 5, 6)),
    ],
    ids=["linear-norm", "linear-bias", "conv", "scale"],
)
def test_adjust_drive_scales_and_shifts_what_the_neuron_receives(layer: SpikingLayer, shape: tuple[int, ...]):
    received: list[torch.Tensor] = []
    layer.neuron.register_forward_pre_hook(lambda _module, args: received.append(args[0].detach().clone()))
    x = torch.randn(shape)
    layer(x)
    offset = 0.0 if isinstance(layer, ScaledSpike) else -0.75
    layer.adjust_drive(3.0, offset)
    layer(x)
    torch.testing.assert_close(received[1], 3 * received[0] + offset, rtol=1e-4, atol=1e-5)


def test_linear_normalizes_channels_over_everything_else():
    layer = SpikingLinear(3, 4).train()
    drives: list[torch.Tensor] = []
    layer.neuron.register_forward_pre_hook(lambda _module, args: drives.append(args[0]))
    layer(torch.randn(2, 50, 30, 3))
    torch.testing.assert_close(drives[0].mean((0, 1, 2)), torch.zeros(4), atol=1e-5, rtol=0)
    torch.testing.assert_close(drives[0].var((0, 1, 2)), torch.ones(4), atol=1e-2, rtol=0)


def test_the_mlp_widens_and_narrows():
    mlp = SpikingMLP(6, expansion=3, neuron=lambda: LIF(tau=1.5))
    assert mlp.expand.linear.out_features == 18
    out = mlp(torch.rand(2, 3, 4, 6))
    assert out.shape == (2, 3, 4, 6)
    assert set(out.unique().tolist()) <= {0.0, 1.0}


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: SpikingConv2d(2, 3)(torch.zeros(1, 2, 4, 4)), "time_steps is not given"),
        (lambda: SpikingConv2d(2, 3)(torch.zeros(2, 4, 4), time_steps=2), r"the shape is \(2, 4, 4\)"),
        (lambda: ScaledSpike(1.0).adjust_drive(1.0, 0.5), "offset is 0.5"),
        (lambda: SpikingLinear(2, 3, norm=False), "needs norm or bias"),
    ],
)
def test_invalid_arguments_raise(call: Callable[[], object], message: str):
    with pytest.raises(ValueError, match=message):
        call()
