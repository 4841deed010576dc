"""ALIF against its equations in float64, against LIF, and against a hand-computed example."""

import inspect
import itertools
from collections.abc import Callable, Sequence
from typing import Any, get_type_hints

import pytest
import torch
from torch import Tensor, nn

from present import present
from snn_core import LIF, SURROGATES, lif, surrogate_gradient
from snn_core.layers import SpikingConv2d, SpikingLinear
from snn_core.neurons.alif import ALIF
from snn_core.neurons.neuron import Neuron, NeuronOptions
from snn_core.ops.alif import alif
from snn_core.ops.alif.reference import alif_reference
from snn_core.ops.common.call import Implementation

SETTINGS: list[dict[str, Any]] = [
    dict(zip(("v_reset", "decay_input", "detach_reset", "detach_membrane", "surrogate"), values, strict=True))
    for values in itertools.product((0.0, -0.5, None), (True, False), (True, False), (True, False), SURROGATES)
]
Function = Callable[[Tensor, Tensor, Tensor, dict[str, Any]], tuple[Tensor, Tensor, Tensor]]
"""Currents, potential, adaptation and constants -> spikes, last potential and last adaptation."""
FEW = SETTINGS[:: len(SURROGATES) + 1]
CONSTANTS = {"tau": 1.7, "tau_adaptation": 3.5, "beta": 0.3, "v_threshold": 0.8}


def random_inputs(*shape: int) -> tuple[Tensor, Tensor, Tensor]:
    """Currents [T, ...], potential and adaptation [...]."""
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(shape, generator=generator) + 1.0
    return x, torch.randn(shape[1:], generator=generator) * 0.3, torch.rand(shape[1:], generator=generator)


def run(
    function: Function, inputs: tuple[Tensor, ...], dtype: torch.dtype, outputs: slice = slice(None)
) -> dict[str, Tensor]:
    """Return outputs and all gradients for fixed upstream gradients of some of the outputs."""
    x, v, b = (tensor.to(dtype).clone().requires_grad_() for tensor in inputs)
    constants = {name: torch.tensor(value, dtype=dtype, requires_grad=True) for name, value in CONSTANTS.items()}
    results = function(x, v, b, constants)
    generator = torch.Generator().manual_seed(1)
    upstream = [torch.randn(result.shape, generator=generator).to(result.dtype) for result in results]
    torch.autograd.backward(results[outputs], upstream[outputs])
    leaves = {"x": x, "v_init": v, "b_init": b, **constants}
    actual = dict(zip(("spikes", "v_last", "b_last"), (result.detach() for result in results), strict=True))
    return actual | {f"grad {n}": torch.zeros_like(t) if t.grad is None else t.grad for n, t in leaves.items()}


def reference(settings: dict[str, Any]) -> Function:
    named: dict[str, Any] = {**settings, "surrogate": surrogate_gradient(settings["surrogate"]), "slope": 3.0}
    return lambda x, v, b, constants: alif_reference(x, v, b, **constants, **named)


def ours(settings: dict[str, Any], implementation: Implementation) -> Function:
    named: dict[str, Any] = {**settings, "slope": 3.0, "implementation": implementation}
    return lambda x, v, b, constants: alif(x, v_init=v, b_init=b, **constants, **named)


def assert_close(actual: dict[str, Tensor], expected: dict[str, Tensor], tolerance: float) -> None:
    for name, value in actual.items():
        torch.testing.assert_close(
            value.to(expected[name].dtype),
            expected[name],
            rtol=tolerance,
            atol=tolerance,
            msg=lambda text, n=name: f"{n}: {text}",
        )


@pytest.mark.parametrize("settings", SETTINGS, ids=lambda s: "-".join(map(str, s.values())))
def test_spikes_and_gradients_equal_the_equations(settings: dict[str, Any]):
    inputs = random_inputs(7, 5, 11)  # T=7, B=5, 11 neurons
    expected = run(reference(settings), inputs, torch.float64)
    assert 0.05 < expected["spikes"].mean() < 0.95
    runs: list[tuple[Implementation, torch.dtype, float]] = [
        ("torch", torch.float64, 1e-12),
        ("torch", torch.float32, 1e-5),
        ("native", torch.float32, 1e-5),
    ]
    for implementation, dtype, tolerance in runs:
        actual = run(ours(settings, implementation), inputs, dtype)
        assert torch.equal(actual["spikes"].double(), expected["spikes"])
        assert_close(actual, expected, tolerance)


