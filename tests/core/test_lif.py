"""LIF against its equations in float64; test_neurons.py compares with SpikingJelly."""

import itertools
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor
from torch._dynamo.backends.common import aot_autograd
from torch._functorch._aot_autograd.utils import make_boxed_func

from present import present
from snn_core import LIF, PLIF, SURROGATES, lif, surrogate_gradient
from snn_core.neurons.neuron import Neuron
from snn_core.ops.common.call import Implementation, Save
from snn_core.ops.lif import which_implementation
from snn_core.ops.lif.reference import lif_reference

SETTINGS: list[dict[str, Any]] = [
    dict(zip(("v_reset", "decay_input", "detach_reset", "detach_membrane", "surrogate"), values, strict=True))
    for values in itertools.product((0.0, -0.5, None), (True, False), (True, False), (True, False), SURROGATES)
]
Function = Callable[[Tensor, Tensor, dict[str, Any]], tuple[Tensor, Tensor]]
"""Currents, potential and settings -> spikes and last potential."""


def run(
    function: Function, x: Tensor, v: Tensor, settings: dict[str, Any], dtype: torch.dtype
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Return spikes, last potential and the gradients of x and v_init for fixed upstream gradients."""
    x, v = x.to(dtype).clone().requires_grad_(), v.to(dtype).clone().requires_grad_()
    spikes, v_last = function(x, v, settings)
    generator = torch.Generator().manual_seed(1)
    upstream = (torch.randn(spikes.shape, generator=generator), torch.randn(v_last.shape, generator=generator))
    torch.autograd.backward((spikes, v_last), [g.to(y.dtype) for g, y in zip(upstream, (spikes, v_last), strict=True)])
    grad_v = torch.zeros_like(v) if v.grad is None else v.grad
    assert x.grad is not None
    return spikes.detach(), v_last.detach(), x.grad, grad_v


def reference(x: Tensor, v: Tensor, settings: dict[str, Any]) -> tuple[Tensor, Tensor]:
    named: dict[str, Any] = {**settings, "surrogate": surrogate_gradient(settings["surrogate"])}
    return lif_reference(x, v, tau=1.7, v_threshold=0.8, slope=3.0, **named)


def torch_path(x: Tensor, v: Tensor, settings: dict[str, Any]) -> tuple[Tensor, Tensor]:
    return lif(x, v_init=v, tau=1.7, v_threshold=0.8, slope=3.0, **settings, implementation="torch")


def native_path(x: Tensor, v: Tensor, settings: dict[str, Any]) -> tuple[Tensor, Tensor]:
    return lif(x, v_init=v, tau=1.7, v_threshold=0.8, slope=3.0, **settings, implementation="native")


@pytest.mark.parametrize("settings", SETTINGS, ids=lambda s: "-".join(map(str, s.values())))
def test_spikes_and_gradients_equal_the_equations(settings: dict[str, Any]):
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(7, 5, 11, generator=generator) + 0.5  # T=7, B=5, 11 neurons
    v = torch.randn(5, 11, generator=generator) * 0.3
    expected = run(reference, x, v, settings, torch.float64)
    for function, dtype, tolerance in (
        (torch_path, torch.float64, 1e-12),
        (torch_path, torch.float32, 1e-6),
        (native_path, torch.float32, 1e-6),
    ):
        actual = run(function, x, v, settings, dtype)
        assert torch.equal(actual[0].double(), expected[0])
        assert 0.05 < actual[0].mean() < 0.95
        for name, a, b in zip(("v_last", "grad x", "grad v_init"), actual[1:], expected[1:], strict=True):
            error = (a.double() - b).abs().max() / b.abs().max().clamp(min=1e-12)
            assert error < tolerance, f"{name}: {error:.1e} of the largest entry, {function.__name__}, {dtype}"


@pytest.mark.parametrize("settings", SETTINGS[:: len(SURROGATES) + 1], ids=lambda s: "-".join(map(str, s.values())))
@pytest.mark.parametrize("implementation", ["torch", "native"])
@pytest.mark.parametrize("save", ["d32", "x"])
def test_padded_steps_are_ignored(save: Save, implementation: Implementation, settings: dict[str, Any]):
    """A batch with lengths equals each sample alone without its padding."""
    generator = torch.Generator().manual_seed(2)
    T, B, N, lengths = 6, 5, 700, [6, 1, 4, 0, 3]
    x, v = torch.randn(T, B, N, generator=generator) + 0.5, torch.randn(B, N, generator=generator) * 0.3
    options: dict[str, Any] = {**settings, "slope": 3.0, "implementation": implementation, "save": save}
    upstream, upstream_v = torch.randn(T, B, N, generator=generator), torch.randn(B, N, generator=generator)

    def gradients(
        x: Tensor, v: Tensor, upstream: Tensor, upstream_v: Tensor, lengths: Tensor | None = None
    ) -> tuple[Tensor, ...]:
        tau, threshold = torch.tensor(1.7, requires_grad=True), torch.tensor(0.8, requires_grad=True)
        x, v = x.clone().requires_grad_(), v.clone().requires_grad_()
        spikes, v_last = lif(x, v_init=v, tau=tau, v_threshold=threshold, lengths=lengths, **options)
        torch.autograd.backward((spikes, v_last), (upstream, upstream_v))
        grad_v = torch.zeros_like(v) if v.grad is None else v.grad
        grads = (present(leaf.grad) for leaf in (tau, threshold))
        return spikes.detach(), v_last.detach(), present(x.grad), grad_v, *grads

    whole = gradients(x, v, upstream, upstream_v, lengths=torch.tensor(lengths))
    tau_grads, threshold_grads = torch.zeros(()), torch.zeros(())
    for b, length in enumerate(lengths):
        spikes, v_last, grad_x, grad_v = (part.select(-2, b) for part in whole[:4])
        assert not spikes[length:].any()
        assert not grad_x[length:].any()
        if length == 0:
            torch.testing.assert_close(v_last, v[b])
            torch.testing.assert_close(grad_v, upstream_v[b])
            continue
        alone = gradients(x[:length, b : b + 1], v[b : b + 1], upstream[:length, b : b + 1], upstream_v[b : b + 1])
        assert torch.equal(spikes[:length], alone[0][:, 0])
        torch.testing.assert_close(v_last, alone[1][0])
        torch.testing.assert_close(grad_x[:length], alone[2][:, 0])
        torch.testing.assert_close(grad_v, alone[3][0])
        tau_grads, threshold_grads = tau_grads + alone[4], threshold_grads + alone[5]
    torch.testing.assert_close(whole[4], tau_grads, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(whole[5], threshold_grads, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("save", ["d32", "d16", "x", "u8"])
@pytest.mark.parametrize("surrogate", SURROGATES)
def test_native_code_agrees_with_torch_at_sizes_that_are_no_multiple_of_a_tile(
    surrogate: str, save: Save, dtype: torch.dtype
):
    generator = torch.Generator().manual_seed(3)
    x = (torch.randint(-8, 24, (5, 3, 1111), generator=generator) / 8).to(dtype)  # exact in every dtype
    upstream = torch.randn(5, 3, 1111, generator=generator).to(dtype)
    results = []
    for implementation in ("torch", "native"):
        leaf = x.clone().requires_grad_()
        spikes, v_last = lif(leaf, surrogate=surrogate, slope=2.0, save=save, implementation=implementation)
        torch.autograd.backward((spikes, v_last), (upstream, torch.ones_like(v_last)))
        results.append((spikes.detach(), v_last.detach(), leaf.grad))
    assert torch.equal(results[0][0], results[1][0])
    assert torch.equal(results[0][1], results[1][1])
    # At most two roundings of the code, else one of the dtype.
    error = 2 / 254 * 2.0 if save == "u8" else 2 * torch.finfo(dtype).eps
    torch.testing.assert_close(results[1][2], results[0][2], rtol=2 * torch.finfo(dtype).eps, atol=error)


def test_results_do_not_depend_on_the_number_of_threads():
    x, threads = torch.randn(4, 50_000), torch.get_num_threads()
    results = []
    for number in (1, 3):
        torch.set_num_threads(number)
        tau, leaf = torch.tensor(2.5, requires_grad=True), x.clone().requires_grad_()
        spikes, _ = lif(leaf, tau=tau, implementation="native")
        spikes.sum().backward()
        results.append((spikes, leaf.grad, tau.grad))
    torch.set_num_threads(threads)
    assert all(torch.equal(a, b) for a, b in zip(*results, strict=True))


def test_hand_computed_example():
    # tau 2, threshold 1, hard reset: h = 0.9, 1.35 fires, then 0.9 again.
    spikes, v_last = lif(torch.tensor([1.8, 1.8, 1.8]))
    assert spikes.tolist() == [0, 1, 0]
    assert v_last.item() == pytest.approx(0.9)


def test_chunks_of_a_stream_equal_the_whole():
    layer, x = LIF(tau=3.0), torch.randn(9, 4, 5) + 0.4
    whole = layer(x)
    first, v = layer(x[:4], return_v=True)
    assert torch.equal(torch.cat([first, layer(x[4:], v_init=v)]), whole)


def test_layers_are_stateless():
    layer, x = LIF(), torch.rand(5, 3) * 2
    assert torch.equal(layer(x), layer(x))
    assert not layer.state_dict()


def test_detach_membrane_stops_the_gradient_through_time():
    x = torch.full((4, 1), 0.9, requires_grad=True)
    LIF(detach_membrane=True)(x)[2].sum().backward()
    assert x.grad is not None
    assert x.grad.flatten().nonzero().flatten().tolist() == [2]


def test_half_precision_inputs_keep_a_float32_membrane():
    x = (torch.randn(8, 4096) + 0.5).bfloat16()
    spikes, v_last = lif(x)
    assert (spikes.dtype, v_last.dtype) == (torch.bfloat16, torch.float32)
    assert torch.equal(spikes.float(), lif(x.float())[0])


def test_a_current_expanded_over_time_needs_no_copy():
    current = torch.rand(3, 4, requires_grad=True)
    spikes, _ = lif(current.expand(5, 3, 4))
    assert torch.equal(spikes, lif(current.detach().repeat(5, 1, 1))[0])
    spikes.sum().backward()
    assert current.grad is not None
    assert current.grad.shape == (3, 4)


def test_custom_surrogates():
    x = torch.rand(3, 4, requires_grad=True)
    LIF(surrogate=lambda d, slope: torch.full_like(d, slope), slope=7.0, detach_membrane=True)(x).sum().backward()
    assert x.grad is not None
    torch.testing.assert_close(x.grad, torch.full((3, 4), 3.5))


class Asymmetric:
    """Wider above the threshold than below, and not hashable."""

    __hash__ = None  # pyright: ignore[reportAssignmentType]

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Asymmetric)

    def __call__(self, d: Tensor, slope: float) -> Tensor:
        return torch.where(d > 0, torch.exp(-d / slope), torch.exp(d))


@pytest.mark.parametrize("implementation", ["auto", "torch"])
@pytest.mark.parametrize("detach_reset", [True, False])
def test_custom_surrogates_may_be_asymmetric(detach_reset: bool, implementation: Implementation):
    x = torch.randn(6, 40, dtype=torch.float64) + 0.5
    v = torch.zeros(40, dtype=torch.float64)
    options: dict[str, Any] = {"detach_reset": detach_reset, "surrogate": Asymmetric(), "slope": 3.0}
    ours, theirs = x.clone().requires_grad_(), x.clone().requires_grad_()
    lif(ours, implementation=implementation, **options)[0].sum().backward()
    rest: dict[str, Any] = {
        "tau": 2.0,
        "v_threshold": 1.0,
        "v_reset": 0.0,
        "decay_input": True,
        "detach_membrane": False,
    }
    lif_reference(theirs, v, **rest, **options)[0].sum().backward()
    torch.testing.assert_close(ours.grad, theirs.grad)


def gradient(x: Tensor, upstream: Tensor, **options: Any) -> Tensor:
    leaf = x.clone().requires_grad_()
    lif(leaf, **options)[0].backward(upstream)
    assert leaf.grad is not None
    return leaf.grad


@pytest.mark.parametrize("surrogate", ["sigmoid", "atan", "triangle"])
@pytest.mark.parametrize("v_reset", [0.0, -0.3, None])
@pytest.mark.parametrize(("save", "error"), [("x", 0.0), ("d16", 3e-4), ("u8", 2e-2)])
def test_save_modes_change_the_gradient_only_by_rounding(
    save: Save, error: float, v_reset: float | None, surrogate: str
):
    x, upstream = torch.randn(8, 3000) + 0.3, torch.randn(8, 3000)
    options: dict[str, Any] = {"v_reset": v_reset, "surrogate": surrogate, "slope": 2.0}
    exact = gradient(x, upstream, **options)
    actual = gradient(x, upstream, save=save, **options)
    assert (actual - exact).norm() <= error * exact.norm()
    assert torch.cosine_similarity(actual.flatten(), exact.flatten(), dim=0) > 0.9999


def test_d16_keeps_the_spike_of_a_distance_that_rounds_to_zero():
    # Potentials just below, at and just above the threshold: in 16 bits only the sign of the distance differs.
    x = torch.tensor([[1 - 6e-8, 1.0, 1 + 1.2e-7]]).expand(2, 3) * torch.tensor([[1.0], [0.0]])
    options: dict[str, Any] = {"tau": 1.0, "detach_reset": True, "surrogate": "rectangle"}
    for implementation in ("torch", "native"):
        options["implementation"] = implementation
        silent = gradient(x, torch.ones(2, 3), save="d16", **options)
        assert torch.equal(silent, gradient(x, torch.ones(2, 3), **options))
        # The gradient of the last potential stops where a neuron spiked exactly at its threshold.
        leaf = x[:1].clone().requires_grad_()
        lif(leaf, save="d16", **options)[1].sum().backward()
        assert leaf.grad is not None
        assert leaf.grad.tolist() == [[1.0, 0.0, 0.0]]
    assert lif(x, tau=1.0)[0][0].tolist() == [0, 1, 1]


@pytest.mark.parametrize("save", ["d32", "d16", "x", "u8"])
def test_the_backward_saves_the_documented_bytes(save: Save):
    saved = 0

    def pack(tensor: Tensor) -> Tensor:
        nonlocal saved
        if tensor.data_ptr() != x.data_ptr() and tensor.untyped_storage().nbytes() > 1000:
            saved += tensor.untyped_storage().nbytes()
        return tensor

    x = torch.randn(16, 5000, requires_grad=True)
    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        lif(x, save=save)
    assert saved == {"d32": 4, "d16": 2, "x": 0, "u8": 1}[save] * x.numel()


@pytest.mark.parametrize("v_reset", [0.0, -0.3, None])
@pytest.mark.parametrize("detach_reset", [True, False])
@pytest.mark.parametrize("decay_input", [True, False])
@pytest.mark.parametrize("save", ["d32", "x"])
def test_gradients_of_a_learned_time_constant_and_threshold(
    v_reset: float | None, detach_reset: bool, decay_input: bool, save: Save
):
    x = torch.randn(7, 400, generator=torch.Generator().manual_seed(5), dtype=torch.float64) + 0.5
    v = torch.randn(400, generator=torch.Generator().manual_seed(6), dtype=torch.float64) * 0.3
    upstream = torch.randn(7, 400, dtype=torch.float64), torch.randn(400, dtype=torch.float64)
    settings: dict[str, Any] = {"v_reset": v_reset, "detach_reset": detach_reset, "decay_input": decay_input}
    results = []
    functions: list[tuple[Callable[..., tuple[Tensor, Tensor]], dict[str, Any]]] = [
        (lif_reference, {"detach_membrane": False, "surrogate": SURROGATES["atan"]}),
        (lambda x, v, **named: lif(x, v_init=v, **named), {"surrogate": "atan", "save": save}),
    ]
    for function, extra in functions:
        tau, threshold = (torch.tensor(value, dtype=torch.float64, requires_grad=True) for value in (1.7, 0.8))
        outputs = function(x, v, tau=tau, v_threshold=threshold, slope=3.0, **settings, **extra)
        torch.autograd.backward(outputs, upstream)
        results.append((tau.grad, threshold.grad))
    for actual, expected in zip(results[1], results[0], strict=True):
        torch.testing.assert_close(actual, expected, rtol=1e-9, atol=1e-9)


@pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor that is not a leaf")  # caused by opcheck
def test_the_operations_pass_opcheck():
    constants = torch.tensor([0.5, 0.5, 1.0], dtype=torch.float64)
    for dtype, save in ((torch.float32, "d32"), (torch.float64, "x"), (torch.float32, "u8")):
        x, v = torch.randn(3, 4, 5, dtype=dtype, requires_grad=True), torch.zeros(4, 5, dtype=dtype)
        options = (x, v, constants, None, False, True, False, "atan", 2.0, save, "auto")
        torch.library.opcheck(torch.ops.snn_core.lif.default, options)
        torch.library.opcheck(torch.ops.snn_core.lif_forward.default, (x.detach(), *options[1:]))


def test_nothing_is_saved_without_gradients():
    with torch.no_grad():
        assert lif(torch.randn(3, 4, requires_grad=True))[0].grad_fn is None
    assert lif(torch.randn(3, 4))[0].grad_fn is None


def test_channels_last_maps_keep_their_layout():
    x = torch.randn(3, 2, 5, 4, 6).permute(0, 1, 4, 2, 3)  # [T, B, C, H, W], channels last in memory
    assert torch.equal(lif(x)[0], lif(x.contiguous())[0])


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: lif(torch.zeros(2, 3), save="d8"), "save must be d32, d16, x or u8, but it is 'd8'"),  # pyright: ignore[reportArgumentType]
        (lambda: lif(torch.zeros(2, 3), save="u8", detach_reset=False), "use another save"),
        (lambda: lif(torch.zeros(2, 3), save="d16", tau=torch.tensor(2.0, requires_grad=True)), "too coarse"),
        (lambda: LIF(tau=0.5), "tau must be a time constant of at least 1 time step, but it is 0.5"),
        (lambda: LIF(surrogate="sigmiod"), "unknown surrogate 'sigmiod'; choose one of sigmoid, atan"),
        (lambda: lif(torch.zeros(2, 3), implementation="cuda"), "auto, torch, native or triton, but it is 'cuda'"),  # pyright: ignore[reportArgumentType]
        (lambda: lif(torch.zeros(2, 3), implementation="triton"), "runs on CUDA devices, and the input is on cpu"),
        (lambda: lif(torch.zeros(2, 3).double(), implementation="native"), "input is float64; use float32"),
        (lambda: lif(torch.zeros(2, 3), implementation="native", surrogate=lambda d, _: d), "run only in torch"),
        (lambda: lif(torch.zeros(2, 3), lengths=torch.tensor([1, 2])), r"\[B\] for x \[T, B, ...\], but they are"),
        (lambda: lif(torch.zeros(2, 3), lengths=torch.tensor([1, 2, 3])), "between 0 and T = 2, but one is 3"),
        (lambda: lif(torch.zeros(0, 3)), "at least one time step"),
        (lambda: lif(torch.zeros(2, 3), v_init=torch.zeros(4)), r"v_init has shape \(4,\), .* has \(3,\)"),
    ],
)
def test_invalid_arguments_raise(call: Callable[[], object], message: str):
    with pytest.raises(ValueError, match=message):
        call()


@pytest.mark.needs("compiler")
@pytest.mark.parametrize(
    ("x", "options", "implementation", "reason"),
    [
        (torch.zeros(2, 3), {}, "native", "the fastest on cpu"),
        (torch.zeros(2, 3, dtype=torch.bfloat16), {}, "native", "the fastest on cpu"),
        (torch.zeros(2, 3), {"implementation": "torch"}, "torch", "requested"),
        (torch.zeros(2, 3, dtype=torch.float64), {}, "torch", "native cannot run here: it computes in float32"),
        (torch.zeros(2, 3), {"surrogate": lambda d, slope: d}, "torch", "custom surrogates run only in torch"),
    ],
)
def test_which_implementation_gives_the_choice_and_its_reason(
    x: Tensor, options: dict[str, Any], implementation: Implementation, reason: str
):
    choice = which_implementation(x, **options)
    assert choice.implementation == implementation
    assert reason in choice.reason


@pytest.mark.parametrize(
    "layer", [LIF(), LIF(surrogate="atan", v_reset=None), PLIF(), LIF(learn_threshold=True)], ids=str
)
def test_torch_compile_captures_one_node_with_equal_results(layer: Neuron):
    nodes: list[str] = []

    def backend(graph: torch.fx.GraphModule, inputs: list[Tensor]) -> Any:
        def record(inner: torch.fx.GraphModule, _inputs: list[Tensor]) -> Any:
            nodes.extend(str(node.target) for node in inner.graph.nodes if "snn_core" in str(node.target))
            return make_boxed_func(inner)

        return aot_autograd(fw_compiler=record, bw_compiler=record)(graph, inputs)

    x, upstream = torch.randn(5, 3, 7), torch.randn(5, 3, 7)
    results = []
    for function in (layer, torch.compile(layer, fullgraph=True, backend=backend)):
        layer.zero_grad()
        leaf = x.clone().requires_grad_()
        spikes = function(leaf)
        spikes.backward(upstream)
        results.append([spikes.detach(), leaf.grad, *(present(p.grad).clone() for p in layer.parameters())])
    assert nodes == ["snn_core.lif.default", "snn_core.lif_backward.default"]
    for actual, expected in zip(results[1], results[0], strict=True):
        torch.testing.assert_close(actual, expected, rtol=1e-6, atol=1e-6)
