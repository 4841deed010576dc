"""Encoders: raw inputs to tokens, time first; static inputs are repeated; samples and tokens do not mix."""

import copy
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeVar

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from present import present
from snn_core import LIF, ScaledSpike, SpikingConv2d, SpikingLinear, record_firing_rates, spiking_layers
from snn_core.ops.lif.reference import lif_reference
from snn_core.surrogate import surrogate_gradient
from snn_core.testing import assert_same_spikes
from snn_fusion import FusionModel, NoFusion, PatchSplitting, Readout, calibrate
from snn_fusion.encoders.encoder import Encoder
from snn_fusion.encoders.fitted import FittedEncoder
from snn_fusion.encoders.series import SeriesEncoder
from snn_fusion.encoders.token_counts import patch_splitting_tokens, series_tokens
from snn_fusion.encoders.token_input import TokenInput
from snn_fusion.encoders.transformer import EncoderWithBlocks, TransformerBlocks
from snn_fusion.encoders.vector import VectorEncoder
from snn_fusion.methods.attention import AttentionAxis
from snn_fusion.presence import run_on_rows

T, B, C = 3, 5, 16
M = TypeVar("M", bound=nn.Module)


@dataclass
class Case:
    """An encoder, the shape of one input sample and its number of tokens."""

    make: Callable[[], Encoder]
    sample: tuple[int, ...]
    tokens: int


def blocks(*, depth: int = 1, over: AttentionAxis = "tokens") -> TransformerBlocks:
    return TransformerBlocks(C, num_heads=4, depth=depth, mlp_expansion=2, over=over)


CASES = {
    "shallow": Case(lambda: PatchSplitting(3, C, depth="shallow", time_steps=T), (3, 8, 12), 6),
    "full": Case(lambda: PatchSplitting(1, C, depth="full", time_steps=T), (1, 32, 16), 2),
    "events": Case(lambda: PatchSplitting(2, C, depth="shallow", time_steps=T), (2, 12, 4), 3),
    "series": Case(lambda: SeriesEncoder(4, C, time_steps=T), (4, 37), 3),
    "short_series": Case(lambda: SeriesEncoder(1, C, num_stages=2, kernel_size=7, time_steps=T), (1, 50), 13),
    "long_series": Case(lambda: SeriesEncoder(2, C, num_stages=6, time_steps=T), (2, 130), 3),
    "vector": Case(lambda: VectorEncoder(7, C, num_tokens=4, time_steps=T), (7,), 4),
    "tokens": Case(lambda: TokenInput(10, C, time_steps=T), (6, 10), 6),
    "same_width": Case(lambda: TokenInput(C, C, time_steps=T), (6, C), 6),
    "padded": Case(
        lambda: FittedEncoder(PatchSplitting(2, C, depth="shallow", time_steps=T), (2, 10, 9), (2, 12, 12)),
        (2, 10, 9),
        9,
    ),
    "flattened": Case(
        lambda: FittedEncoder(SeriesEncoder(2, C, num_stages=2, time_steps=T), (2, 10, 9), (2, 90)), (2, 10, 9), 23
    ),
    "with_blocks": Case(
        lambda: EncoderWithBlocks(SeriesEncoder(4, C, num_stages=2, time_steps=T), blocks(depth=2)), (4, 26), 7
    ),
    "with_blocks_over_time": Case(
        lambda: EncoderWithBlocks(VectorEncoder(7, C, num_tokens=4, time_steps=T), blocks(over="time")), (7,), 4
    ),
}
KINDS = pytest.mark.parametrize("case", CASES.values(), ids=CASES)


def firing(module: M, x: Tensor) -> M:
    """Make every layer fire, also in evaluation, so that equalities are not between zeros."""
    for layer in spiking_layers(module).values():
        if isinstance(layer, ScaledSpike):
            layer.adjust_drive(4.0, 0.0)
        else:
            layer.adjust_drive(1.5, 0.7)
            norm_of(layer).momentum = 1.0
    module(x)
    for layer in spiking_layers(module).values():
        if not isinstance(layer, ScaledSpike):
            norm_of(layer).momentum = 0.1
    return module


