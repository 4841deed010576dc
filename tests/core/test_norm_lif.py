"""Fused batch norm and neuron against their equations in float64, and against PyTorch's batch norm and our neuron."""

import copy
import itertools
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from present import present
from snn_core import IF, LIF, PLIF, InputNorm, LeakyNeuron, surrogate_gradient
from snn_core.ops.common.call import Implementation
from snn_core.ops.norm_lif.batch_norm import gradients, moments
from snn_core.ops.norm_lif.reference import norm_lif_reference

SETTINGS: list[dict[str, Any]] = [
    dict(zip(("v_reset", "detach_reset", "detach_membrane", "surrogate"), values, strict=True))
    for values in itertools.product((0.0, -0.5, None), (True, False), (True, False), ("sigmoid", "triangle"))
]
MAPS, TOKENS = (4, 3, 5, 6, 2), (4, 3, 6, 5)  # T=4 B=3 C=5 H=6 W=2, and T=4 B=3 N=6 C=5


def norm_of(
    shape: tuple[int, ...], dtype: torch.dtype = torch.float64, **options: Any
) -> nn.BatchNorm1d | nn.BatchNorm2d:
    """Return a batch norm of 5 channels, each with different parameters and running statistics."""
    norm = (nn.BatchNorm2d if shape == MAPS else nn.BatchNorm1d)(5, **options)
    generator = torch.Generator().manual_seed(3)
    with torch.no_grad():
        for parameter in norm.parameters():
            parameter.uniform_(0.5, 1.5, generator=generator)
        if norm.track_running_stats:
            present(norm.running_mean).uniform_(-1, 1, generator=generator)
            present(norm.running_var).uniform_(0.5, 2, generator=generator)
    return norm.to(dtype)


def unfused(norm: nn.Module, neuron: nn.Module, x: Tensor, **options: Any) -> Tensor:
    """Run batch norm, then the neuron."""
    drive = norm(x.flatten(0, 1)).view(x.shape) if x.dim() == 5 else norm(x.flatten(0, -2)).view(x.shape)
    return neuron(drive, **options)


def randn(shape: tuple[int, ...], seed: int, dtype: torch.dtype = torch.float64) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64).to(dtype)


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("shape", [MAPS, TOKENS], ids=["maps", "tokens"])
@pytest.mark.parametrize("settings", SETTINGS, ids=lambda s: "-".join(map(str, s.values())))
def test_spikes_and_gradients_equal_the_equations(settings: dict[str, Any], shape: tuple[int, ...], training: bool):
    axis = 2 if shape == MAPS else 3
    upstream = randn(shape, 1), randn(shape[1:], 2)
    start = {"x": 2 * randn(shape, 0) + 3, "v_init": 0.3 * randn(shape[1:], 4)}
    exact = {name: value.clone().requires_grad_() for name, value in start.items()}
    norm = norm_of(shape)
    outputs = norm_lif_reference(
        exact["x"],
        exact["v_init"],
        norm.weight,
        norm.bias,
        axis=axis,
        eps=norm.eps,
        statistics=None if training else (present(norm.running_mean), present(norm.running_var)),
        tau=1.7,
        v_threshold=0.8,
        decay_input=True,
        slope=3.0,
        **{**settings, "surrogate": surrogate_gradient(settings["surrogate"])},
    )
    torch.autograd.backward(outputs, upstream)
    assert 0.05 < outputs[0].mean() < 0.95
    runs: list[tuple[torch.dtype, float, Implementation]] = [
        (torch.float64, 1e-9, "auto"),
        (torch.float32, 2e-5, "torch"),
        (torch.float32, 2e-5, "auto"),
    ]
    for dtype, tolerance, implementation in runs:
        ours = norm_of(shape, dtype).train(training)
        leaves = {name: value.to(dtype).clone().requires_grad_() for name, value in start.items()}
        neuron = LIF(tau=1.7, v_threshold=0.8, slope=3.0, implementation=implementation, **settings)
        spikes, v_last = neuron(leaves["x"], v_init=leaves["v_init"], norm=InputNorm(ours), return_v=True)
        torch.autograd.backward((spikes, v_last), [g.to(dtype) for g in upstream])
        assert torch.equal(spikes.double(), outputs[0])
        pairs: dict[str, tuple[Tensor | None, Tensor | None]] = {
            "v_last": (v_last, outputs[1]),
            "weight": (ours.weight.grad, norm.weight.grad),
            "bias": (ours.bias.grad, norm.bias.grad),
            "x": (leaves["x"].grad, exact["x"].grad),
            "v_init": (leaves["v_init"].grad, exact["v_init"].grad),
        }
        for name, (actual, expected) in pairs.items():
            actual = present(actual)
            expected = torch.zeros_like(actual, dtype=torch.float64) if expected is None else expected
            torch.testing.assert_close(
                actual.double(), expected, rtol=tolerance, atol=tolerance, msg=lambda text, n=name: f"{n}: {text}"
            )


