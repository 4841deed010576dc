"""The checks for custom kernels: correct kernels pass, and each kind of error is detected and described."""

from typing import Any

import pytest
import torch
from torch import Tensor

from snn_core import lif
from snn_core.ops.lif.reference import lif_reference
from snn_core.surrogate import surrogate_gradient
from snn_core.testing import (
    LIFSettings,
    assert_close_gradients,
    assert_same_spikes,
    check_lif_implementation,
    lif_settings,
    poison_empty_memory,
)

SOME = lif_settings()[::7]
"""Enough settings for an error that shows in all of them."""


def ours(x: Tensor, v_init: Tensor, **settings: Any) -> tuple[Tensor, Tensor]:
    return lif(x, v_init=v_init, **settings)


def plain(x: Tensor, v_init: Tensor, **settings: Any) -> tuple[Tensor, Tensor]:
    """Compute the equations in float32, as a kernel would."""
    wide = x.to(v_init.dtype)
    named: dict[str, Any] = {**settings, "surrogate": surrogate_gradient(settings["surrogate"])}
    spikes, v_last = lif_reference(wide, v_init, **named)
    return spikes.to(x.dtype), v_last


class Broken(torch.autograd.Function):
    """Return the values of the second input forward and a changed gradient backward."""

    @staticmethod
    def forward(ctx: Any, good: Tensor, values: Tensor, change: Any) -> Tensor:
        ctx.change = change
        return values.clone()

    @staticmethod
    def backward(ctx: Any, *grads: Any) -> tuple[Tensor, None, None]:
        return ctx.change(grads[0]), None, None


def with_output(good: Tensor, values: Tensor) -> Tensor:
    return Broken.apply(good, values, lambda grad: grad)


def with_gradient(good: Tensor, change: Any) -> Tensor:
    return Broken.apply(good, good.detach(), change)


def copy_all_but_last(good: Tensor) -> Tensor:
    """Copy all but the last element into new memory."""
    copy = torch.empty(good.shape, dtype=good.dtype)
    copy.flatten()[:-1] = good.detach().flatten()[:-1]
    return copy


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16, torch.float16], ids=str)
def test_the_equations_pass(dtype: torch.dtype):
    check_lif_implementation(plain, dtype=dtype, settings=SOME)


def test_our_neuron_passes_in_all_settings():
    check_lif_implementation(ours)


def test_lif_settings_are_all_combinations_without_defaults():
    settings = {tuple(s.values()) for s in lif_settings()}
    assert len(settings) == 3 * 2 * 2 * 2 * 6
    assert lif_settings()[0]["tau"] != 2.0


def flip_last(spikes: Tensor) -> Tensor:
    values = spikes.detach().clone()
    values[-1].flatten()[-1:].fill_(1 - values[-1].flatten()[-1].item())
    return values


ERRORS = {
    "spike not written": (
        lambda x, v, s: (with_output(s, copy_all_but_last(s)), v),
        r"1 of \d+ spikes differ .* nan instead of .*; 1 are NaN: probably never written",
    ),
    "spike flipped": (lambda x, v, s: (with_output(s, flip_last(s)), v), r"1 of \d+ spikes differ"),
    "potential not written": (
        lambda x, v, s: (s, with_output(v, copy_all_but_last(v))),
        r"1 of \d+ last potentials differ; .* 1 are NaN",
    ),
    "potential off by one unit": (lambda x, v, s: (s, v * (1 + 2**-23)), "last potentials differ"),
    "gradient of spikes": (
        lambda x, v, s: (with_gradient(s, lambda grad: grad * 1.001), v),
        r"gradient of spikes and last potential with respect to x: .* off by more than 1e-05 of the largest",
    ),
    "gradient of one potential": (
        lambda x, v, s: (s, with_gradient(v, lambda grad: grad * (torch.arange(grad.numel()) > 0).view(grad.shape))),
        "gradients are off",
    ),
    "gradient not written": (
        lambda x, v, s: (with_gradient(s, copy_all_but_last), v),
        r"nan instead of .*; \d+ are NaN",
    ),
    "gradient read as if it were dense": (
        lambda x, v, s: (with_gradient(s, lambda grad: grad if 0 not in grad.stride() else grad * 0), v),
        "gradient of the sum of spikes alone",
    ),
    "no gradient of the potential": (lambda x, v, s: (s, v.detach()), "last potentials have no gradient function"),
    "dtype of spikes": (lambda x, v, s: (s.double(), v), "spikes are torch.float64, but x is torch.float32"),
    "shape of the potential": (lambda x, v, s: (s, v[None]), r"last potentials have shape \(1, 1\), but \(1,\)"),
    "x changed in place": (lambda x, v, s: (x.detach().zero_(), (s, v))[1], "x was changed in place"),
}