def norm_of(layer: nn.Module) -> nn.BatchNorm1d | nn.BatchNorm2d:
    """Return the batch norm of a layer that has one."""
    assert isinstance(layer, SpikingConv2d | SpikingLinear)
    return present(layer.norm)


def exact(case: Case) -> Encoder:
    """Build it in float64, where rounding does not decide whether a neuron fires."""
    return firing(case.make().double(), timed(case))


def static(case: Case, batch: int = B) -> Tensor:
    return torch.randn(batch, *case.sample, dtype=torch.float64)


def timed(case: Case, steps: int = 4, batch: int = B) -> Tensor:
    return torch.randn(steps, batch, *case.sample, dtype=torch.float64)


@KINDS
def test_tokens_are_time_first_and_have_the_stated_count(case: Case):
    encoder = exact(case)
    for x, steps in ((static(case), T), (timed(case), 4)):
        tokens = encoder(x)
        assert tokens.shape == (steps, B, case.tokens, C)
        assert case.tokens == encoder.count_tokens(case.sample)
        assert encoder.batch_axis(x) == x.dim() - len(case.sample) - 1
        assert tokens.any()
        if case is not CASES["same_width"]:
            assert torch.equal(tokens, tokens.round())


@KINDS
@pytest.mark.parametrize("training", [True, False])
def test_a_static_input_equals_its_repetition_at_every_step(case: Case, training: bool):
    one = exact(case).train(training)
    other = copy.deepcopy(one)
    x = static(case).requires_grad_()
    repeated = x.detach().expand(T, *x.shape).clone().requires_grad_()
    tokens, expected = one(x), other(repeated)
    assert torch.equal(tokens, expected)
    upstream = torch.randn_like(tokens)
    tokens.backward(upstream)
    expected.backward(upstream)
    torch.testing.assert_close(x.grad, present(repeated.grad).sum(0))
    for (name, p), q in zip(one.named_parameters(), other.parameters(), strict=True):
        torch.testing.assert_close(p.grad, q.grad, msg=lambda text, n=name: f"{n}: {text}")
    for (name, p), q in zip(one.named_buffers(), other.buffers(), strict=True):
        torch.testing.assert_close(p, q, msg=lambda text, n=name: f"{n}: {text}")


@KINDS
def test_time_independent_computation_runs_once(case: Case):
    encoder, seen = exact(case), list[int]()
    for module in encoder.modules():
        if isinstance(module, nn.Conv2d):
            module.register_forward_pre_hook(lambda _module, args: seen.append(args[0].shape[0]))
    encoder(static(case))
    assert seen[:1] == ([B] if not isinstance(encoder, TokenInput) or encoder.embed else [])
    assert set(seen[1:]) <= {T * B}


@KINDS
def test_a_permuted_batch_gives_permuted_tokens(case: Case):
    order = torch.tensor([3, 0, 4, 1, 2])
    for training in (True, False):
        encoder = exact(case).train(training)
        for x, batch_axis in ((static(case), 0), (timed(case), 1)):
            tokens = encoder(x)
            assert tokens.any()
            assert torch.equal(encoder(x.index_select(batch_axis, order)), tokens[:, order])


@KINDS
def test_a_batch_equals_its_samples_in_evaluation(case: Case):
    encoder = exact(case).eval()
    for x, batch_axis in ((static(case), 0), (timed(case), 1)):
        alone = [encoder(sample) for sample in x.split(1, dim=batch_axis)]
        tokens = encoder(x)
        assert torch.equal(torch.cat(alone, dim=1), tokens)
        assert (tokens[:, 0] != tokens[:, 1]).any()


