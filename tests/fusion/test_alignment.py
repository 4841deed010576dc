"""The class-wise contrastive loss against its definition, written out."""

import math

import pytest
import torch

from snn_fusion import ClassContrastive


def test_matches_the_definition():
    a, b = torch.randn(5, 7), torch.randn(5, 7)
    labels, temperature = torch.tensor([0, 1, 0, 2, 1]), 0.3
    total = 0.0
    for i in range(5):
        scores = [float(a[i] @ b[j]) / temperature for j in range(5)]
        log_sum = math.log(sum(math.exp(s) for s in scores))
        total += sum(scores[j] - log_sum for j in range(5) if labels[i] == labels[j])
    loss = ClassContrastive(temperature=temperature)(a, b, labels)
    assert loss.item() == pytest.approx(-total / 25, rel=1e-5)


def test_has_a_direction():
    a, b, labels = torch.randn(4, 3), torch.randn(4, 3), torch.tensor([0, 0, 1, 1])
    align = ClassContrastive(temperature=0.5)
    assert align(a, b, labels) != align(b, a, labels)


def test_mismatched_shapes_are_reported():
    with pytest.raises(ValueError, match=r"\(4, 3\), \(4, 2\) and \(4,\)"):
        ClassContrastive()(torch.zeros(4, 3), torch.zeros(4, 2), torch.zeros(4))