@pytest.mark.parametrize("kind", [IF, LIF, PLIF])
@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("shape", [MAPS, TOKENS], ids=["maps", "tokens"])
def test_learned_constants_get_the_gradients_of_the_unfused_neuron(
    kind: type[LeakyNeuron], shape: tuple[int, ...], training: bool
):
    norm = norm_of(shape).train(training)
    neuron = kind(v_threshold=0.9, v_reset=-0.2, learn_threshold=True).double()
    twins = copy.deepcopy(norm), copy.deepcopy(neuron)
    x, upstream = randn(shape, 0), randn(shape, 1)
    unfused(norm, neuron, x).backward(upstream)
    twins[1](x, norm=InputNorm(twins[0])).backward(upstream)
    assert present(neuron.log_v_threshold).grad != 0
    for ours, expected in zip(twins, (norm, neuron), strict=True):
        for p, q in zip(ours.parameters(), expected.parameters(), strict=True):
            torch.testing.assert_close(p.grad, q.grad, rtol=1e-9, atol=1e-10)


@pytest.mark.parametrize("momentum", [0.1, 0.7, 0.0, None])
@pytest.mark.parametrize("track", [True, False])
@pytest.mark.parametrize("shape", [MAPS, TOKENS], ids=["maps", "tokens"])
def test_running_statistics_equal_those_of_pytorch(shape: tuple[int, ...], track: bool, momentum: float | None):
    theirs = norm_of(shape, torch.float32, momentum=momentum, track_running_stats=track, eps=1e-2)
    ours, neuron = copy.deepcopy(theirs), LIF()
    for step in range(3):
        for norm in (theirs, ours):
            norm.train(step < 2)
        x = 3 * randn(shape, step, torch.float32) + step
        assert torch.equal(neuron(x, norm=InputNorm(ours)), unfused(theirs, neuron, x))
    assert list(ours.state_dict()) == list(theirs.state_dict())
    for name, statistic in ours.state_dict().items():
        torch.testing.assert_close(statistic, theirs.state_dict()[name], msg=lambda text, n=name: f"{n}: {text}")


@pytest.mark.parametrize("inner", [(7, 9), None], ids=["maps", "tokens"])
def test_statistics_far_from_zero_lose_no_digits(inner: tuple[int, int] | None):
    x = 100 + 0.1 * randn((4, 32, 5, *inner) if inner else (4, 32, 60, 5), 0, torch.float32)
    over = (0, 1, 3, 4) if inner else (0, 1, 2)
    norm = (nn.BatchNorm2d if inner else nn.BatchNorm1d)(5, momentum=1.0)
    LIF()(x, norm=InputNorm(norm))
    torch.testing.assert_close(norm.running_mean, x.double().mean(over).float(), rtol=3e-6, atol=0)
    torch.testing.assert_close(norm.running_var, x.double().var(over).float(), rtol=1e-3, atol=0)


