"""Fusion methods: any number of modalities, absent ones, unequal token counts, shared weights, scales."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from functools import partial
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from snn_core import QKAttention, ScaledSpike, SpikingLinear, spiking_layers
from snn_fusion.methods.attention import AttentionAxis, AttentionKind, AttentionSource, auto_scale, coincidence_counts
from snn_fusion.methods.base import FusedTokens, FusionMethod
from snn_fusion.methods.ccssa import CCSSA, SourceCombination, WeightSharing
from snn_fusion.methods.cmci import CMCI, SpikingSum
from snn_fusion.methods.qk import QKFusion
from snn_fusion.methods.residual import ResidualFusion, source_shares
from snn_fusion.methods.sca import SCA, PositionBias
from snn_fusion.methods.tokens import pool_tokens
from snn_fusion.methods.weight_attention import WeightAttention
from snn_fusion.topology import Topology, pairs

T, B, C = 3, 4, 16
NAMES = ("audio", "visual", "touch", "smell", "text")
Make = Callable[..., FusionMethod]


def sca(names: tuple[str, ...], channels: int, **options: Any) -> SCA:
    return SCA(names, channels, num_heads=4, num_tokens=dict.fromkeys(names, 9), **options)


METHODS: dict[str, Make] = {
    "ccssa": partial(CCSSA, num_heads=4),
    "ccssa-spatial": partial(CCSSA, num_heads=4, attention="spatial", semantic_projection=False),
    "ccssa-temporal": partial(CCSSA, num_heads=4, attention="temporal", combine="mean"),
    "ccssa-gate": partial(CCSSA, num_heads=4, combine="gate", learnable_alpha=True),
    "ccssa-source": partial(CCSSA, num_heads=4, sharing="source"),
    "ccssa-source-gate": partial(CCSSA, num_heads=4, sharing="source", combine="gate", learnable_alpha=True),
    "ccssa-all": partial(CCSSA, num_heads=4, sharing="all", combine="mean", scale="auto"),
    "ccssa-ring": partial(CCSSA, num_heads=4, topology="ring", scale="auto"),
    "qk": partial(QKFusion, num_heads=4),
    "sca": sca,
    "weight": WeightAttention,
    "cmci": CMCI,
}


@pytest.fixture(params=list(METHODS))
def make(request: pytest.FixtureRequest) -> Make:
    return METHODS[request.param]


def awake(method: FusionMethod) -> FusionMethod:
    """Calibrate an initially silent branch: every layer fires for many tokens, even in one time step."""
    generator = torch.Generator().manual_seed(3)
    for module in method.modules():
        if isinstance(module, nn.BatchNorm1d):
            nn.init.uniform_(module.weight, 1.0, 2.0, generator=generator)
            nn.init.uniform_(module.bias, 1.0, 2.0, generator=generator)
        elif isinstance(module, ScaledSpike):
            module.adjust_drive(4.0, 0.0)
        elif isinstance(module, SpikingSum):
            module.adjust_drive(3.0, 1.0)
        elif isinstance(module, SpikingLinear) and module.norm is None and module.linear.weight.any():
            module.adjust_drive(4.0, 1.8)
    return method


def twins(make: Make, names: tuple[str, ...]) -> tuple[FusionMethod, FusionMethod]:
    """Two methods with the same weights."""
    first, second = awake(make(names, C)), awake(make(names, C))
    second.load_state_dict(first.state_dict())
    return first, second


def tokens_of(names: tuple[str, ...], *, steps: int = T, batch: int = B, num_tokens: int = 9, seed: int = 1):
    generator = torch.Generator().manual_seed(seed)
    shape = steps, batch, num_tokens, C
    return {name: torch.randint(0, 3, shape, generator=generator).float() for name in names}


def all_tensors(fused: FusedTokens) -> dict[str | tuple[str, str], Tensor]:
    """All tensors of a result by modality and pair."""
    tensors: dict[str | tuple[str, str], Tensor] = {**fused.tokens, **fused.residuals}
    return tensors if fused.joint is None else tensors | {"joint": fused.joint}


def assert_same(actual: FusedTokens, expected: FusedTokens, rows: Tensor | slice = slice(None)) -> None:
    actual_tensors, expected_tensors = all_tensors(actual), all_tensors(expected)
    assert actual_tensors.keys() == expected_tensors.keys()
    for name, value in expected_tensors.items():
        torch.testing.assert_close(
            actual_tensors[name][:, rows], value[:, rows], rtol=1e-5, atol=1e-6, msg=f"{name} differs"
        )


@pytest.mark.parametrize("count", [1, 2, 3, 5])
@pytest.mark.parametrize("steps", [1, 7])
def test_any_number_of_modalities_and_time_steps(make: Make, count: int, steps: int):
    names = NAMES[:count]
    method = awake(make(names, C))
    tokens = tokens_of(names, steps=steps)
    fused = method(tokens)
    assert {name: x.shape for name, x in fused.tokens.items()} == {name: x.shape for name, x in tokens.items()}
    assert all(residual.shape == tokens[target].shape for (target, _), residual in fused.residuals.items())
    if count == 1:
        assert torch.equal(fused.tokens["audio"], tokens["audio"])
        assert not fused.residuals
    elif isinstance(method, CCSSA | QKFusion | SCA):
        assert tuple(fused.residuals) == method.pairs
        assert all(residual.any() for residual in fused.residuals.values())
    for x in all_tensors(fused).values():
        assert x.isfinite().all()


def test_token_counts_may_differ(make: Make):
    tokens = tokens_of(("audio", "visual")) | tokens_of(("touch",), num_tokens=4) | tokens_of(("smell",), num_tokens=16)
    counts = {name: x.shape[2] for name, x in tokens.items()}
    names = tuple(tokens)
    built = SCA(names, C, num_heads=4, num_tokens=counts) if make is sca else make(names, C)
    fused = awake(built)(tokens)
    assert {name: x.shape for name, x in fused.tokens.items()} == {name: x.shape for name, x in tokens.items()}
    assert all(residual.shape == tokens[target].shape for (target, _), residual in fused.residuals.items())
    assert all(residual.any() for residual in fused.residuals.values())


def test_the_order_of_the_dictionary_does_not_matter(make: Make):
    method = awake(make(NAMES[:3], C)).eval()
    tokens = tokens_of(NAMES[:3])
    assert_same(method(dict(reversed(tokens.items()))), method(tokens))


def test_a_batch_equals_its_samples_in_evaluation(make: Make):
    method = awake(make(NAMES[:3], C)).eval()
    tokens = tokens_of(NAMES[:3])
    together = method(tokens)
    for i in range(B):
        alone = all_tensors(method({name: x[:, i : i + 1] for name, x in tokens.items()}))
        for name, value in all_tensors(together).items():
            torch.testing.assert_close(alone[name], value[:, i : i + 1], rtol=1e-5, atol=1e-6)


def test_gradients_reach_every_parameter(make: Make):
    method = awake(make(NAMES[:3], C))
    tokens = tokens_of(NAMES[:3], batch=16)
    generator = torch.Generator().manual_seed(5)
    tensors = all_tensors(method(tokens))
    torch.stack([(x * torch.randn(x.shape, generator=generator)).sum() for x in tensors.values()]).sum().backward()
    # Batch norm removes the mean, so biases right before it only get rounding noise.
    without_gradient = [
        name
        for name, p in method.named_parameters()
        if (p.grad is None or not p.grad.any()) and not name.endswith(("expand.linear.bias", "contract.linear.bias"))
    ]
    assert not without_gradient


def some_absent(names: tuple[str, ...]) -> dict[str, Tensor]:
    """Masks of the first and the last modality."""
    return {
        names[0]: torch.tensor([True, False, True, True]),
        names[-1]: torch.tensor([True, True, False, True]),
    }


def test_values_in_absent_rows_have_no_effect(make: Make):
    names, presence = NAMES[:3], some_absent(NAMES[:3])
    spoilt = {name: x.clone() for name, x in tokens_of(names).items()}
    clean = {name: x.clone() for name, x in spoilt.items()}
    for name, mask in presence.items():
        spoilt[name][:, ~mask] = float("nan")
        clean[name][:, ~mask] = 0.0
    first, second = twins(make, names)
    results = first(spoilt, presence), second(clean, presence)
    for fused in results:
        torch.stack([x.square().sum() for x in all_tensors(fused).values()]).sum().backward()
    assert_same(results[0], results[1])
    for (name, a), (_, b) in zip(first.named_parameters(), second.named_parameters(), strict=True):
        torch.testing.assert_close(a.grad, b.grad, msg=f"gradient of {name} differs")
    for (name, a), (_, b) in zip(first.named_buffers(), second.named_buffers(), strict=True):
        assert torch.equal(a, b), name


@pytest.mark.parametrize("count", [2, 3])
def test_absent_rows_neither_read_nor_are_read(make: Make, count: int):
    # In evaluation a sample without a modality gives the same result as in a batch without that modality.
    names, presence = NAMES[:count], some_absent(NAMES[:count])
    method = awake(make(names, C)).eval()
    tokens = tokens_of(names)
    mixed = all_tensors(method(tokens, presence))
    for name, mask in presence.items():
        rows = ~mask
        left_out = all_tensors(method({other: x for other, x in tokens.items() if other != name}))
        for where, value in left_out.items():
            torch.testing.assert_close(mixed[where][:, rows], value[:, rows], rtol=1e-5, atol=1e-6)
    for where, value in mixed.items():
        lacking = [~presence[name] for name in (where if isinstance(where, tuple) else (where,)) if name in presence]
        for rows in lacking:
            assert not value[:, rows].any()


@pytest.mark.parametrize("count", [2, 3])
def test_an_omitted_modality_is_absent_for_the_whole_batch(make: Make, count: int):
    names, absent = NAMES[:count], torch.zeros(B, dtype=torch.bool)
    first, second = twins(make, names)
    tokens = tokens_of(names)
    masked, left_out = (
        first(tokens, {"visual": absent}),
        second({name: x for name, x in tokens.items() if name != "visual"}),
    )
    tensors = all_tensors(masked)
    for name, value in all_tensors(left_out).items():
        torch.testing.assert_close(tensors[name], value, rtol=1e-5, atol=1e-6)
    for (name, a), (_, b) in zip(first.named_buffers(), second.named_buffers(), strict=True):
        assert torch.equal(a, b), name


def test_batch_statistics_are_those_of_the_present_rows(make: Make):
    names, mask = NAMES[:2], torch.tensor([True, False, True, True])
    first, second = twins(make, names)
    tokens = tokens_of(names)
    fused = first(tokens, dict.fromkeys(names, mask))
    expected = second({name: x[:, mask] for name, x in tokens.items()})
    tensors = all_tensors(fused)
    for name, value in all_tensors(expected).items():
        torch.testing.assert_close(tensors[name][:, mask], value, rtol=1e-5, atol=1e-6)
    for (name, a), (_, b) in zip(first.named_buffers(), second.named_buffers(), strict=True):
        torch.testing.assert_close(a, b, msg=f"{name} differs")


@pytest.mark.parametrize("name", ["ccssa", "ccssa-source", "ccssa-all", "qk"])
def test_a_silent_source_adds_nothing(name: str):
    method = awake(METHODS[name](NAMES[:3], C))
    for module in method.modules():  # with biases a silent input would fire nevertheless
        if isinstance(module, nn.BatchNorm1d):
            nn.init.zeros_(module.bias)
            nn.init.constant_(module.weight, 4.0)
        elif isinstance(module, nn.Linear) and "bias" in module.state_dict():
            nn.init.zeros_(module.bias)
            with torch.no_grad():
                module.weight.mul_(20.0)
    method.eval()
    tokens = tokens_of(NAMES[:3])
    silence = tokens | {"touch": torch.zeros_like(tokens["touch"])}
    fused = method(silence)
    assert not fused.residuals["audio", "touch"].any()
    assert not fused.residuals["visual", "touch"].any()
    assert fused.residuals["audio", "visual"].any()
    only_two = method({other: tokens[other] for other in ("audio", "visual")})
    if name != "ccssa-all":  # its mean counts a silent source, because it is present
        torch.testing.assert_close(fused.tokens["audio"], only_two.tokens["audio"])


@pytest.mark.parametrize("build", [partial(CCSSA, learnable_alpha=True), QKFusion])
def test_learned_scales_start_at_alpha_and_are_reported(build: Make):
    method = build(NAMES[:3], C, alpha=0.75)
    assert dict(method.alphas) == dict.fromkeys(itertools.permutations(NAMES[:3], 2), 0.75)
    assert isinstance(method, ResidualFusion)
    assert isinstance(method.alpha, Tensor)
    with torch.no_grad():
        method.alpha[2] = 3.0
    assert method.alphas["visual", "audio"] == 3.0


def test_each_pair_is_scaled_by_its_own_alpha():
    tokens = tokens_of(NAMES[:3])
    for sharing in ("pair", "source"):
        method = awake(CCSSA(NAMES[:3], C, num_heads=4, learnable_alpha=True, sharing=sharing)).eval()
        alpha = method.alpha
        assert isinstance(alpha, Tensor)
        with torch.no_grad():
            alpha.copy_(torch.tensor([1.0, 2.0, 0.5, 0.0, -1.0, 4.0]))
        fused = method(tokens)
        for target in NAMES[:3]:
            expected = tokens[target].clone()
            for (reader, source), residual in fused.residuals.items():
                if reader == target:
                    expected += method.alphas[reader, source] * residual
            torch.testing.assert_close(fused.tokens[target], expected)


def test_the_mean_divides_by_the_sources_that_a_sample_has():
    method = awake(CCSSA(NAMES[:3], C, num_heads=4, combine="mean")).eval()
    tokens, presence = tokens_of(NAMES[:3]), {"touch": torch.tensor([True, False, True, False])}
    fused = method(tokens, presence)
    read = fused.residuals["audio", "visual"] + fused.residuals["audio", "touch"]
    number = torch.tensor([2.0, 1.0, 2.0, 1.0])[:, None, None]
    torch.testing.assert_close(fused.tokens["audio"], tokens["audio"] + 1.5 * read / number)


@pytest.mark.parametrize("sharing", ["pair", "source"])
def test_gates_start_open_and_can_shut_a_source_out(sharing: WeightSharing):
    torch.manual_seed(2)
    gated = CCSSA(NAMES[:3], C, num_heads=4, combine="gate", sharing=sharing)
    tokens = tokens_of(NAMES[:3])
    open_gates = gated.eval()(tokens)
    plain = CCSSA(NAMES[:3], C, num_heads=4, sharing=sharing)
    plain.load_state_dict({name: v for name, v in gated.state_dict().items() if not name.startswith("gates.")})
    torch.testing.assert_close(open_gates.tokens["audio"], plain.eval()(tokens).tokens["audio"])
    assert gated.gates is not None
    for source in ("visual", "touch"):
        gate = gated.gates.layers[f"audio_reads_{source}"]
        assert isinstance(gate, SpikingLinear)
        nn.init.constant_(gate.linear.bias, -5.0)
    shut = gated(tokens)
    assert torch.equal(shut.tokens["audio"], tokens["audio"])
    torch.testing.assert_close(shut.tokens["visual"], open_gates.tokens["visual"])


def renamed(state: dict[str, Tensor], names: tuple[str, str]) -> dict[str, Tensor]:
    """Map the weights of one reader per pair to those shared by source: for two modalities the numbers agree."""
    ours: dict[str, Tensor] = {}
    for name, value in state.items():
        _, reader, *rest = name.split(".")
        target, source = reader.split("_reads_")
        layer = 0 if rest[0] == "projection" else 1
        owner = source if rest[layer] in ("key", "value") else target
        ours[".".join(["readers", *rest[: layer + 1], owner, *rest[layer + 1 :]])] = value
    return ours


@pytest.mark.parametrize("attention", ["spatial", "temporal", "spatiotemporal"])
@pytest.mark.parametrize("options", [{}, {"scale": "auto"}, {"head_merge": "published"}, {"combine": "mean"}])
@pytest.mark.parametrize("num_tokens", [9, 4])
def test_for_two_modalities_sharing_by_source_is_the_published_method(
    attention: AttentionKind, options: dict[str, Any], num_tokens: int
):
    names = ("audio", "visual")
    pair = awake(CCSSA(names, C, num_heads=4, attention=attention, **options))
    shared = CCSSA(names, C, num_heads=4, attention=attention, sharing="source", **options)
    shared.load_state_dict(renamed(pair.state_dict(), names))
    tokens = tokens_of(names[:1]) | tokens_of(names[1:], num_tokens=num_tokens)
    expected = pair(tokens)
    assert expected.residuals["audio", "visual"].any()
    assert_same(shared(tokens), expected)
    torch.testing.assert_close(shared.state_dict(), renamed(pair.state_dict(), names))


@pytest.mark.parametrize("sharing", ["source", "all"])
def test_shares_of_a_residual_sum_to_it(sharing: WeightSharing):
    method = awake(CCSSA(NAMES[:4], C, num_heads=4, sharing=sharing, alpha=1.0))
    tokens = tokens_of(NAMES[:4])
    fused = method(tokens)
    for target in NAMES[:4]:
        read = torch.stack([r for (reader, _), r in fused.residuals.items() if reader == target]).sum(0)
        torch.testing.assert_close(tokens[target] + read, fused.tokens[target])


def test_shares_follow_the_counts():
    counts = torch.tensor([6.0, 2.0, 0.0]).expand(1, 2, 5, 3).clone()
    counts[:, 1] = 0.0
    shares = source_shares(counts, ("a", "b", "c"), {"c": torch.tensor([True, False])})
    torch.testing.assert_close(shares[0, 0], torch.tensor([0.75, 0.25, 0.0]).expand(5, 3))
    torch.testing.assert_close(shares[0, 1], torch.tensor([0.5, 0.5, 0.0]).expand(5, 3))


@pytest.mark.parametrize("over", ["tokens", "time"])
@pytest.mark.parametrize("steps", [2, 9])  # heads of width 4 are wider than 2 steps: another order of products
def test_reading_several_sources_at_once_sums_their_counts(over: AttentionAxis, steps: int):
    generator = torch.Generator().manual_seed(6)
    query, *rest = ((torch.rand(steps, 2, 5, 8, generator=generator) < 0.4).float() for _ in range(5))
    sources = [AttentionSource(k, v, num_heads=2, over=over) for k, v in zip(rest[:2], rest[2:], strict=True)]
    together = coincidence_counts(query, sources, num_heads=2, head_merge="ordered")
    expected = torch.zeros_like(together)
    axes = "tbnhd,tbmhd,tbmhe->tbnhe" if over == "tokens" else "tbnhd,sbnhd,sbnhe->tbnhe"
    for k, v in zip(rest[:2], rest[2:], strict=True):
        q, k, v = (x.unflatten(-1, (2, 4)) for x in (query, k, v))
        expected += torch.einsum(axes, q, k, v).flatten(-2)
    assert torch.equal(together, expected)


@pytest.mark.parametrize("count", [2, 4, 5])
def test_sharing_reduces_the_parameters_as_stated(count: int):
    names = NAMES[:count]

    def parameters(sharing: WeightSharing) -> int:
        return sum(p.numel() for p in CCSSA(names, C, num_heads=4, sharing=sharing).parameters())

    one = 8 * (C * C + 2 * C) + C * C + C
    assert parameters("pair") == count * (count - 1) * one
    assert parameters("source") == count * one
    assert parameters("all") == one


def test_a_shared_layer_runs_once_per_pass():
    method = awake(CCSSA(NAMES[:4], C, num_heads=4, sharing="all"))
    method(tokens_of(NAMES[:2]) | tokens_of(NAMES[2:4], num_tokens=4))
    tracked = {name: int(v) for name, v in method.named_buffers() if name.endswith("num_batches_tracked")}
    assert tracked == dict.fromkeys(tracked, 1)
    assert len(tracked) == 8


def test_every_neuron_belongs_to_a_layer_that_calibration_can_set(make: Make):
    method = make(NAMES[:3], C)
    neurons = {id(module) for module in method.modules() if type(module).__name__ == "LIF"}
    layers = spiking_layers(method).values()
    assert neurons == {id(layer.neuron) for layer in layers}
    for layer in layers:
        layer.adjust_drive(1.5, 0.0)


def compiled_and_not(
    name: str, names: tuple[str, ...]
) -> tuple[dict[str | tuple[str, str], Tensor], dict[str | tuple[str, str], Tensor]]:
    method = awake(METHODS[name](names, C)).eval()
    tokens = tokens_of(names)

    def run(tokens: dict[str, Tensor]) -> dict[str | tuple[str, str], Tensor]:
        return all_tensors(method(tokens))

    torch.compiler.reset()  # compiled code is cached by the code of `run`, which is always the same
    with torch.no_grad():
        return torch.compile(run, fullgraph=True, backend="eager")(tokens), run(tokens)


@pytest.mark.parametrize("name", ["ccssa-spatial", "qk", "weight", "cmci"])
def test_compiles_without_graph_breaks(name: str):
    compiled, plain = compiled_and_not(name, NAMES[:2])
    torch.testing.assert_close(compiled, plain)


@pytest.mark.slow
@pytest.mark.parametrize("name", METHODS)
def test_compiles_without_graph_breaks_for_three_modalities(name: str):
    compiled, plain = compiled_and_not(name, NAMES[:3])
    torch.testing.assert_close(compiled, plain)


@pytest.mark.parametrize("name", ["ccssa", "ccssa-source-gate", "qk", "sca", "weight", "cmci"])
def test_the_dtype_of_the_tokens_is_preserved(name: str):
    method = awake(METHODS[name](NAMES[:3], C)).bfloat16()
    tokens = {name: x.bfloat16() for name, x in tokens_of(NAMES[:3]).items()}
    tensors = all_tensors(method(tokens)).values()
    assert {x.dtype for x in tensors} == {torch.bfloat16}
    torch.stack([x.sum() for x in tensors]).sum().backward()


def test_for_two_modalities_qk_is_query_key_attention():
    torch.manual_seed(4)
    method = awake(QKFusion(("audio", "visual"), C, num_heads=4, alpha=0.5)).eval()
    block = QKAttention(C, num_heads=4).eval()
    owners = {"query": "audio", "key": "visual", "gate": "audio", "output": "audio"}
    state = method.state_dict()
    block.load_state_dict(
        {
            name: state[f"{layer}.{owner}.{name.removeprefix(layer + '.')}"]
            for layer, owner in owners.items()
            for name in block.state_dict()
            if name.startswith(layer)
        }
    )
    tokens = tokens_of(("audio", "visual"))
    fused, read = method(tokens), block(tokens["audio"], tokens["visual"])
    assert read.any()
    assert torch.equal(fused.residuals["audio", "visual"], read)
    assert torch.equal(fused.tokens["audio"], tokens["audio"] + 0.5 * read)


def test_sca_replaces_tokens_by_what_was_read():
    method = awake(sca(NAMES[:3], C)).eval()
    tokens = tokens_of(NAMES[:3])
    fused = method(tokens)
    read = fused.residuals["visual", "audio"] + fused.residuals["visual", "touch"]
    assert torch.equal(fused.tokens["visual"], read)
    absent = method(tokens, {"audio": torch.tensor([True, False, True, True])} | {"touch": torch.arange(B) != 1})
    assert torch.equal(absent.tokens["visual"][:, 1], tokens["visual"][:, 1])


def test_a_position_bias_depends_only_on_relative_position():
    bias = PositionBias(9, kind="random", generator=torch.Generator().manual_seed(1))
    values = bias(torch.zeros(1))
    assert values.shape == (9, 9)
    by_difference: dict[tuple[int, int], set[float]] = {}
    for i, j in itertools.product(range(9), range(9)):
        by_difference.setdefault((i // 3 - j // 3, i % 3 - j % 3), set()).add(float(values[i, j]))
    assert len(by_difference) == 25
    assert all(len(values) == 1 for values in by_difference.values())
    assert len(set().union(*by_difference.values())) == 25


def test_random_position_biases_repeat_with_their_generator():
    tokens = tokens_of(NAMES[:2])
    runs = []
    for _ in range(2):
        torch.manual_seed(0)
        generator = torch.Generator().manual_seed(8)
        method = awake(sca(NAMES[:2], C, position_bias="random", generator=generator)).eval()
        runs.append([method(tokens).tokens["visual"] for _ in range(3)])
    assert all(torch.equal(a, b) for a, b in zip(*runs, strict=True))
    assert not torch.equal(runs[0][0], runs[0][1])


def test_the_automatic_scale_keeps_the_drive_comparable():
    assert auto_scale(64, 16) == 0.25
    generator = torch.Generator().manual_seed(9)
    for tokens, width in ((64, 16), (256, 16), (64, 8), (196, 32)):
        q, k, v = ((torch.rand(2, 3, tokens, width, generator=generator) < 0.1575).float() for _ in range(3))
        counts = coincidence_counts(
            q, [AttentionSource(k, v, num_heads=1, over="tokens")], num_heads=1, head_merge="ordered"
        )
        drive = auto_scale(tokens, width) * counts.mean()
        assert 0.8 < drive < 1.25
    assert auto_scale(4, 4) == 2.0


@pytest.mark.parametrize("combine", ["sum", "mean"])
def test_the_automatic_scale_accounts_for_the_number_of_sources(combine: SourceCombination):
    method = awake(CCSSA(NAMES[:3], C, num_heads=4, sharing="all", combine=combine, scale="auto", alpha=1.0)).eval()
    drives: list[Tensor] = []
    counted = method.get_submodule("readers.spatial.spike.shared")
    assert isinstance(counted, ScaledSpike)
    counted.neuron.register_forward_pre_hook(lambda _, args: drives.append(args[0][:, : B * 128]))  # audio's
    tokens = tokens_of(NAMES[:2], num_tokens=128)  # enough that the scale is below its limit
    method(tokens)
    method(tokens | {"touch": tokens["visual"]})
    assert drives[0].any()
    torch.testing.assert_close(drives[1], drives[0])


def test_pooling_to_an_equal_grid_is_the_identity():
    x = torch.rand(2, 3, 6, 4)
    assert pool_tokens(x, 6) is x
    torch.testing.assert_close(pool_tokens(x, 2), torch.stack([x[:, :, :3].mean(2), x[:, :, 3:].mean(2)], 2))
    torch.testing.assert_close(pool_tokens(x, 12), x.repeat_interleave(2, dim=2))


def test_topologies():
    abc = ("a", "b", "c")
    assert pairs("all", abc) == (("a", "b"), ("a", "c"), ("b", "a"), ("b", "c"), ("c", "a"), ("c", "b"))
    assert pairs("ring", abc) == (("a", "b"), ("b", "c"), ("c", "a"))
    assert pairs("star:b", abc) == (("a", "b"), ("b", "a"), ("b", "c"), ("c", "b"))
    assert pairs([("c", "a"), ("a", "b")], abc) == (("a", "b"), ("c", "a"))
    assert pairs("all", "ab") == pairs("ring", "ab") == pairs("star:a", "ab") == (("a", "b"), ("b", "a"))
    assert pairs("all", "a") == pairs("ring", "a") == pairs("star:a", "a") == ()


@pytest.mark.parametrize(
    ("topology", "message"),
    [
        ("line", "topology is all, ring, star:<hub> or a list .* but it is 'line'"),
        ("star", "but it is 'star'"),
        ("star:d", "the hub of 'star:d' must be one of the modalities a, b, c"),
        ([("a", "d")], "names 'd', but the modalities are a, b, c"),
        ([("a", "a")], "'a' cannot read itself"),
        ([("a", "b"), ("a", "b")], r"\('a', 'b'\) is listed more than once"),
        (["ab"], "a topology's pair is \\(target, source\\), but one is 'ab'"),
    ],
)
def test_invalid_topologies_are_reported(topology: Any, message: str):
    with pytest.raises(ValueError, match=message):
        pairs(topology, ("a", "b", "c"))


@pytest.mark.parametrize("topology", ["ring", "star:visual", [("audio", "touch"), ("visual", "touch")]])
@pytest.mark.parametrize(
    "build", [partial(CCSSA, num_heads=4), partial(CCSSA, num_heads=4, sharing="source"), QKFusion]
)
def test_only_the_pairs_of_the_topology_are_read(topology: Topology, build: Make):
    method = awake(build(NAMES[:3], C, topology=topology))
    tokens = tokens_of(NAMES[:3])
    fused = method(tokens)
    expected = pairs(topology, NAMES[:3])
    assert tuple(fused.residuals) == expected
    for name in NAMES[:3]:
        if name not in {target for target, _ in expected}:
            assert torch.equal(fused.tokens[name], tokens[name])
    without = {name: x for name, x in tokens.items() if name != "touch"}
    assert set(method(without).residuals) == {pair for pair in expected if "touch" not in pair}


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: CCSSA(("a", "b"), 10, num_heads=4), "10 is not by 4"),
        (lambda: CCSSA(("a", "b"), 10, num_heads=4, sharing="all"), "10 is not by 4"),
        (lambda: QKFusion(("a", "b"), 10, num_heads=4), "10 is not by 4"),
        (lambda: CCSSA(("a", "a"), 8, num_heads=4), "must be unique"),
        (lambda: SCA(("a", "b"), 8, num_heads=4, num_tokens={"b": 8}), "square grid.* there are 8"),
        (lambda: SCA(("a", "b"), 8, num_heads=4, num_tokens={"a": 9}), "'b' reads with a position bias"),
        (lambda: SCA(("a", "b"), 8, num_heads=4, num_tokens={}, biased=("c",)), "biased names 'c'"),
        (lambda: CMCI(("a", "b"), C)(tokens_of(("a", "d"))), "knows a, b, but got tokens of d"),
        (lambda: sca(("a", "b"), C)(tokens_of(("a", "b"), num_tokens=4)), "for 9 tokens, but there are 4"),
    ],
)
def test_invalid_arguments_are_reported(build: Callable[[], object], message: str):
    with pytest.raises(ValueError, match=message):
        build()