@KINDS
def test_samples_without_the_modality_have_no_effect(case: Case):
    present = torch.tensor([True, False, True, True, False])
    for x in (static(case), timed(case)):
        encoder = exact(case)
        axis = encoder.batch_axis(x)
        expected = encoder(x.index_select(axis, present.nonzero().squeeze(1)))
        x.movedim(axis, 0)[~present] = torch.nan
        tokens = run_on_rows(encoder, present, x, axis=axis)
        assert torch.equal(tokens[:, present], expected)
        assert not tokens[:, ~present].any()


@KINDS
def test_later_inputs_do_not_change_earlier_tokens(case: Case):
    if case is CASES["with_blocks_over_time"]:
        case = Case(lambda: EncoderWithBlocks(CASES["vector"].make(), blocks(depth=0)), (7,), 4)
    encoder, x = exact(case).eval(), timed(case)
    changed = x.clone()
    changed[2] *= -3.0
    before, after = encoder(x), encoder(changed)
    assert torch.equal(before[:2], after[:2])
    assert not torch.equal(before[2], after[2])


@KINDS
def test_gradients_reach_every_parameter(case: Case):
    for x in (static(case), timed(case)):
        encoder = exact(case)
        encoder(x.requires_grad_()).mul(torch.randn(B, case.tokens, C)).sum().backward()
        # Batch norm removes the mean, so biases right before it only get rounding noise.
        without_gradient = [
            name
            for name, p in encoder.named_parameters()
            if (p.grad is None or not p.grad.any()) and not name.endswith("linear.bias")
        ]
        assert not without_gradient


@KINDS
def test_under_bf16_autocast_membranes_are_float32(case: Case):
    encoder = exact(case).float().eval()
    sums, spikes = dict[str, Tensor](), dict[str, Tensor]()
    layers = {
        name: layer
        for name, layer in spiking_layers(encoder).items()
        if isinstance(layer, SpikingConv2d | SpikingLinear) and layer.norm is not None
    }
    for name, layer in layers.items():
        weights = layer.linear if isinstance(layer, SpikingLinear) else layer.conv
        weights.register_forward_hook(lambda _m, _x, y, n=name: sums.update({n: y}))
        layer.neuron.register_forward_hook(lambda _m, _x, y, n=name: spikes.update({n: y}))
    with torch.autocast("cpu", torch.bfloat16):
        tokens = encoder(timed(case).float())
    assert tokens.shape == (4, B, case.tokens, C)
    narrow = list[bool]()
    for name, layer in layers.items():
        assert sums[name].dtype == spikes[name].dtype == torch.bfloat16
        drive = normalized(layer, sums[name].float()).view(spikes[name].shape)
        assert_same_spikes(spikes[name].float(), lif_equations(drive))
        narrow.append(torch.equal(spikes[name], lif_equations(drive.bfloat16())))
    assert not narrow or not all(narrow), "16 bits suffice: this input proves nothing"


def normalized(layer: nn.Module, x: Tensor) -> Tensor:
    norm, channels = norm_of(layer), -1 if isinstance(layer, SpikingLinear) else 1
    x = x.movedim(channels, -1)
    x = (x - present(norm.running_mean)) / (present(norm.running_var) + norm.eps).sqrt() * norm.weight + norm.bias
    return x.movedim(-1, channels)


def lif_equations(drive: Tensor) -> Tensor:
    settings: dict[str, Any] = {"tau": 2.0, "v_threshold": 1.0, "v_reset": 0.0, "decay_input": True, "slope": 4.0}
    training: dict[str, Any] = {
        "detach_reset": True,
        "detach_membrane": False,
        "surrogate": surrogate_gradient("sigmoid"),
    }
    return lif_reference(drive, torch.zeros_like(drive[0]), **settings, **training)[0]


def test_tokens_of_an_image_run_along_its_rows():
    x = torch.randn(1, 2, 64, 40, dtype=torch.float64)
    encoder = firing(PatchSplitting(2, C, depth="shallow", time_steps=T).double(), x).eval()
    changed = x.clone()
    changed[..., 0, -1] += 9.0  # the top right corner
    rows, columns = (encoder(x) != encoder(changed)).any(-1).any(0).view(16, 10).nonzero().unbind(1)
    assert rows.min() == 0
    assert rows.max() <= 3  # a pixel influences 1 + 1 + 2 + 2 + 4 = 10 pixels
    assert columns.max() == 9
    assert columns.min() >= 6


