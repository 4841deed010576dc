"""Batch norm, neuron and max-pooling as one operation give what the three give one after the other."""

import pytest
import torch
from torch import Tensor, nn

from snn_core import IF, LIF, PLIF, SpikingConv2d
from snn_core.ops.norm_lif import pooled

T, B = 3, 2
SHAPES = {"square": (3, 2, 1), "tight": (2, 2, 0), "wide": ((1, 3), (1, 2), (0, 1)), "overlapping": (3, 1, 1)}


def layer(channels: int, neuron: nn.Module, *, seed: int = 0) -> SpikingConv2d:
    torch.manual_seed(seed)
    conv = SpikingConv2d(3, channels, neuron=lambda: neuron)
    with torch.no_grad():
        assert conv.norm.weight is not None
        conv.norm.weight.uniform_(0.5, 3.0)
        conv.norm.bias.uniform_(-0.5, 1.0)
    return conv


def run(conv: SpikingConv2d, x: Tensor, pool: nn.MaxPool2d, *, fused: bool) -> dict[str, Tensor]:
    """Train one step and evaluate; a hook on the neuron disables the fusion."""
    conv.norm.reset_running_stats()
    conv.zero_grad()
    hook = None if fused else conv.neuron.register_forward_hook(lambda *_: None)
    x = x.clone().requires_grad_()
    results = {"spikes": conv.train()(x, time_steps=T, pool=pool)}
    weights = torch.randn(results["spikes"].shape, generator=torch.Generator().manual_seed(1))
    (results["spikes"] * weights).sum().backward()
    with torch.no_grad():
        results["evaluation"] = conv.eval()(x, time_steps=T, pool=pool)
    if hook is not None:
        hook.remove()
    gradients = {"x": x.grad, **{name: parameter.grad for name, parameter in conv.named_parameters()}}
    for name, gradient in gradients.items():
        assert gradient is not None
        results[f"gradient of {name}"] = gradient.clone()
    return results | {f"statistics {name}": buffer.clone() for name, buffer in conv.named_buffers()}


