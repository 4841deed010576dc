"""Each surrogate is the derivative of the function in its docstring."""

import math

import pytest
import torch

from snn_core import SURROGATES

PRIMITIVES = {
    "sigmoid": lambda d, slope: torch.sigmoid(slope * d),
    "atan": lambda d, slope: torch.atan(math.pi / 2 * slope * d) / math.pi,
    "triangle": lambda d, slope: torch.where(
        d.abs() < 1 / slope, slope * d - (slope * d).abs() * slope * d / 2, d.sign() / 2
    ),
    "rectangle": lambda d, slope: (slope * d).clamp(-0.5, 0.5),
    "fast_sigmoid": lambda d, slope: slope * d / (1 + slope * d.abs()) / 2,
    "erf": lambda d, slope: torch.erf(slope * d) / 2,
}


@pytest.mark.parametrize("name", SURROGATES)
@pytest.mark.parametrize("slope", [1.0, 4.0])
def test_surrogates_are_the_derivatives_of_their_primitives(name: str, slope: float):
    # An even number of points avoids the corners of triangle and rectangle.
    d, step = torch.linspace(-2, 2, 400, dtype=torch.float64), 1e-6
    primitive = PRIMITIVES[name]
    differences = (primitive(d + step, slope) - primitive(d - step, slope)) / (2 * step)
    torch.testing.assert_close(SURROGATES[name](d, slope), differences, rtol=1e-6, atol=1e-8)


@pytest.mark.parametrize("name", SURROGATES)
def test_surrogates_are_even_and_integrate_to_one(name: str):
    d = torch.linspace(-400, 400, 800_001, dtype=torch.float64)
    bump = SURROGATES[name](d, 2.0)
    torch.testing.assert_close(bump, bump.flip(0), rtol=1e-12, atol=1e-15)
    assert torch.trapezoid(bump, d).item() == pytest.approx(1, abs=2e-3)
