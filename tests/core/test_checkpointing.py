"""Activation checkpointing runs the forward twice but updates running statistics once."""

import copy

import pytest
import torch
from torch.utils.checkpoint import checkpoint

from present import present
from snn_core import SpikingConv2d, SpikingMLP


@pytest.mark.parametrize("use_reentrant", [False, True])
@pytest.mark.parametrize("kind", ["mlp", "maps", "static maps"])
def test_running_statistics_are_updated_once_per_batch(kind: str, use_reentrant: bool):
    torch.manual_seed(0)
    plain = SpikingMLP(8) if kind == "mlp" else SpikingConv2d(3, 8)
    shape = {"mlp": (3, 4, 5, 8), "maps": (3, 4, 3, 6, 6), "static maps": (4, 3, 6, 6)}[kind]
    x = torch.randn(shape)
    options = {"time_steps": 3} if kind == "static maps" else {}
    twin = copy.deepcopy(plain)
    x.requires_grad_()
    for _ in range(2):
        plain(x, **options).sum().backward()
        checkpoint(lambda x: twin(x, **options), x, use_reentrant=use_reentrant).sum().backward()
    for (name, expected), (_, actual) in zip(plain.named_buffers(), twin.named_buffers(), strict=True):
        assert torch.equal(actual, expected), name
    for (name, expected), (_, actual) in zip(plain.named_parameters(), twin.named_parameters(), strict=True):
        torch.testing.assert_close(actual.grad, expected.grad, msg=name)
    assert {int(b) for name, b in twin.named_buffers() if name.endswith("tracked")} == {2}


def test_a_second_forward_without_checkpointing_updates_statistics():
    layer = SpikingMLP(8)
    x = torch.randn(3, 4, 5, 8, requires_grad=True)
    layer(x).sum().backward()
    layer(x).sum().backward()
    assert int(present(present(layer.expand.norm).num_batches_tracked)) == 2