def calls(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Record the calls of the fused operation."""
    names = list[str]()
    original = pooled._run  # pyright: ignore[reportPrivateUsage]

    def recording(function: str, *arguments: object) -> None:
        names.append(function)
        original(function, *arguments)  # pyright: ignore[reportArgumentType]

    monkeypatch.setattr(pooled, "_run", recording)
    return names


def assert_equal(fused: dict[str, Tensor], separate: dict[str, Tensor]) -> None:
    for name, expected in separate.items():
        if name.startswith("gradient"):
            torch.testing.assert_close(fused[name], expected, rtol=1e-5, atol=1e-5 * float(expected.abs().max()))
        else:
            assert torch.equal(fused[name], expected), name


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("static", [True, False])
@pytest.mark.parametrize("channels", [8, 20, 64])
def test_fused_and_separate_pooling_agree(
    channels: int, static: bool, shape: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    kernel, stride, padding = SHAPES[shape]
    pool = nn.MaxPool2d(kernel, stride=stride, padding=padding)
    conv = layer(channels, LIF())
    x = torch.randn(B, 3, 7, 9) if static else torch.randn(T, B, 3, 7, 9)
    names = calls(monkeypatch)
    fused = run(conv, x, pool, fused=True)
    assert names == ["snn_pool_forward", "snn_pool_backward", "snn_pool_forward"]
    assert 0.05 < fused["spikes"].mean() < 0.95
    assert_equal(fused, run(conv, x, pool, fused=False))
    assert len(names) == 3


@pytest.mark.parametrize("surrogate", ["sigmoid", "atan", "triangle", "rectangle", "fast_sigmoid", "erf"])
@pytest.mark.parametrize("detach", [(True, True), (True, False), (False, False)])
@pytest.mark.parametrize("v_reset", [0.0, -0.5, None])
def test_every_option_of_the_neuron(detach: tuple[bool, bool], surrogate: str, v_reset: float | None) -> None:
    neuron = LIF(
        tau=3.0, v_reset=v_reset, detach_reset=detach[0], detach_membrane=detach[1], surrogate=surrogate, slope=2.0
    )
    conv, pool = layer(16, neuron), nn.MaxPool2d(3, stride=2, padding=1)
    x = torch.randn(T, B, 3, 6, 5)
    assert_equal(run(conv, x, pool, fused=True), run(conv, x, pool, fused=False))


def test_channels_are_processed_in_parts_where_the_ring_would_not_fit(monkeypatch: pytest.MonkeyPatch) -> None:
    conv, pool, x = layer(40, IF()), nn.MaxPool2d(3, stride=2, padding=1), torch.randn(T, B, 3, 8, 8)
    whole = run(conv, x, pool, fused=True)
    monkeypatch.setattr(pooled, "RING", 1)
    parts = run(conv, x, pool, fused=True)
    assert all(torch.equal(parts[name], value) for name, value in whole.items())


def test_the_number_of_threads_changes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    conv, pool, x = layer(16, LIF()), nn.MaxPool2d(2), torch.randn(T, 8, 3, 32, 32)
    one = run(conv, x, pool, fused=True)
    monkeypatch.setattr(torch, "get_num_threads", lambda: 4)
    several = run(conv, x, pool, fused=True)
    assert all(torch.equal(several[name], one[name]) for name in ("spikes", "gradient of x", "evaluation"))


def test_rows_outside_every_window_have_no_gradient() -> None:
    """A window of 2 on 7 rows leaves the last one out."""
    conv, pool = layer(16, LIF()), nn.MaxPool2d(2)
    x = torch.randn(T, B, 3, 7, 7)
    assert_equal(run(conv, x, pool, fused=True), run(conv, x, pool, fused=False))


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_mixed_precision(dtype: torch.dtype) -> None:
    conv, pool, x = layer(32, LIF()), nn.MaxPool2d(3, stride=2, padding=1), torch.randn(B, 3, 8, 8)
    with torch.autocast("cpu", dtype=dtype):
        fused, separate = run(conv, x, pool, fused=True), run(conv, x, pool, fused=False)
    assert fused["spikes"].dtype == dtype
    assert torch.equal(fused["spikes"], separate["spikes"])
    for name in ("gradient of x", "gradient of conv.weight", "gradient of norm.weight"):
        error = (fused[name] - separate[name]).norm() / separate[name].norm()
        assert error < 0.02, name


@pytest.mark.parametrize(
    "change",
    [
        lambda conv, pool, x: (conv.double(), pool, x.double()),
        lambda conv, pool, x: (conv, nn.MaxPool2d(2, dilation=2), x),
        lambda conv, pool, x: (conv, nn.MaxPool2d(2, stride=3), x),
        lambda conv, pool, x: (conv, nn.MaxPool2d(2, ceil_mode=True), x),
        lambda conv, pool, x: (layer(16, PLIF()), pool, x),
        lambda conv, pool, x: (layer(16, LIF(implementation="torch")), pool, x),
    ],
    ids=["float64", "dilation", "gaps between windows", "ceil_mode", "learned tau", "torch"],
)
def test_what_the_fusion_does_not_support_is_computed_separately(change, monkeypatch: pytest.MonkeyPatch) -> None:  # pyright: ignore[reportUnknownParameterType, reportMissingParameterType]
    conv, pool, x = change(layer(16, LIF()), nn.MaxPool2d(2), torch.randn(T, B, 3, 8, 8))
    names = calls(monkeypatch)
    fused = run(conv, x, pool, fused=True)
    assert names == []
    assert_equal(fused, run(conv, x, pool, fused=False))


def test_an_infinite_gradient_reaches_one_element() -> None:
    conv, pool = layer(16, LIF()), nn.MaxPool2d(3, stride=2, padding=1)
    x = torch.randn(T, B, 3, 6, 6).requires_grad_()
    drives = list[Tensor]()
    handle = conv.conv.register_full_backward_hook(lambda _, __, grads: drives.append(grads[0]))
    spikes = conv.eval()(x, pool=pool)
    gradient = torch.zeros_like(spikes)
    gradient[-1, 0, 3, 1, 1] = float("inf")
    spikes.backward(gradient)
    handle.remove()
    assert int((~drives[0].isfinite()).any(1).sum()) <= T


def test_a_second_derivative_is_refused() -> None:
    conv, x = layer(16, LIF()), torch.randn(T, B, 3, 6, 6, requires_grad=True)
    scale = torch.ones((), requires_grad=True)
    (gradient,) = torch.autograd.grad((scale * conv(x, pool=nn.MaxPool2d(2))).sum(), x, create_graph=True)
    with pytest.raises(RuntimeError, match="once_differentiable"):
        gradient.sum().backward()
