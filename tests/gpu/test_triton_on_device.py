"""The Triton kernels on a CUDA device: the cases of `tests/core/test_triton.py`, public functions, graphs, compilation.

Expected values come from the PyTorch implementation in float64 on the CPU.
"""

from __future__ import annotations

import itertools
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from core.triton_cases import PRECISION, Case, check, check_signs_of_zero, covering_cases, drawn_cases, grid
from snn_core import LIF, PLIF, SURROGATES, lif
from snn_core.ops.common.call import Save
from snn_core.ops.lif import which_implementation

pytestmark = pytest.mark.gpu
DEVICE = "cuda"
SETTINGS = [
    dict(zip(("v_reset", "decay_input", "detach_reset", "detach_membrane", "surrogate"), values, strict=True))
    for values in itertools.product((0.0, -0.5, None), (True, False), (True, False), (True, False), SURROGATES)
]


@pytest.mark.parametrize("case", covering_cases(), ids=str)
def test_kernels_agree_with_the_equations(case: Case):
    check(case, DEVICE)


def test_d16_keeps_the_spike_of_a_distance_that_rounds_to_zero():
    check_signs_of_zero(DEVICE)


@pytest.mark.slow
def test_kernels_agree_with_the_equations_in_random_cases():
    for case in drawn_cases(400):
        check(case, DEVICE)


def run(x: Tensor, v: Tensor, upstream: tuple[Tensor, Tensor], **options: Any) -> tuple[Tensor, ...]:
    """Spikes, last potential and the gradients of x and v_init."""
    x, v = x.clone().requires_grad_(), v.clone().requires_grad_()
    outputs = lif(x, v_init=v, **options)
    grads = torch.autograd.grad(outputs, (x, v), [g.to(y) for g, y in zip(upstream, outputs, strict=True)])
    return *(y.detach() for y in outputs), *grads


def assert_near(actual: Tensor, expected: Tensor, precision: float = PRECISION[DEVICE]) -> None:
    scale = max(1e-3, float(expected.abs().max()))
    torch.testing.assert_close(actual.cpu().double() / scale, expected.cpu().double() / scale, rtol=0, atol=precision)


@pytest.mark.parametrize("settings", SETTINGS, ids=lambda s: "-".join(map(str, s.values())))
def test_the_public_function_agrees_with_plain_pytorch(settings: dict[str, Any]):
    x, v = grid((7, 5, 11), -8, 24), grid((5, 11), -4, 5)  # T=7, B=5, 11 neurons
    upstream = torch.randn(7, 5, 11), torch.randn(5, 11)
    options = {"tau": 2.0, "v_threshold": 0.75, "slope": 3.0, **settings}
    expected = run(x.double(), v.double(), upstream, implementation="torch", **options)
    actual = run(x.to(DEVICE), v.to(DEVICE), upstream, implementation="triton", **options)
    assert torch.equal(actual[0].cpu().double(), expected[0])
    for a, b in zip(actual[1:], expected[1:], strict=True):
        assert_near(a, b)