@pytest.mark.parametrize("inner", [(32, 30), None], ids=["maps", "tokens"])
def test_results_are_equal_for_several_threads(inner: tuple[int, int] | None):
    shape = (2, 40, 5, *inner) if inner else (2, 400, 300, 5)  # large enough to be worth two threads
    x, upstream = randn(shape, 0, torch.float32) + 1, randn(shape, 1, torch.float32)
    norm, threads = (nn.BatchNorm2d if inner else nn.BatchNorm1d)(5), torch.get_num_threads()
    results = []
    try:
        for count in (1, 2):
            torch.set_num_threads(count)
            leaf, module = x.clone().requires_grad_(), copy.deepcopy(norm)
            spikes = LIF()(leaf, norm=InputNorm(module))
            spikes.backward(upstream)
            results.append((spikes, leaf.grad, module.weight.grad, module.bias.grad, module.running_var))
    finally:
        torch.set_num_threads(threads)
    assert (results[0][0] != results[1][0]).float().mean() <= 1e-5
    for one, two in zip(results[0][1:], results[1][1:], strict=True):
        torch.testing.assert_close(two, one, rtol=1e-4, atol=1e-3)


def test_samples_of_different_lengths():
    norm = norm_of(MAPS)
    twin, neuron, lengths = copy.deepcopy(norm), LIF(tau=3.0), torch.tensor([4, 1, 3])
    x, upstream = randn(MAPS, 0), randn(MAPS, 1)
    a, b = x.clone().requires_grad_(), x.clone().requires_grad_()
    spikes, expected = neuron(a, norm=InputNorm(norm), lengths=lengths), unfused(twin, neuron, b, lengths=lengths)
    assert torch.equal(spikes, expected)
    assert not spikes[1:, 1].any()
    spikes.backward(upstream)
    expected.backward(upstream)
    torch.testing.assert_close(a.grad, b.grad, rtol=1e-9, atol=1e-11)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("shape", [MAPS, TOKENS], ids=["maps", "tokens"])
def test_sixteen_bit_inputs_are_normalized_and_integrated_in_float32(shape: tuple[int, ...], dtype: torch.dtype):
    x, upstream = randn(shape, 0, dtype).requires_grad_(), randn(shape, 1, dtype)
    wide = x.detach().float().requires_grad_()
    norms = norm_of(shape, torch.float32), norm_of(shape, torch.float32)
    (spikes, v_last), (expected, v_expected) = (
        LIF()(c, norm=InputNorm(norm), return_v=True) for c, norm in zip((x, wide), norms, strict=True)
    )
    assert (spikes.dtype, v_last.dtype) == (dtype, torch.float32)
    assert torch.equal(spikes.float(), expected)
    torch.testing.assert_close(v_last, v_expected)
    torch.testing.assert_close(norms[0].running_var, norms[1].running_var)
    spikes.backward(upstream)
    expected.backward(upstream.float())
    torch.testing.assert_close(present(x.grad).float(), wide.grad, rtol=2e-2, atol=2e-2)
    torch.testing.assert_close(norms[0].weight.grad, norms[1].weight.grad, rtol=2e-2, atol=2e-2)


@pytest.mark.parametrize("training", [True, False])
def test_channels_last_maps_are_processed_without_a_copy(training: bool):
    x, upstream = randn(MAPS, 0), randn(MAPS, 1)
    channels_last = x.permute(0, 1, 3, 4, 2).contiguous().permute(0, 1, 4, 2, 3)
    a, b = x.clone().requires_grad_(), channels_last.requires_grad_()
    norm = norm_of(MAPS).train(training)
    twin = copy.deepcopy(norm)
    for leaf, module in ((a, norm), (b, twin)):
        spikes = LIF()(leaf, norm=InputNorm(module))
        spikes.backward(upstream)
    assert spikes.stride() == channels_last.stride()
    torch.testing.assert_close(b.grad, a.grad, rtol=1e-10, atol=1e-12)
    torch.testing.assert_close(twin.running_var, norm.running_var, rtol=1e-12, atol=1e-14)


@pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor that is not a leaf")  # caused by opcheck
@pytest.mark.parametrize("repeats", [0, 3])
@pytest.mark.parametrize("running", [True, False], ids=["running", "batch"])
def test_the_operation_passes_opcheck(running: bool, repeats: int):
    x = randn((2, 4, 5, 6) if repeats else (3, 2, 4, 5, 6), 0, torch.float32).requires_grad_()  # 4 channels
    v = torch.zeros(2, 4, 5, 6)
    constants = torch.tensor([0.5, 0.5, 1.0], dtype=torch.float64)
    weight, bias = torch.rand(4, requires_grad=True), torch.rand(4, requires_grad=True)
    statistics = (torch.rand(4), torch.rand(4) + 0.5) if running else (None, None)
    options = (30, 1e-5, repeats, False, True, False, "atan", 2.0, "torch")
    arguments = (x, v, constants, None, weight, bias, *statistics, *options)
    torch.library.opcheck(torch.ops.snn_core.norm_lif.default, arguments)


