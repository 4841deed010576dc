"""Spiking attention: equal orders, no mixed axes, no spikes from silence; query-key attention equals QKFormer's."""

import itertools
import re
from collections.abc import Callable
from functools import partial
from typing import Any

import pytest
import torch
from einops import rearrange
from spikingjelly.activation_based import functional
from spikingjelly.activation_based.layer import TokenQKAttention
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from present import present
from snn_core import SpikingAttention, spiking_attention, spiking_layers
from snn_core.attention import Order, QKAttention, query_key_attention


def spikes(*shape: int, rate: float = 0.4, seed: int = 0) -> torch.Tensor:
    return (torch.rand(*shape, generator=torch.Generator().manual_seed(seed)) < rate).float()


def firing(attend: SpikingAttention) -> SpikingAttention:
    """Raise the drives so that every layer spikes and equal results are not all zero."""
    for layer in (attend.query, attend.key, attend.value, attend.output):
        layer.adjust_drive(8.0, 0.5)
    attend.spike.adjust_drive(4.0, 0.0)
    return attend.eval()


DTYPES = [torch.float32, torch.bfloat16, torch.float16]
ORDERS: list[Order] = ["auto", "scores_first", "state_first"]


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("scale", [1.0, 0.25, 1 / 3])
@pytest.mark.parametrize(("n", "m", "d", "e"), [(5, 3, 16, 9), (64, 64, 4, 4), (3, 50, 2, 7), (300, 1500, 32, 32)])
def test_all_orders_are_exact_and_bit_identical(n: int, m: int, d: int, e: int, scale: float, dtype: torch.dtype):
    # At a rate of 0.9 and 1500 tokens, states reach 1300 and results 37000: far beyond what 16 bits represent exactly.
    q, k, v = spikes(2, n, d, rate=0.9), spikes(2, m, d, rate=0.9, seed=1), spikes(2, m, e, rate=0.9, seed=2)
    counts = torch.einsum("bnd,bmd,bme->bne", q.double(), k.double(), v.double())
    expected = (counts.float() * scale).to(dtype)
    for order in ORDERS:
        for autocast in (False, True):
            with torch.autocast("cpu", torch.bfloat16, enabled=autocast):
                result = spiking_attention(q.to(dtype), k.to(dtype), v.to(dtype), scale=scale, order=order)
            assert result.dtype == dtype
            assert torch.equal(result, expected), (order, autocast)


def test_boolean_spikes_are_counted():
    q, k, v = spikes(2, 5, 8), spikes(2, 3, 8, seed=1), spikes(2, 3, 4, seed=2)
    assert torch.equal(spiking_attention(q.bool(), k.bool(), v.bool()), spiking_attention(q, k, v))


@pytest.mark.parametrize("order", ORDERS)
def test_both_orders_have_the_same_gradient(order: Order):
    q, k, v = (spikes(2, n, 4, seed=n).double().requires_grad_() for n in (6, 5, 5))
    upstream = torch.randn(2, 6, 4, dtype=torch.float64)
    expected = torch.autograd.grad(0.5 * torch.einsum("bnd,bmd,bme->bne", q, k, v), (q, k, v), upstream)
    actual = torch.autograd.grad(spiking_attention(q, k, v, scale=0.5, order=order), (q, k, v), upstream)
    for a, b in zip(actual, expected, strict=True):
        torch.testing.assert_close(a, b)


@pytest.mark.parametrize(
    ("query", "key", "value"),
    [
        ((2, 3, 7, 4), (2, 3, 5, 4), (2, 3, 5, 6)),
        ((2, 3, 4, 8), (2, 3, 4, 8), (2, 3, 4, 8)),
        ((2, 3, 50, 4), (2, 3, 40, 4), (2, 3, 40, 4)),
        ((9, 1, 4, 4), (1, 1, 5, 4), (1, 1, 5, 4)),  # one state for nine queries
        ((1, 1, 4, 4), (1, 1, 3, 4), (9, 1, 3, 4)),  # one set of scores for nine values
    ],
)
def test_the_order_with_fewer_multiply_adds_is_taken(
    query: tuple[int, ...], key: tuple[int, ...], value: tuple[int, ...]
):
    q, k, v = spikes(*query), spikes(*key, seed=1), spikes(*value, seed=2)
    costs = {}
    for order in ORDERS:
        with FlopCounterMode(display=False) as counter:
            spiking_attention(q, k, v, order=order)
        costs[order] = counter.get_total_flops()
    assert costs["auto"] == min(costs.values())


