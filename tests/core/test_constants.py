"""Constants of a neuron: invalid ones raise, NaN included, and learned ones stay valid at extremes."""

import math
from collections.abc import Callable

import pytest
import torch

from present import present
from snn_core import ALIF, IF, LIF, PLIF, Neuron, alif, lif
from snn_core.ops.common.call import Implementation

NAN, INF = float("nan"), float("inf")
X = torch.tensor([[0.5, 3.0, 40.0], [2.0, -1.0, 0.1], [0.0, 5.0, 7.0]])


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: LIF(tau=NAN), "tau must be a time constant of at least 1 time step, but it is nan"),
        (lambda: LIF(tau=INF), "tau must .* but it is inf"),
        (lambda: PLIF(tau=NAN), "must start above 1 time step, but tau is nan"),
        (lambda: PLIF(tau=1e9), "at most 16777216 time steps"),
        (lambda: ALIF(tau_adaptation=NAN), "tau_adaptation must .* but it is nan"),
        (lambda: ALIF(beta=NAN), "beta must be a finite number, but it is nan"),
        (lambda: LIF(v_threshold=NAN), "v_threshold must be a finite number, but it is nan"),
        (lambda: LIF(v_threshold=INF), "v_threshold must be a finite number, but it is inf"),
        (lambda: LIF(v_threshold=NAN, learn_threshold=True), "must start above 0, but v_threshold is nan"),
        (lambda: LIF(v_reset=NAN), "v_reset must be a finite number"),
        (lambda: LIF(v_reset=1.0), r"v_reset \(1\.0\) must be below v_threshold \(1\.0\)"),
        (lambda: IF(v_threshold=-1.0, v_reset=None), "a soft reset needs a threshold above 0"),
        (lambda: LIF(slope=0.0), "slope must be a finite number above 0, but it is 0.0"),
        (lambda: LIF(slope=-1.0), "slope must be a finite number above 0"),
        (lambda: LIF(slope=NAN), "slope must be a finite number above 0"),
        (lambda: lif(X, tau=NAN), "at least 1 time step, but it is nan"),
        (lambda: lif(X, v_threshold=NAN), "v_threshold must be a finite number"),
        (lambda: lif(X, v_threshold=torch.tensor(INF)), "a neuron's threshold is inf"),
        (lambda: lif(X, tau=torch.tensor(NAN)), "a neuron's decay is nan"),
        (lambda: alif(X, beta=torch.tensor(NAN)), "a neuron's beta is nan"),
        (lambda: alif(X, tau_adaptation=NAN), "tau_adaptation must .* but it is nan"),
    ],
)
def test_invalid_constants_raise(make: Callable[[], object], message: str):
    with pytest.raises(ValueError, match=message):
        make()


def test_negative_thresholds_work_with_a_lower_reset():
    spikes = LIF(v_threshold=-50.0, v_reset=-65.0)(X)
    assert spikes.sum() > 0


@pytest.mark.parametrize("implementation", ["torch", "native"])
@pytest.mark.parametrize("v_reset", [0.0, None])
@pytest.mark.parametrize("w", [-1e4, -120.0, -90.0, -20.0, 40.0, 1e4])
def test_a_learned_time_constant_stays_finite(w: float, v_reset: float | None, implementation: Implementation):
    neuron = PLIF(v_reset=v_reset, implementation=implementation)
    with torch.no_grad():
        neuron.w.fill_(w)
    check_finite(neuron)
    assert 1 <= neuron.tau.item() <= 2**24
    assert "inf" not in repr(neuron)


@pytest.mark.parametrize("implementation", ["torch", "native"])
@pytest.mark.parametrize("v_reset", [0.0, None])
@pytest.mark.parametrize("log", [-1e4, -104.0, 89.0, 1e4])
def test_a_learned_threshold_stays_finite_and_above_zero(
    log: float, v_reset: float | None, implementation: Implementation
):
    neuron = LIF(v_reset=v_reset, learn_threshold=True, implementation=implementation)
    with torch.no_grad():
        present(neuron.log_v_threshold).fill_(log)
    check_finite(neuron)
    assert isinstance(neuron.v_threshold, torch.Tensor)
    assert 0 < neuron.v_threshold.item() < math.inf


def check_finite(neuron: Neuron) -> None:
    x = X.clone().requires_grad_()
    spikes, v_last = neuron(x, return_v=True)
    (spikes.sum() + v_last.sum()).backward()
    assert v_last.isfinite().all()
    assert present(x.grad).isfinite().all()
    assert all(present(parameter.grad).isfinite().all() for parameter in neuron.parameters())


def test_learned_constants_within_bounds_are_exact():
    neuron = PLIF(tau=3.0, learn_threshold=True)
    share, threshold = torch.sigmoid(neuron.w), present(neuron.log_v_threshold).exp()
    gain = neuron.leak()[1]
    assert isinstance(gain, torch.Tensor)
    assert isinstance(neuron.v_threshold, torch.Tensor)
    assert torch.equal(gain, share)
    assert torch.equal(neuron.v_threshold, threshold)
    (gradient,) = torch.autograd.grad(gain, neuron.w)
    assert torch.equal(gradient, share * (1 - share))


def test_a_nan_parameter_raises():
    neuron = PLIF()
    with torch.no_grad():
        neuron.w.fill_(NAN)
    with pytest.raises(ValueError, match="its parameter is no longer finite"):
        neuron(X)


@pytest.mark.filterwarnings("ignore:`torch.jit.script` is deprecated")  # raised when PyTorch loads forward derivatives
@pytest.mark.parametrize("neuron", [LIF(), ALIF()])
def test_unsupported_transforms_raise(neuron: torch.nn.Module):
    for transform in (torch.func.grad(lambda x: neuron(x).sum()), torch.func.vmap(neuron), torch.func.jacrev(neuron)):
        with pytest.raises(NotImplementedError, match=r"do not support torch\.func transforms"):
            transform(X)
    with torch.autograd.forward_ad.dual_level():
        dual = torch.autograd.forward_ad.make_dual(X, torch.ones_like(X))
        with pytest.raises(NotImplementedError, match="no forward-mode derivative"):
            neuron(dual)
