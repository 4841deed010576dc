"""Spiking attention: both orders agree, axes do not mix, silence stays silent."""

import pytest
import torch
from einops import rearrange

from snn_core import SpikingAttention, spiking_attention


def spikes(*shape: int, rate: float = 0.4, seed: int = 0) -> torch.Tensor:
    return (torch.rand(*shape, generator=torch.Generator().manual_seed(seed)) < rate).float()


def firing(attend: SpikingAttention) -> SpikingAttention:
    """Weights large enough that every layer fires, so that equalities are not between zeros."""
    for layer in (attend.query, attend.key, attend.value, attend.output):
        layer.adjust_drive(8.0, 0.5)
    attend.spike.adjust_drive(4.0, 0.0)
    return attend.eval()


@pytest.mark.parametrize(("n", "m", "d"), [(5, 3, 16), (64, 64, 4), (3, 50, 2)])
def test_the_cheaper_order_equals_the_other_bit_for_bit(n: int, m: int, d: int):
    q, k, v = spikes(2, n, d), spikes(2, m, d, seed=1), spikes(2, m, d, seed=2)
    result = spiking_attention(q, k, v)
    assert torch.equal(result, (q @ k.mT) @ v)
    assert torch.equal(result, q @ (k.mT @ v))


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


def test_attention_over_time_keeps_places_apart():
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


def test_without_a_source_tokens_read_themselves():
    attend, x = firing(SpikingAttention(8, num_heads=2)), spikes(3, 2, 6, 8)
    assert torch.equal(attend(x), attend(x, x))
    assert not torch.equal(attend(x), attend(x, x.roll(1, dims=2) * 0))


def test_mistakes_are_named():
    with pytest.raises(ValueError, match="8 is not by 3"):
        SpikingAttention(8, num_heads=3)
    with pytest.raises(ValueError, match="pairs tokens by place"):
        SpikingAttention(8, num_heads=2, over="time")(torch.zeros(3, 2, 6, 8), torch.zeros(3, 2, 5, 8))