def test_attention_over_tokens_is_the_published_formula():
    T, B, N, M, C, heads = 3, 2, 6, 5, 8, 2
    attend = firing(SpikingAttention(C, num_heads=heads))
    target, source = spikes(T, B, N, C, rate=0.7), spikes(T, B, M, C, rate=0.7, seed=1)
    q, k, v = attend.query(target), attend.key(source), attend.value(source)
    counts = torch.zeros(T, B, N, C)
    for t, b, h in ((t, b, h) for t in range(T) for b in range(B) for h in range(heads)):
        part = slice(h * C // heads, (h + 1) * C // heads)
        counts[t, b, :, part] = (q[t, b, :, part] @ k[t, b, :, part].T) @ v[t, b, :, part]
    result = attend(target, source)
    assert torch.equal(result, attend.output(attend.spike(counts)))
    assert 0 < result.mean() < 1


def test_attention_over_time_does_not_mix_tokens():
    attend = firing(SpikingAttention(8, num_heads=2, over="time"))
    target, source = spikes(4, 2, 6, 8, rate=0.8), spikes(4, 2, 6, 8, rate=0.8, seed=1)
    changed = source.clone()
    changed[:, :, 3] = 1 - changed[:, :, 3]
    q, k, v = (f(x) for f, x in ((attend.query, target), (attend.key, source), (attend.value, source)))
    k2, v2 = attend.key(changed), attend.value(changed)
    differs = (attend._over_time(q, k, v) != attend._over_time(q, k2, v2)).any(dim=(0, 1, 3))
    assert differs.nonzero().flatten().tolist() == [3]


def test_ordered_heads_stay_in_their_channels_and_published_ones_do_not():
    # Only head 0 has keys: its channels alone may be touched.
    q = v = torch.ones(4, 1, 1, 8)
    k = torch.zeros(4, 1, 1, 8)
    k[..., :4] = 1
    ordered = SpikingAttention(8, num_heads=2, over="time")._over_time(q, k, v)
    assert ordered[..., 4:].count_nonzero() == 0
    assert (ordered[..., :4] == 16).all()
    published = SpikingAttention(8, num_heads=2, over="time", head_merge="published")._over_time(q, k, v)
    head_first = rearrange(ordered, "t b n (h d) -> b n (h t d)", h=2)
    assert torch.equal(published, rearrange(head_first, "b n (t c) -> t b n c", t=4))
    assert not torch.equal(published, ordered)


def test_silent_source_makes_no_spikes():
    attend = SpikingAttention(8, num_heads=2).eval()
    for layer in (attend.query, attend.output):
        layer.adjust_drive(8.0, 0.0)
    target, silence = torch.rand(3, 2, 6, 8), torch.zeros(3, 2, 5, 8)  # T=3 B=2 N=6 M=5 C=8
    assert attend.query(target).count_nonzero() > 0
    assert attend(target, silence).count_nonzero() == 0


def test_without_a_source_tokens_attend_to_themselves():
    attend, x = firing(SpikingAttention(8, num_heads=2)), spikes(3, 2, 6, 8)
    assert torch.equal(attend(x), attend(x, x))
    assert not torch.equal(attend(x), attend(x, x.roll(1, dims=2) * 0))


def test_query_key_attention_gates_keys_by_query_spikes():
    T, B, H, N, d = 3, 2, 2, 5, 4
    query, key = spikes(T, B, H, N, d), spikes(T, B, H, N, d, rate=0.7, seed=1)
    result = query_key_attention(query, key, lambda counts: (counts >= 2).float())
    for index in itertools.product(range(T), range(B), range(H), range(N)):
        is_open = query[index].sum() >= 2
        assert torch.equal(result[index], key[index] if is_open else torch.zeros(d))
    assert 0 < result.sum() < key.sum()


def test_query_key_attention_counts_exactly_in_16_bits():
    inputs: list[torch.Tensor] = []

    def fire(counts: torch.Tensor) -> torch.Tensor:
        inputs.append(counts)
        return (counts >= 1).to(counts.dtype)

    query, key = torch.ones(1, 2, 301, dtype=torch.bfloat16), spikes(1, 2, 301).bfloat16()
    result = query_key_attention(query, key, fire)
    assert inputs[0].tolist() == [[[301.0], [301.0]]]
    assert torch.equal(result, key)
    assert result.dtype == torch.bfloat16


@pytest.mark.parametrize("training", [True, False])
def test_query_key_attention_agrees_with_spikingjelly(training: bool):
    T, B, N, C = 4, 3, 7, 8
    theirs: Any = TokenQKAttention(C, num_heads=2)
    functional.set_step_mode(theirs, "m")
    ours = QKAttention(C, num_heads=2)
    joint, norm = theirs.qk_conv_bn[0].weight.squeeze(-1), theirs.qk_conv_bn[1]
    with torch.no_grad():
        norm.weight.uniform_(0.5, 3.0)
        norm.bias.uniform_(-0.5, 2.0)
        for index, layer in enumerate((ours.query, ours.key)):
            half = slice(index * C, (index + 1) * C)
            layer.linear.weight.copy_(joint[half])
            present(layer.norm).weight.copy_(norm.weight[half])
            present(layer.norm).bias.copy_(norm.bias[half])
        ours.output.linear.weight.copy_(theirs.proj_conv_bn[0].weight.squeeze(-1))
    ours.output.adjust_drive(8.0, 0.5)
    theirs.proj_conv_bn[1].weight.data.fill_(8.0)
    theirs.proj_conv_bn[1].bias.data.fill_(0.5)
    x = spikes(T, B, N, C, rate=0.5)
    expected = theirs.train(training)(x.permute(0, 1, 3, 2).contiguous()).permute(0, 1, 3, 2)
    result = ours.train(training)(x)
    assert 0.05 < result.mean() < 0.95
    assert torch.equal(result, expected)


def test_the_target_gates_the_keys_of_the_source():
    attend = QKAttention(8, num_heads=2).eval()
    for layer in (attend.query, attend.key, attend.output):
        layer.adjust_drive(8.0, 0.5)
    target, source = spikes(3, 2, 6, 8, rate=0.8), spikes(3, 2, 6, 8, rate=0.8, seed=1)
    q, k = (rearrange(x, "t b n (h d) -> t b h n d", h=2) for x in (attend.query(target), attend.key(source)))
    mask = attend.gate.neuron(2.0 * q.sum(-1, keepdim=True))
    assert 0 < mask.mean() < 1
    assert torch.equal(attend(target, source), attend.output(rearrange(mask * k, "t b h n d -> t b n (h d)")))
    assert torch.equal(attend(target), attend(target, target))
    assert not torch.equal(attend(target), attend(target, source))


def test_query_key_attention_trains_all_its_layers():
    attend = QKAttention(8, num_heads=2)
    assert list(spiking_layers(attend)) == ["query", "key", "gate", "output"]
    attend(spikes(4, 3, 6, 8, rate=0.8)).sum().backward()
    for name, parameter in attend.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.isfinite().all()
        assert parameter.grad.count_nonzero() > 0, name


@pytest.mark.parametrize("kind", [SpikingAttention, QKAttention])
def test_compile_and_export_give_one_graph_for_any_batch_size(kind: type[SpikingAttention | QKAttention]):
    attend = kind(8, num_heads=2, neuron=nn.Sigmoid).eval()
    target, source = torch.rand(3, 2, 6, 8), torch.rand(3, 2, 6, 8)
    compiled = torch.compile(attend, backend="eager", fullgraph=True)
    torch.testing.assert_close(compiled(target, source), attend(target, source))
    batch = {1: torch.export.Dim("batch")}
    program = torch.export.export(attend, (target, source), dynamic_shapes=(batch, batch)).module()
    other_target, other_source = torch.rand(3, 5, 6, 8), torch.rand(3, 5, 6, 8)
    torch.testing.assert_close(program(other_target, other_source), attend(other_target, other_source))


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: SpikingAttention(8, num_heads=3), "8 is not by 3"),
        (
            lambda: SpikingAttention(8, num_heads=2, over="time")(torch.zeros(3, 2, 6, 8), torch.zeros(3, 2, 5, 8)),
            "pairs tokens by index",
        ),
        *[
            (
                lambda kind=kind, target=target, source=source: kind(8, num_heads=2)(
                    torch.zeros(target), torch.zeros(source)
                ),
                rf"^target \[T, B, N, 8\] .* but the target is {re.escape(f'{target} and the source {source}')}$",
            )
            for kind in (SpikingAttention, QKAttention)
            for target, source in [
                ((3, 2, 6, 8), (3, 5, 6, 8)),
                ((3, 2, 6, 8), (4, 2, 6, 8)),
                ((3, 2, 6, 8), (1, 2, 6, 8)),
                ((3, 2, 6, 4), (3, 2, 6, 8)),
                ((3, 2, 6, 8), (3, 2, 6, 12)),
                ((2, 6, 8), (2, 6, 8)),
            ]
        ],
        (lambda: QKAttention(8, num_heads=3), "8 is not by 3"),
        (
            lambda: QKAttention(8, num_heads=2)(torch.zeros(3, 2, 6, 8), torch.zeros(3, 2, 5, 8)),
            r"target is \(3, 2, 6, 8\) and the source \(3, 2, 5, 8\); pool",
        ),
        (
            lambda: query_key_attention(torch.zeros(3, 6, 8), torch.zeros(3, 5, 8), lambda counts: counts),
            r"query is \(3, 6, 8\) and the key \(3, 5, 8\)",
        ),
        (lambda: spiking_attention(*torch.zeros(3, 2, 2), order="linear"), "but it is 'linear'"),  # pyright: ignore[reportArgumentType]
        (lambda: spiking_attention(torch.zeros(2, 3), torch.zeros(4, 3), torch.zeros(5, 3)), r"\(4, 3\) and \(5, 3\)"),
        (lambda: spiking_attention(torch.zeros(3), torch.zeros(3), torch.zeros(3)), r"\(3,\), \(3,\) and \(3,\)"),
        *[
            (
                partial(
                    spiking_attention,
                    torch.zeros(7, 1, 5, 3),
                    torch.zeros(2, 4, 3),
                    torch.zeros(7, 3, 4, 6),
                    order=order,
                ),
                r"\(7, 1, 5, 3\), \(2, 4, 3\) and \(7, 3, 4, 6\)",
            )
            for order in ORDERS
        ],
    ],
)
def test_invalid_arguments_raise(call: Callable[[], object], message: str):
    with pytest.raises(ValueError, match=message):
        call()