@pytest.mark.parametrize("settings", FEW, ids=lambda s: "-".join(map(str, s.values())))
@pytest.mark.parametrize("implementation", ["torch", "native"])
def test_learning_constants_does_not_change_other_gradients(implementation: Implementation, settings: dict[str, Any]):
    inputs, function = random_inputs(7, 5, 300), ours(settings, implementation)
    learned = run(function, inputs, torch.float32)

    def not_learning(x: Tensor, v: Tensor, b: Tensor, constants: dict[str, Any]) -> tuple[Tensor, Tensor, Tensor]:
        return function(x, v, b, {name: constant.detach() for name, constant in constants.items()})

    fixed = run(not_learning, inputs, torch.float32)
    for name in ("spikes", "v_last", "b_last"):
        assert torch.equal(fixed[name], learned[name])
    for name in ("grad x", "grad v_init", "grad b_init"):
        torch.testing.assert_close(fixed[name], learned[name])


@pytest.mark.parametrize("implementation", ["torch", "native"])
@pytest.mark.parametrize("result", [0, 1, 2], ids=["spikes", "v_last", "b_last"])
def test_each_output_alone_has_a_gradient(result: int, implementation: Implementation):
    settings: dict[str, Any] = {"v_reset": None, "decay_input": True, "detach_reset": False, "detach_membrane": False}
    settings["surrogate"] = "atan"
    inputs, only = random_inputs(6, 3, 8), slice(result, result + 1)
    expected = run(reference(settings), inputs, torch.float64, only)
    actual = run(ours(settings, implementation), inputs, torch.float32, only)
    assert_close(actual, expected, 1e-5)
    # Through the state, b_last depends on everything, and so do v_last and the spikes.
    assert all(expected[f"grad {name}"].count_nonzero() for name in ("x", "v_init", "b_init", *CONSTANTS))


@pytest.mark.parametrize("settings", FEW, ids=lambda s: "-".join(map(str, s.values())))
@pytest.mark.parametrize("implementation", ["torch", "native"])
def test_padded_steps_are_ignored(implementation: Implementation, settings: dict[str, Any]):
    """A batch with lengths equals each sample alone without its padding."""
    T, B, N, lengths = 6, 5, 700, [6, 1, 4, 0, 3]
    x, v, b = random_inputs(T, B, N)
    generator = torch.Generator().manual_seed(2)
    upstream = [torch.randn(shape, generator=generator) for shape in ((T, B, N), (B, N), (B, N))]
    options: dict[str, Any] = {**settings, "slope": 3.0, "implementation": implementation}

    def gradients(
        x: Tensor, v: Tensor, b: Tensor, upstream: Sequence[Tensor], lengths: Tensor | None = None
    ) -> tuple[list[Tensor], list[Tensor]]:
        x, v, b = (tensor.clone().requires_grad_() for tensor in (x, v, b))
        constants: dict[str, Any] = {name: torch.tensor(value, requires_grad=True) for name, value in CONSTANTS.items()}
        results = alif(x, v_init=v, b_init=b, lengths=lengths, **constants, **options)
        torch.autograd.backward(results, upstream)
        grads = [torch.zeros_like(t) if t.grad is None else t.grad for t in (x, v, b)]
        return [*(result.detach() for result in results), *grads], [present(c.grad) for c in constants.values()]

    whole, constant_grads = gradients(x, v, b, upstream, lengths=torch.tensor(lengths))
    sums = [torch.zeros(()) for _ in CONSTANTS]
    for i, length in enumerate(lengths):
        spikes, v_last, b_last, grad_x, grad_v, grad_b = (part.select(-2, i) for part in whole)
        assert not spikes[length:].any()
        assert not grad_x[length:].any()
        if length == 0:
            for actual, expected in ((v_last, v), (b_last, b), (grad_v, upstream[1]), (grad_b, upstream[2])):
                torch.testing.assert_close(actual, expected[i])
            continue
        here = slice(i, i + 1)
        alone, grads = gradients(
            x[:length, here], v[here], b[here], (upstream[0][:length, here], upstream[1][here], upstream[2][here])
        )
        assert torch.equal(spikes[:length], alone[0][:, 0])
        for actual, expected in zip((v_last, b_last, grad_v, grad_b), (alone[1], alone[2], *alone[4:]), strict=True):
            torch.testing.assert_close(actual, expected[0])
        torch.testing.assert_close(grad_x[:length], alone[3][:, 0])
        sums = [total + grad for total, grad in zip(sums, grads, strict=True)]
    for actual, expected in zip(constant_grads, sums, strict=True):
        torch.testing.assert_close(actual, expected, rtol=1e-5, atol=1e-4)