@pytest.mark.parametrize("name", ERRORS)
def test_errors_are_detected_and_described(name: str):
    change, message = ERRORS[name]

    def broken(x: Tensor, v_init: Tensor, **settings: Any) -> tuple[Tensor, Tensor]:
        spikes, v_last = ours(x, v_init, **settings)
        return change(x, v_last, spikes)

    with pytest.raises(AssertionError, match=message) as caught:
        check_lif_implementation(broken, settings=SOME)
    assert "tau=4.0" in caught.value.__notes__[0]
    assert "for x of shape" in caught.value.__notes__[0]


@pytest.mark.parametrize("name", list(LIFSettings.__annotations__))
def test_an_ignored_setting_is_detected(name: str):
    def ignoring(x: Tensor, v_init: Tensor, **settings: Any) -> tuple[Tensor, Tensor]:
        return ours(x, v_init, **{key: value for key, value in settings.items() if key != name})

    with pytest.raises(AssertionError):
        check_lif_implementation(ignoring)


def test_an_error_only_at_the_threshold_is_detected():
    def strict(x: Tensor, v_init: Tensor, **settings: Any) -> tuple[Tensor, Tensor]:
        return ours(x, v_init, **{**settings, "v_threshold": settings["v_threshold"] * (1 + 2**-22)})

    with pytest.raises(AssertionError, match="spikes differ"):
        check_lif_implementation(strict, settings=[s for s in lif_settings() if s["v_reset"] == 0.0])


def test_an_error_only_in_inference_is_detected():
    def broken(x: Tensor, v_init: Tensor, **settings: Any) -> tuple[Tensor, Tensor]:
        spikes, v_last = ours(x, v_init, **settings)
        return (spikes, v_last) if torch.is_grad_enabled() else (1 - spikes, v_last)

    with pytest.raises(AssertionError, match="spikes differ"):
        check_lif_implementation(broken, settings=SOME)


@pytest.mark.parametrize("mode", [0, 1, 2])
@pytest.mark.parametrize("fill", [False, True])
def test_poisoned_memory_is_nan_and_settings_are_restored(mode: int, fill: bool):
    memory: Any = torch.utils.deterministic
    before = memory.fill_uninitialized_memory
    tensors: list[Tensor] = []

    def interrupted() -> None:
        with poison_empty_memory():
            tensors.extend((torch.empty(3), torch.empty_like(torch.zeros(2, 2)), torch.zeros(1).new_empty(4)))
            tensors.append(torch.empty(2, dtype=torch.int32))
            raise RuntimeError("inside")

    try:
        torch.set_deterministic_debug_mode(mode)
        memory.fill_uninitialized_memory = fill
        with pytest.raises(RuntimeError, match="inside"):
            interrupted()
        assert torch.get_deterministic_debug_mode() == mode
        assert memory.fill_uninitialized_memory == fill
    finally:
        torch.set_deterministic_debug_mode(0)
        memory.fill_uninitialized_memory = before
    *floats, integers = tensors
    assert all(y.isnan().all() for y in floats)
    assert integers.tolist() == [2**31 - 1] * 2


def test_flips_are_counted_and_the_first_is_named():
    expected = torch.zeros(4, 5, 10)
    actual = expected.clone()
    actual[1, 2, 3] = actual[3, 0, 0] = 1
    assert_same_spikes(actual, expected, max_flips=2)
    assert_same_spikes(actual.bool(), actual)
    message = (
        r"2 of 200 spikes differ \(0.01 of all\), .* 1 allowed; the first at t=1, index \(2, 3\): 1.0 instead of 0.0"
    )
    with pytest.raises(AssertionError, match=message):
        assert_same_spikes(actual, expected, max_flips=1)
    with pytest.raises(AssertionError, match=r"shape \(4, 5, 10\), but \(4, 5\)"):
        assert_same_spikes(actual, expected[..., 0])


def test_gradient_errors_are_relative_to_the_largest_gradient():
    expected = torch.tensor([[100.0, 1e-3], [0.0, -5.0]])
    actual = expected.clone()
    actual[0, 1] = 2e-3
    assert_close_gradients(actual, expected, tolerance=1e-4)
    message = r"1 of 4 gradients .* 1e-06 of the largest, 100; the worst at index \(0, 1\): 0.002 instead of 0.001"
    with pytest.raises(AssertionError, match=message):
        assert_close_gradients(actual, expected, tolerance=1e-6)
    actual[1, 0] = torch.nan
    with pytest.raises(AssertionError, match=r"worst at index \(1, 0\): nan instead of 0; 1 are NaN"):
        assert_close_gradients(actual, expected, tolerance=1)
    with pytest.raises(AssertionError, match=r"no gradient, but one of shape \(2, 2\)"):
        assert_close_gradients(None, expected)
    with pytest.raises(AssertionError, match="shape"):
        assert_close_gradients(actual[0], expected)
    with pytest.raises(AssertionError, match="1 of 2 gradients"):
        assert_close_gradients(torch.tensor([0.0, 1e-9]), torch.zeros(2))
    assert_close_gradients(torch.empty(0), torch.empty(0))