@pytest.mark.parametrize("save", ["d32", "d16", "x", "u8"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("T", [1, 4, 8, 9, 16, 17, 100])
def test_large_layers_in_every_dtype(T: int, dtype: torch.dtype, save: str):
    # Large enough for blocks of 4 warps, and not a multiple of one.
    x, v = grid((T, 3, 100_003), -8, 24).to(dtype), grid((3, 100_003), -4, 5)
    upstream = grid((T, 3, 100_003), -16, 17), grid((3, 100_003), -16, 17)
    expected = run(x.double(), v.double(), upstream, implementation="torch")
    actual = run(x.to(DEVICE), v.to(DEVICE), upstream, implementation="triton", save=save)
    assert torch.equal(actual[0].cpu().double(), expected[0])
    rounding = {torch.bfloat16: 2**-8, torch.float16: 2**-10}.get(dtype, 0.0)
    precision = {"d16": 2e-3, "u8": 3e-2}.get(save, PRECISION[DEVICE])
    assert_near(actual[1], expected[1])
    assert_near(actual[2], expected[2], precision + rounding)
    assert_near(actual[3], expected[3], precision)


@pytest.mark.parametrize("save", ["d32", "x"])
@pytest.mark.parametrize("v_reset", [0.0, None])
def test_gradients_of_learned_constants_and_their_order(v_reset: float | None, save: str):
    def learned(x: Tensor, implementation: str) -> tuple[Tensor, ...]:
        tau, threshold = (torch.tensor(c, dtype=torch.float64, requires_grad=True) for c in (2.0, 0.75))
        options: dict[str, Any] = {
            "v_reset": v_reset,
            "save": save,
            "detach_reset": False,
            "implementation": implementation,
        }
        spikes, v_last = lif(x, tau=tau, v_threshold=threshold, **options)
        return torch.autograd.grad((spikes.sum() + v_last.sum()), (tau, threshold))

    x = grid((12, 4, 300), -8, 24)
    expected, actual = learned(x.double(), "torch"), learned(x.to(DEVICE), "triton")
    for a, b in zip(actual, expected, strict=True):
        assert_near(a, b, 1e-4)
    again = learned(x.to(DEVICE), "triton")
    assert all(torch.equal(a, b) for a, b in zip(actual, again, strict=True))


def test_samples_of_different_length():
    x, lengths = grid((9, 4, 33), -8, 24), torch.tensor([9, 0, 4, 1])
    for length, sample, whole in zip(
        lengths.tolist(),
        x.unbind(1),
        lif(x.to(DEVICE), lengths=lengths.to(DEVICE), implementation="triton")[0].cpu().unbind(1),
        strict=True,
    ):
        assert whole[length:].count_nonzero() == 0
        if length:
            assert torch.equal(whole[:length], lif(sample[:length], implementation="torch")[0])


def test_an_autocast_network_stays_on_the_kernels_with_a_float32_membrane():
    currents = nn.Linear(20, 64).to(DEVICE)
    x = torch.randn(6, 8, 20, device=DEVICE)
    with torch.autocast("cuda", torch.bfloat16):
        drive = currents(x)
        spikes, v_last = lif(drive)
    assert which_implementation(drive).implementation == "triton"
    assert (spikes.dtype, v_last.dtype) == (torch.bfloat16, torch.float32)
    assert torch.equal(spikes.cpu().float(), lif(drive.detach().cpu().float(), implementation="torch")[0])


def test_no_call_synchronizes_with_the_device():
    x, v = grid((5, 3, 40), -8, 24).to(DEVICE), torch.zeros(3, 40, device=DEVICE)
    lengths = torch.tensor([5, 2, 0], device=DEVICE, dtype=torch.int32)
    upstream = torch.randn(5, 3, 40, device=DEVICE), torch.randn(3, 40, device=DEVICE)
    for save in ("d32", "d16", "x", "u8"):
        options = {"implementation": "triton", "save": save, "lengths": lengths}
        run(x, v, upstream, **options)  # compiles
        torch.cuda.set_sync_debug_mode("error")
        try:
            run(x, v, upstream, **options)
        finally:
            torch.cuda.set_sync_debug_mode("default")


@pytest.mark.parametrize("save", ["d32", "x"])
@pytest.mark.parametrize("T", [4, 20])
def test_a_cuda_graph_replays_forward_and_backward(T: int, save: Save):
    shape = (T, 6, 50)
    x, other = (grid(shape, -8, 24).to(DEVICE).requires_grad_() for _ in range(2))
    upstream = torch.randn(shape, device=DEVICE)

    def step(x: Tensor) -> tuple[Tensor, Tensor]:
        spikes, _ = lif(x, save=save, implementation="triton")
        return spikes, torch.autograd.grad(spikes, x, upstream)[0]

    expected = step(other)
    side = torch.cuda.Stream()
    side.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(side):
        for _ in range(3):
            step(x)
    torch.cuda.current_stream().wait_stream(side)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        replayed = step(x)
    with torch.no_grad():
        x.copy_(other)
    graph.replay()
    torch.cuda.synchronize()
    for a, b in zip(replayed, expected, strict=True):
        assert torch.equal(a, b)


@pytest.mark.parametrize("neuron", [LIF, PLIF])
def test_a_compiled_network_is_one_graph_with_the_same_results(neuron: type[LIF | PLIF]):
    network = nn.Sequential(nn.Linear(16, 32), neuron(implementation="triton")).to(DEVICE)
    compiled = torch.compile(network, fullgraph=True)
    x = torch.randn(5, 3, 16, device=DEVICE)
    results = list[list[Tensor]]()
    for module in (network, compiled):
        network.zero_grad()
        spikes = module(x)
        (spikes * torch.arange(32, device=DEVICE)).sum().backward()
        results.append([spikes.detach(), *(p.grad.clone() for p in network.parameters() if p.grad is not None)])
    assert len(results[0]) == 1 + len(list(network.parameters()))
    for a, b in zip(*results, strict=True):
        torch.testing.assert_close(a, b)


def test_no_kernel_is_compiled_for_a_longer_sequence_or_another_batch(monkeypatch: pytest.MonkeyPatch):
    import triton

    compiled = list[str]()
    options: dict[str, Any] = {"implementation": "triton", "surrogate": "atan"}

    def train(T: int, B: int) -> None:
        x = torch.randn(T, B, 64, device=DEVICE, requires_grad=True)
        lif(x, **options)[0].sum().backward()

    train(17, 4)
    monkeypatch.setattr(
        triton.knobs.runtime,  # pyright: ignore[reportAttributeAccessIssue]
        "jit_post_compile_hook",
        lambda *, repr, **_: compiled.append(repr),
        raising=True,
    )
    for T, B in ((18, 4), (32, 8), (33, 1), (500, 100)):
        train(T, B)
    assert not compiled
    train(13, 4)  # up to 16 steps there are kernels for each number of them
    assert len(compiled) == 2


def test_an_expanded_input_and_channels_last_maps():
    current = grid((3, 40), -8, 24)
    actual = lif(current.to(DEVICE).expand(6, 3, 40), implementation="triton")[0]
    assert torch.equal(actual.cpu(), lif(current.repeat(6, 1, 1), implementation="torch")[0])
    maps = grid((4, 2, 8, 5, 6), -8, 24)
    last = maps.to(DEVICE).flatten(0, 1).to(memory_format=torch.channels_last).unflatten(0, (4, 2))
    assert torch.equal(lif(last, implementation="triton")[0].cpu(), lif(maps, implementation="torch")[0])


def test_float64_and_custom_surrogates_raise():
    with pytest.raises(ValueError, match="float32"):
        lif(torch.zeros(2, 3, device=DEVICE, dtype=torch.float64), implementation="triton")
    with pytest.raises(ValueError, match="SURROGATES"):
        lif(torch.zeros(2, 3, device=DEVICE), surrogate=lambda d, slope: d, implementation="triton")