@pytest.mark.parametrize("v_reset", [0.0, None])
@pytest.mark.parametrize(
    ("shape", "dtype"),
    [
        ((5, 3, 1111), torch.float32),
        ((5, 3, 1111), torch.bfloat16),
        ((5, 3, 1111), torch.float16),
        ((4, 270_001), torch.float32),  # results of this size bypass the caches
    ],
)
def test_native_code_agrees_with_torch_at_sizes_that_are_no_multiple_of_a_tile(
    shape: tuple[int, ...], dtype: torch.dtype, v_reset: float | None
):
    generator = torch.Generator().manual_seed(3)
    x = (torch.randint(-8, 24, shape, generator=generator) / 8).to(dtype)  # exact in every dtype
    upstream = torch.randn(shape, generator=generator).to(dtype)
    results = []
    for implementation in ("torch", "native"):
        leaf, beta = x.clone().requires_grad_(), torch.tensor(0.25, requires_grad=True)
        options: dict[str, Any] = {"tau_adaptation": 2.0, "beta": beta, "v_reset": v_reset, "slope": 2.0}
        spikes, v_last, b_last = alif(leaf, **options, implementation=implementation)
        torch.autograd.backward((spikes, v_last, b_last), (upstream, torch.ones_like(v_last), torch.ones_like(b_last)))
        results.append((spikes.detach(), v_last.detach(), b_last.detach(), leaf.grad, beta.grad))
    for i in range(3):
        assert torch.equal(results[0][i], results[1][i])
    error = 2 * torch.finfo(dtype).eps
    torch.testing.assert_close(results[1][3], results[0][3], rtol=error, atol=error)
    torch.testing.assert_close(results[1][4], results[0][4], rtol=1e-5, atol=1e-5)


def test_results_do_not_depend_on_the_number_of_threads():
    x, threads = torch.randn(4, 50_000) + 0.5, torch.get_num_threads()
    results = []
    for number in (1, 3):
        torch.set_num_threads(number)
        beta, leaf = torch.tensor(0.3, requires_grad=True), x.clone().requires_grad_()
        spikes, _, b = alif(leaf, beta=beta, implementation="native")
        spikes.sum().backward()
        results.append((spikes, b, leaf.grad, beta.grad))
    torch.set_num_threads(threads)
    assert all(torch.equal(a, b) for a, b in zip(*results, strict=True))


@pytest.mark.parametrize("implementation", ["torch", "native"])
def test_the_threshold_rises_until_the_neuron_stops_firing(implementation: Implementation):
    # tau 1, so that h is the current 1.25; threshold 1 + 0.125 b, where b halves in each step (tau_adaptation 2).
    # b before each step is 0, 1, 1.5, 1.75, 1.875, 1.9375: the thresholds are 1, 1.125, 1.1875, 1.21875, ... < 1.25.
    # With beta 0.2 they are 1, 1.2, 1.3: the third step is silent, b falls to 0.75 and the threshold to 1.15.
    x = torch.full((6,), 1.25)
    options: dict[str, Any] = {"tau": 1.0, "tau_adaptation": 2.0, "implementation": implementation}
    spikes, _, b = alif(x, beta=0.125, **options)
    assert spikes.tolist() == [1, 1, 1, 1, 1, 1]
    assert b.item() == 1.96875
    spikes, v, b = alif(x, beta=0.2, **options)
    assert spikes.tolist() == [1, 1, 0, 1, 0, 1]
    # b: 1, 1.5, 0.75, 1.375, 0.6875, 1.34375; the thresholds from the fourth step on are 1.15, 1.275, 1.1375.
    assert (v.item(), b.item()) == (0.0, 1.34375)


