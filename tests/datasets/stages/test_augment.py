"""Random affine changes: within their bounds, each sample its own, repeatable, and nothing at zero."""

import pytest
import torch
from torch import Generator

from snn_datasets import shift_and_scale


def random_affine(x: torch.Tensor, *, shift: float, scale: float, seed: int = 0) -> torch.Tensor:
    amounts = torch.rand(len(x), 2, 2, generator=Generator().manual_seed(seed)) * 2 - 1
    return shift_and_scale(x, amounts, shift=shift, scale=scale)


def test_nothing_changes_at_zero():
    x = torch.rand(3, 2, 8, 5)
    torch.testing.assert_close(random_affine(x, shift=0.0, scale=0.0), x, rtol=0, atol=1e-6)


def center(x: torch.Tensor) -> torch.Tensor:
    """Center of mass of each image along width and height, in pixels from the center."""
    H, W = x.shape[-2:]
    mass = x.sum((1, 2, 3))
    right = (x.sum((1, 2)) * (torch.arange(W) - (W - 1) / 2)).sum(1) / mass
    down = (x.sum((1, 3)) * (torch.arange(H) - (H - 1) / 2)).sum(1) / mass
    return torch.stack([right, down], 1)


def test_a_spot_moves_by_at_most_the_shift_along_each_axis():
    x = torch.zeros(200, 1, 21, 41)
    x[:, :, 8:13, 18:23] = 1
    moved = center(random_affine(x, shift=0.1, scale=0.0))
    for axis, length in ((0, 41), (1, 21)):
        assert moved[:, axis].abs().max() <= 0.1 * length + 1e-3
        assert moved[:, axis].abs().max() > 0.08 * length
        assert moved[:, axis].mean().abs() < 0.02 * length
    assert torch.corrcoef(moved.T)[0, 1].abs() < 0.25  # the axes are drawn apart


def test_a_square_grows_and_shrinks_within_the_scale():
    x = torch.zeros(200, 1, 40, 40)
    x[:, :, 10:30, 10:30] = 1
    area = random_affine(x, shift=0.0, scale=0.2).sum((1, 2, 3)) / 400
    assert area.min() >= 1 / 1.2**2 - 0.01
    assert area.max() <= 1 / 0.8**2 + 0.01
    assert area.max() - area.min() > 0.5


def test_the_same_amounts_give_the_same_changes():
    x = torch.rand(4, 1, 9, 9)
    first, again = (random_affine(x, shift=0.2, scale=0.1, seed=3) for _ in range(2))
    assert torch.equal(first, again)
    assert not torch.equal(first, random_affine(x, shift=0.2, scale=0.1, seed=4))


@pytest.mark.parametrize(
    ("shape", "shift", "scale", "message"),
    [
        ((4, 9, 9), 0.1, 0.1, r"shapes are \(4, 9, 9\)"),
        ((4, 1, 9, 9), 1.5, 0.1, "1.5 and 0.1"),
        ((4, 1, 9, 9), 0.1, -0.1, "0.1 and -0.1"),
    ],
)
def test_mistakes_are_named(shape: tuple[int, ...], shift: float, scale: float, message: str):
    with pytest.raises(ValueError, match=message):
        random_affine(torch.zeros(shape), shift=shift, scale=scale)