def test_torch_compile_captures_one_operation():
    norm, x = norm_of(MAPS, torch.float32), randn(MAPS, 0, torch.float32)
    twin = copy.deepcopy(norm)
    a, b = x.clone().requires_grad_(), x.clone().requires_grad_()
    neuron = PLIF()
    compiled = torch.compile(lambda x: neuron(x, norm=InputNorm(norm)), fullgraph=True, backend="aot_eager")
    spikes, expected = compiled(a), neuron(b, norm=InputNorm(twin))
    assert torch.equal(spikes, expected)
    spikes.sum().backward()
    expected.sum().backward()
    torch.testing.assert_close(a.grad, b.grad)
    torch.testing.assert_close(norm.running_var, twin.running_var)
    assert norm.num_batches_tracked == 1


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda neuron, norm: neuron(torch.zeros(1, 1, 5), norm=norm), r"more than one value per channel.*\(1, 1, 5\)"),
        (lambda neuron, norm: neuron(torch.zeros(0, 3, 5), norm=norm), "at least one time step"),
        (lambda neuron, norm: neuron(torch.zeros(3, 5), norm=InputNorm(norm.module, 0)), "at least one time step"),
        (
            lambda neuron, norm: neuron(torch.zeros(2, 3, 5), norm=norm, v_init=torch.zeros(3)),
            r"v_init has shape \(3,\)",
        ),
        (lambda neuron, norm: neuron(torch.zeros(2, 5, 10), norm=norm), r"C = 5 of .* it is \(2, 5, 10\)"),
        (lambda neuron, norm: neuron(torch.zeros(2), norm=norm), r"\[T, ..., C\] with C = 5"),
        (
            lambda _, norm: LIF(implementation="c")(torch.zeros(2, 3, 5), norm=norm),  # pyright: ignore[reportArgumentType]
            "must be auto, torch",
        ),
        (lambda _, norm: LIF(save="d8")(torch.zeros(2, 3, 5), norm=norm), "save must be d32, d16, x or u8"),  # pyright: ignore[reportArgumentType]
        (
            lambda neuron, norm: neuron(torch.zeros(2, 3, 5), norm=norm, lengths=torch.ones(4).int()),
            "lengths must be integers",
        ),
    ],
)
def test_invalid_arguments_raise(call: Callable[[LIF, InputNorm], object], message: str):
    with pytest.raises(ValueError, match=message):
        call(LIF(), InputNorm(nn.BatchNorm1d(5)))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("inner", [1, 7])
def test_the_sums_in_c_equal_those_of_float64(inner: int, dtype: torch.dtype):
    """Batch norm of 16-bit values is computed in float32: only its result is rounded."""
    x, grad = (randn((500, 24, inner), seed, torch.float32).to(dtype) for seed in (0, 1))
    weight = randn((24,), 2, torch.float32)
    mean, var = moments(x + 3, 1e-5, native=True)
    wide = (x + 3).double()
    torch.testing.assert_close(mean.double(), wide.mean((0, 2)), rtol=1e-6, atol=1e-6)
    torch.testing.assert_close(var.double(), wide.var((0, 2), correction=0), rtol=1e-5, atol=1e-6)
    mean, var = moments(x, 1e-5, native=True)
    exact = gradients(
        grad.double(), x.double(), weight.double(), mean.double(), var.double(), 1e-5, of_batch=True, native=False
    )
    ours = gradients(grad.clone(), x, weight, mean, var, 1e-5, of_batch=True, native=True)
    assert ours[0].dtype == dtype
    rounding = {torch.float32: 1e-6, torch.bfloat16: 5e-3, torch.float16: 6e-4}[dtype]
    torch.testing.assert_close(ours[0].double(), exact[0], rtol=rounding, atol=rounding / 10)
    for value, expected in zip(ours[1:], exact[1:], strict=True):
        torch.testing.assert_close(value.double(), expected, rtol=1e-5, atol=1e-4)