def test_adaptation_remembers_a_spike_longer_than_the_membrane():
    # Two neurons differ in one early spike: 40 steps later only the one without it responds to a current.
    x = torch.zeros(42, 2)
    x[0, 1], x[41] = 3.0, 2.4
    options: dict[str, Any] = {"tau": 2.0, "tau_adaptation": 100.0, "beta": 0.4}
    assert alif(x, **options)[0][41].tolist() == [1, 0]


@pytest.mark.parametrize("implementation", ["torch", "native"])
@pytest.mark.parametrize("settings", FEW, ids=lambda s: "-".join(map(str, s.values())))
def test_without_beta_alif_is_bit_identical_to_lif(settings: dict[str, Any], implementation: Implementation):
    x, v, b = random_inputs(7, 3, 400)
    upstream = torch.randn(7, 3, 400)
    options: dict[str, Any] = {**settings, "implementation": implementation}
    results: list[tuple[Tensor, ...]] = []
    neurons: list[tuple[Any, dict[str, Any]]] = [(lif, {}), (alif, {"beta": 0.0, "b_init": b})]
    for function, extra in neurons:
        leaf = x.clone().requires_grad_()
        spikes, v_last, *_ = function(leaf, v_init=v, **options, **extra)
        spikes.backward(upstream)
        results.append((spikes.detach(), v_last.detach(), present(leaf.grad)))
    for i in range(2):
        assert torch.equal(results[0][i], results[1][i])
    torch.testing.assert_close(results[1][2], results[0][2], rtol=2e-6, atol=2e-6)


def test_the_adaptation_has_a_gradient_where_reset_and_membrane_are_detached():
    x = torch.full((4, 1), 0.9, requires_grad=True)
    ALIF(tau=1.0, detach_reset=True, detach_membrane=True)(x)[2].sum().backward()
    assert x.grad is not None
    # An earlier spike would raise the threshold of the third step.
    assert x.grad.flatten().sign().tolist() == [-1, -1, 1, 0]


def test_custom_surrogates():
    x = torch.rand(3, 4, requires_grad=True)
    layer = ALIF(surrogate=lambda d, slope: torch.full_like(d, slope), slope=7.0, detach_membrane=True, beta=0.0)
    layer(x).sum().backward()
    assert x.grad is not None
    torch.testing.assert_close(x.grad, torch.full((3, 4), 3.5))


def test_chunks_of_a_stream_equal_the_whole_in_values_and_gradients():
    layer, upstream = ALIF(tau=1.5, beta=0.5), torch.randn(9, 4, 5)
    x, _, _ = random_inputs(9, 4, 5)
    whole, chunked = x.clone().requires_grad_(), x.clone().requires_grad_()
    spikes = layer(whole)
    spikes.backward(upstream)
    first, v, b = layer(chunked[:4], return_state=True)
    second = layer(chunked[4:], v_init=v, b_init=b)
    assert torch.equal(torch.cat([first, second]), spikes)
    torch.cat([first, second]).backward(upstream)
    torch.testing.assert_close(chunked.grad, whole.grad)
    assert not torch.equal(layer(x[4:], v_init=v), spikes[4:])  # the potential alone is not the whole state


def test_the_module_is_the_operation_with_its_settings():
    x, v, b = random_inputs(5, 3, 20)
    options: dict[str, Any] = {
        "tau": 3.0,
        "tau_adaptation": 4.0,
        "beta": 0.6,
        "decay_input": False,
        "v_threshold": 1.2,
        "v_reset": -0.1,
    }
    options |= {"detach_reset": False, "detach_membrane": True, "surrogate": "atan", "slope": 2.0}
    lengths = torch.tensor([5, 2, 0])
    expected = alif(x, v_init=v, b_init=b, lengths=lengths, **options)
    actual = ALIF(**options)(x, v_init=v, b_init=b, lengths=lengths, return_state=True)
    assert all(torch.equal(a, b) for a, b in zip(actual, expected, strict=True))
    spikes, v_last = ALIF(**options)(x, v_init=v, b_init=b, lengths=lengths, return_v=True)
    assert torch.equal(spikes, expected[0])
    assert torch.equal(v_last, expected[1])