def test_tokens_of_a_series_run_along_it():
    x = torch.randn(1, 3, 80, dtype=torch.float64)
    encoder = firing(SeriesEncoder(3, C, num_stages=2, time_steps=T).double(), x).eval()
    for sample, near in ((0, range(4)), (79, range(16, 20))):
        changed = x.clone()
        changed[..., sample] += 9.0
        changed_tokens = (encoder(x) != encoder(changed)).any(-1).any(0).flatten().nonzero().flatten().tolist()
        assert changed_tokens
        assert set(changed_tokens) <= set(near)


def test_a_series_encoder_is_a_1d_convolutional_network():
    x = torch.randn(T, B, 4, 45, dtype=torch.float64)
    encoder = firing(SeriesEncoder(4, C, num_stages=3, kernel_size=5, time_steps=T).double(), x).eval()

    def fire(layer: nn.Module, maps: Tensor) -> Tensor:
        assert isinstance(layer, SpikingConv2d)
        sums = F.conv1d(maps.flatten(0, 1), layer.conv.weight.squeeze(2), padding=2)
        return lif_equations(normalized(layer, sums).unflatten(0, maps.shape[:2]))

    expected = x
    for stage, length in zip(encoder.stages, (23, 12, 6), strict=True):
        expected = F.max_pool1d(fire(stage, expected).flatten(0, 1), 3, 2, 1).unflatten(0, (T, B))
        assert expected.shape[-1] == length
    expected = expected + fire(encoder.position, expected)
    assert set(expected.unique().tolist()) == {0, 1, 2}
    assert torch.equal(encoder(x), expected.mT)


@pytest.mark.parametrize(("num_stages", "widths"), [(1, [16]), (3, [4, 8, 16]), (6, [2, 2, 2, 4, 8, 16])])
def test_a_series_encoder_widens_over_its_last_four_stages(num_stages: int, widths: list[int]):
    encoder = SeriesEncoder(4, C, num_stages=num_stages, time_steps=T)
    stages = [stage for stage in encoder.stages if isinstance(stage, SpikingConv2d)]
    assert [stage.conv.out_channels for stage in stages] == widths


def test_a_vector_encoder_is_a_linear_layer_for_every_token():
    x = torch.randn(T, B, 7, dtype=torch.float64)
    encoder = firing(VectorEncoder(7, C, num_tokens=4, time_steps=T).double(), x)
    tokens = encoder(x)
    for n, weights in enumerate(encoder.embed.conv.weight.view(4, C, 7)):
        drive = x @ weights.T
        var, mean = torch.var_mean(drive, dim=(0, 1), correction=0)
        drive = (drive - mean) / (var + 1e-5).sqrt() * 1.5 + 0.7
        assert torch.equal(tokens[:, :, n], lif_equations(drive))


def test_tokens_of_another_width_pass_a_spiking_linear_layer():
    x = torch.randn(T, B, 6, 10, dtype=torch.float64)
    encoder = firing(TokenInput(10, C, time_steps=T).double(), x)
    linear = SpikingLinear(10, C).double()
    linear.load_state_dict(
        {
            name.replace("conv", "linear"): w.squeeze((2, 3)) if w.dim() == 4 else w
            for name, w in present(encoder.embed).state_dict().items()
        }
    )
    assert torch.equal(encoder(x), linear(x))
    assert torch.equal(encoder.eval()(x), linear.eval()(x))


def test_tokens_of_the_same_width_pass_unchanged():
    encoder = TokenInput(C, C, time_steps=T)
    x = torch.randn(4, B, 6, C)
    assert torch.equal(encoder(x), x)
    assert torch.equal(encoder(x[0]), x[:1].expand(T, -1, -1, -1))
    assert not list(encoder.parameters())


