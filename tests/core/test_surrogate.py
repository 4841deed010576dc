"""Each surrogate is the derivative of the function that its docstring names."""

import math

import pytest
import torch

from snn_core import SURROGATES

PRIMITIVES = {
    "sigmoid": lambda d, slope: torch.sigmoid(slope * d),
    "atan": lambda d, slope: torch.atan(math.pi / 2 * slope * d) / math.pi,
}


@pytest.mark.parametrize("name", SURROGATES)
@pytest.mark.parametrize("slope", [1.0, 4.0])
def test_is_the_derivative_of_its_primitive(name: str, slope: float):
    d, step = torch.linspace(-2, 2, 401, dtype=torch.float64), 1e-6
    primitive = PRIMITIVES[name]
    differences = (primitive(d + step, slope) - primitive(d - step, slope)) / (2 * step)
    torch.testing.assert_close(SURROGATES[name](d, slope), differences, rtol=1e-6, atol=1e-8)