def test_alif_has_the_options_and_defaults_of_other_neurons():
    options = {name: parameter.default for name, parameter in inspect.signature(Neuron).parameters.items()}
    assert options.keys() == get_type_hints(NeuronOptions).keys()
    options |= {"tau": LIF().tau, "decay_input": LIF().decay_input}
    assert vars(ALIF(**options)) == vars(ALIF())


def test_a_learned_threshold_equals_a_fixed_one_and_gets_its_gradient():
    x, _, _ = random_inputs(6, 50)
    fixed, learned = ALIF(v_threshold=0.7), ALIF(v_threshold=0.7, learn_threshold=True)
    assert torch.equal(fixed(x), learned(x))
    learned(x).sum().backward()
    # A higher threshold gives fewer spikes.
    assert present(present(learned.log_v_threshold).grad) < 0
    assert [name for name, _ in learned.named_parameters()] == ["log_v_threshold"]
    assert not fixed.state_dict()


@pytest.mark.parametrize("channels_axis", [-1, -3])
def test_spiking_layers_run_alif_after_their_batch_norm(channels_axis: int):
    torch.manual_seed(0)
    if channels_axis == -1:
        layer, x = SpikingLinear(6, 7, neuron=ALIF), torch.randn(5, 2, 3, 6)
        drive = present(layer.norm)(layer.linear(x).flatten(0, -2)).view(5, 2, 3, 7)
    else:
        layer, x = SpikingConv2d(3, 7, neuron=ALIF), torch.randn(5, 2, 3, 4, 6)
        drive = present(layer.norm)(layer.conv(x.flatten(0, 1))).unflatten(0, (5, 2))
    spikes = layer(x)
    assert torch.equal(spikes, ALIF()(drive))
    assert spikes.any()


def test_half_precision_inputs_keep_a_float32_state():
    x = (torch.randn(8, 4096) + 0.8).bfloat16()
    spikes, v_last, b_last = alif(x)
    assert (spikes.dtype, v_last.dtype, b_last.dtype) == (torch.bfloat16, torch.float32, torch.float32)
    assert torch.equal(spikes.float(), alif(x.float())[0])


def test_a_current_expanded_over_time_needs_no_copy():
    current = torch.rand(3, 4, requires_grad=True)
    spikes, _, _ = alif(current.expand(5, 3, 4))
    assert torch.equal(spikes, alif(current.detach().repeat(5, 1, 1))[0])
    spikes.sum().backward()
    assert current.grad is not None
    assert current.grad.shape == (3, 4)


@pytest.mark.parametrize("implementation", ["torch", "native"])
def test_states_may_have_any_memory_layout(implementation: Implementation):
    x, v, b = random_inputs(5, 6, 7)
    expected = alif(x, v_init=v, b_init=b, implementation=implementation)
    spread = torch.stack([v, b], dim=-1)  # every other value
    turned = x.mT.contiguous().mT
    actual = alif(turned, v_init=spread[..., 0], b_init=spread[..., 1], implementation=implementation)
    assert all(torch.equal(a, b) for a, b in zip(actual, expected, strict=True))


def test_the_backward_saves_four_bytes_per_element():
    saved = 0

    def pack(tensor: Tensor) -> Tensor:
        nonlocal saved
        if tensor.untyped_storage().nbytes() > 1000:
            saved += tensor.untyped_storage().nbytes()
        return tensor

    x = torch.randn(16, 5000, requires_grad=True)
    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        alif(x)
    assert saved == 4 * x.numel()


def test_nothing_is_saved_without_gradients():
    with torch.no_grad():
        assert alif(torch.randn(3, 4, requires_grad=True))[0].grad_fn is None
    assert alif(torch.randn(3, 4))[0].grad_fn is None
    assert alif(torch.randn(3, 4), b_init=torch.rand(4, requires_grad=True))[0].grad_fn is not None


@pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor that is not a leaf")  # caused by opcheck
def test_the_operations_pass_opcheck():
    constants = torch.tensor([0.5, 0.5, 1.0, 0.3, 0.8], dtype=torch.float64, requires_grad=True)
    for dtype, lengths in ((torch.float32, None), (torch.float64, torch.tensor([3, 1, 0, 2], dtype=torch.int32))):
        x, v = torch.randn(3, 4, 5, dtype=dtype, requires_grad=True), torch.zeros(4, 5, dtype=dtype)
        b = torch.rand(4, 5, dtype=dtype, requires_grad=True)
        options = (x, v, b, constants, lengths, False, False, False, "atan", 2.0, "auto")
        torch.library.opcheck(torch.ops.snn_core.alif.default, options)
    plain = (x.detach(), v, b.detach(), constants.detach(), *options[4:])
    torch.library.opcheck(torch.ops.snn_core.alif_forward.default, plain)


def test_torch_compile_captures_one_node_with_equal_results():
    nodes: list[str] = []

    def record(graph: torch.fx.GraphModule, _inputs: list[Tensor]):
        nodes.extend(str(node.target) for node in graph.graph.nodes if "snn_core" in str(node.target))
        return graph.forward

    neuron = ALIF(beta=0.5, learn_threshold=True)
    layer, threshold = nn.Sequential(neuron), present(neuron.log_v_threshold)
    x, _, _ = random_inputs(6, 4, 5)
    eager, compiled = x.clone().requires_grad_(), x.clone().requires_grad_()
    expected = layer(eager)
    actual = torch.compile(layer, fullgraph=True, backend=record)(compiled)
    assert torch.equal(actual, expected)
    expected.sum().backward()
    threshold_grad, threshold.grad = present(threshold.grad), None
    actual.sum().backward()
    assert torch.equal(present(compiled.grad), present(eager.grad))
    assert torch.equal(present(threshold.grad), threshold_grad)
    assert nodes == ["snn_core.alif"]


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: alif(torch.zeros(0, 3)), "at least one time step"),
        (
            lambda: alif(torch.zeros(2, 3), tau=0.5),
            "tau must be a time constant of at least 1 time step, but it is 0.5",
        ),
        (
            lambda: alif(torch.zeros(2, 3), tau_adaptation=0.2),
            "tau_adaptation must be a time constant .* but it is 0.2",
        ),
        (lambda: alif(torch.zeros(2, 3), surrogate="none"), "unknown surrogate 'none'"),
        (lambda: alif(torch.zeros(2, 3), v_init=torch.zeros(4)), r"v_init has shape \(4,\), .* has \(3,\)"),
        (lambda: alif(torch.zeros(2, 3), b_init=torch.zeros(2, 3)), r"b_init has shape \(2, 3\), .* has \(3,\)"),
        (lambda: alif(torch.zeros(2, 3), lengths=torch.tensor([1, 2, 3])), "between 0 and T = 2, but one is 3"),
        (lambda: alif(torch.zeros(2, 3), implementation="cuda"), "auto, torch, native or triton, but it is 'cuda'"),  # pyright: ignore[reportArgumentType]
        (lambda: alif(torch.zeros(2, 3), implementation="triton"), "no triton kernels; .* use implementation='auto'"),
        (lambda: alif(torch.zeros(2, 3).double(), implementation="native"), "input is float64; use float32"),
        (lambda: alif(torch.zeros(2, 3), implementation="native", surrogate=lambda d, _: d), "run only in torch"),
        (lambda: ALIF(tau=0.5), "tau must be a time constant of at least 1 time step, but it is 0.5"),
        (lambda: ALIF(tau_adaptation=0.5), "tau_adaptation must be a time constant"),
        (lambda: ALIF(surrogate="none"), "unknown surrogate 'none'"),
        (lambda: ALIF(save="x"), "supports only save='d32', but save is 'x'"),
        (lambda: ALIF(learn_threshold=True, v_threshold=0.0), "must start above 0, but v_threshold is 0.0"),
    ],
)
def test_invalid_arguments_raise(call: Callable[[], object], message: str):
    with pytest.raises(ValueError, match=message):
        call()


def test_repr_shows_the_settings():
    text = repr(ALIF(tau_adaptation=20.0, beta=0.3, v_threshold=0.5))
    assert "tau_adaptation=20.0, beta=0.3, v_threshold=0.5" in text
    assert "v_threshold=0.5 (learned)" in repr(ALIF(v_threshold=0.5, learn_threshold=True))