def test_zero_blocks_change_nothing_and_each_adds_at_most_two():
    tokens = torch.randint(0, 3, (T, B, 6, C)).double()
    assert torch.equal(blocks(depth=0)(tokens), tokens)
    added = firing(blocks(depth=2).double(), tokens)(tokens) - tokens
    assert added.min() == 0
    assert added.max() == 4


def test_blocks_attend_over_the_selected_axis():
    tokens = torch.randint(0, 3, (T, 1, 6, C)).double()
    cases: list[tuple[AttentionAxis, int]] = [("tokens", 0), ("time", 2)]
    for over, axis in cases:
        attend = firing(blocks(over=over).double(), tokens).eval()
        changed = tokens.clone()
        changed.select(axis, 1).add_(4)
        changed_tokens = (attend(tokens) != attend(changed)).any(-1).transpose(0, axis).flatten(1).any(1)
        # Over tokens, potentials carry a change at one step to later ones; over time, other tokens are unchanged.
        assert changed_tokens.tolist() == ([False, True, True] if over == "tokens" else [False, True, *[False] * 4])


def test_encoders_of_all_kinds_work_in_one_calibrated_model():
    kinds = ("shallow", "series", "vector", "tokens", "with_blocks")
    model = FusionModel({kind: CASES[kind].make() for kind in kinds}, NoFusion(), Readout(kinds, C, 3))
    inputs = {kind: torch.randn(64, *CASES[kind].sample) for kind in kinds}
    calibrate(model, inputs, target_rate=0.25)
    with record_firing_rates(model) as rates:
        model(inputs)
    assert rates.keys() == spiking_layers(model).keys()
    for name, rate in rates.items():
        # Counts are integers, so a score layer cannot reach the rate exactly.
        assert rate == pytest.approx(0.25, abs=0.2 if name.endswith("spike") else 0.02), name
        assert rate > 0.02, name


@pytest.mark.parametrize(
    ("kind", "has_time"),
    [
        ("shallow", False),
        ("series", True),
        ("vector", False),
        ("tokens", True),
        ("same_width", False),
        pytest.param("with_blocks", True, marks=pytest.mark.slow),
        pytest.param("with_blocks_over_time", False, marks=pytest.mark.slow),
    ],
)
def test_compiles_as_one_graph_and_exports_for_any_batch(kind: str, has_time: bool):
    case = CASES[kind]
    encoder = exact(case).eval()
    x, other = (timed(case, batch=n) if has_time else static(case, batch=n) for n in (B, 2))
    compiled = torch.compile(encoder, fullgraph=True, backend="aot_eager")
    with torch.no_grad():
        assert torch.equal(compiled(x), encoder(x))
    program = torch.export.export(encoder, (x,), dynamic_shapes=({int(has_time): torch.export.Dim("batch")},))
    assert torch.equal(program.module()(other), encoder(other))
    torch.compiler.reset()


def test_token_counts_need_no_pytorch():
    code = "import sys, snn_fusion.encoders.token_counts; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


@pytest.mark.parametrize("num_stages", [1, 2, 5])
def test_a_series_of_any_length_has_the_stated_token_count(num_stages: int):
    encoder = SeriesEncoder(1, C, num_stages=num_stages, time_steps=1).eval()
    for length in (1, 2, 3, 4, 5, 15, 16, 17, 31, 32, 33, 64, 65):
        assert encoder(torch.zeros(1, 1, length)).shape[2] == series_tokens((1, length), num_stages=num_stages)


@pytest.mark.parametrize(
    ("kind", "shape", "message"),
    [
        ("shallow", (B, 8, 12), r"expected \[B, 3, H, W\] or \[T, B, 3, H, W\], got \(5, 8, 12\)"),
        ("shallow", (B, 1, 8, 12), r"got \(5, 1, 8, 12\)"),
        ("shallow", (B, 3, 8, 10), "multiples of 4, but input_shape is 3 x 8 x 10: resize the input"),
        ("shallow", (B, 3, 0, 12), "all at least 1"),
        ("full", (B, 1, 24, 16), r"multiples of 16, but .* or use depth shallow \(multiples of 4\)"),
        ("events", (4, B, 1, 12, 4), r"expected \[B, 2, H, W\] or \[T, B, 2, H, W\], got \(4, 5, 1, 12, 4\)"),
        ("series", (B, 37, 4), r"expected \[B, 4, L\] or \[T, B, 4, L\], got \(5, 37, 4\)"),
        ("series", (B, 4, 0), "both at least 1"),
        ("vector", (T, B, 4, 7), r"expected \[B, 7\] or \[T, B, 7\], got \(3, 5, 4, 7\)"),
        ("tokens", (B, 10), r"expected \[B, N, 10\] or \[T, B, N, 10\], got \(5, 10\)"),
        ("with_blocks", (7,), r"expected \[B, 4, L\] or \[T, B, 4, L\], got \(7,\)"),
    ],
)
def test_invalid_inputs_are_reported(kind: str, shape: tuple[int, ...], message: str):
    with pytest.raises(ValueError, match=message):
        CASES[kind].make()(torch.zeros(shape))


@KINDS
def test_integer_inputs_are_refused(case: Case):
    with pytest.raises(ValueError, match=r"these are torch\.uint8: scale them"):
        case.make()(torch.zeros(B, *case.sample, dtype=torch.uint8))


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: PatchSplitting(1, 12, depth="full", time_steps=1), "channels divisible by 8, but got 12"),
        (lambda: PatchSplitting(1, 16, depth="deep", time_steps=1), "full or shallow, but it is 'deep'"),  # pyright: ignore[reportArgumentType]
        (lambda: PatchSplitting(1, 16, depth="full", time_steps=0), "time_steps is 0"),
        (lambda: SeriesEncoder(1, 12, time_steps=1), "num_stages 4 needs channels divisible by 8, but got 12"),
        (lambda: SeriesEncoder(1, 16, num_stages=0, time_steps=1), "num_stages is 0"),
        (lambda: SeriesEncoder(1, 16, kernel_size=4, time_steps=1), "odd number of samples, but it is 4"),
        (lambda: VectorEncoder(7, 16, num_tokens=0, time_steps=1), "num_tokens is 0"),
        (lambda: TransformerBlocks(16, depth=-1, num_heads=4), "0 or more, but it is -1"),
        (lambda: TransformerBlocks(16, depth=1, num_heads=5), "16 is not by 5"),
        (
            lambda: VectorEncoder(7, 16, num_tokens=2, time_steps=1).count_tokens((8,)),
            r"must be \(7,\), but it is \(8,\)",
        ),
        (lambda: TokenInput(7, 16, time_steps=1).count_tokens((7, 6)), r"must be \(N, 7\), but it is \(7, 6\)"),
        (lambda: patch_splitting_tokens((16, 16), depth="full"), r"but it is \(16, 16\)"),
        (lambda: series_tokens((3, 8, 8), num_stages=2), r"but it is \(3, 8, 8\)"),
    ],
)
def test_invalid_arguments_are_reported(make: Callable[[], object], message: str):
    with pytest.raises(ValueError, match=message):
        make()


def test_every_neuron_comes_from_the_factory():
    neuron_layers = list[nn.Module]()

    def factory() -> LIF:
        neuron = LIF(tau=3.0)
        neuron_layers.append(neuron)
        return neuron

    for make, neurons in (
        (lambda: PatchSplitting(1, C, depth="full", time_steps=T, neuron=factory), 5),
        (lambda: SeriesEncoder(1, C, time_steps=T, neuron=factory), 5),
        (lambda: VectorEncoder(1, C, num_tokens=2, time_steps=T, neuron=factory), 1),
        (lambda: TokenInput(1, C, time_steps=T, neuron=factory), 1),
        (lambda: TransformerBlocks(C, depth=2, num_heads=4, neuron=factory), 14),
    ):
        neuron_layers.clear()
        assert [layer.neuron for layer in spiking_layers(make()).values()] == neuron_layers
        assert len(neuron_layers) == neurons
