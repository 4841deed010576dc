"""Test your own kernels and modules: equal spikes, close gradients, and a LIF implementation against the equations.

    from snn_core.testing import check_lif_implementation

    def test_my_kernel():
        check_lif_implementation(my_kernel)

A failure is an `AssertionError` that says what differs, how much and where. Only PyTorch is needed.
"""

from __future__ import annotations

import itertools
from collections.abc import Generator, Iterable
from contextlib import contextmanager
from typing import Any, Protocol, TypedDict

import torch
import torch.utils.deterministic
from torch import Tensor

from snn_core.ops.lif.reference import lif_reference
from snn_core.surrogate import SURROGATES, surrogate_gradient

TOLERANCES = {torch.float64: 1e-10, torch.float32: 1e-5, torch.float16: 2e-3, torch.bfloat16: 1e-2}
"""Tolerance of a gradient by the dtype of x, relative to the largest gradient."""


class LIFSettings(TypedDict):
    """Keyword arguments of a LIF implementation, documented at `snn_core.lif`."""

    tau: float
    v_threshold: float
    v_reset: float | None
    decay_input: bool
    detach_reset: bool
    detach_membrane: bool
    surrogate: str
    slope: float


class LIFImplementation(Protocol):
    """A differentiable function like `snn_core.lif`; all settings are passed."""

    def __call__(
        self,
        x: Tensor,
        v_init: Tensor,
        /,
        *,
        tau: float,
        v_threshold: float,
        v_reset: float | None,
        decay_input: bool,
        detach_reset: bool,
        detach_membrane: bool,
        surrogate: str,
        slope: float,
    ) -> tuple[Tensor, Tensor]:
        """Currents x [T, ...] and potential v_init [...] -> spikes [T, ...] and the last potential [...]."""
        ...


def assert_same_spikes(actual: Tensor, expected: Tensor, *, max_flips: int = 0) -> None:
    """Assert that spikes [T, ...] are equal except for at most `max_flips` of them.

    Another order of summation rounds differently, so that a potential next to the threshold may fall on the other side.
    A few flips per million are normal; on inputs that float32 sums exactly there are none.

    Raises:
        AssertionError: the shapes differ, or there are more flips; gives their number, fraction and the first one.
    """
    _assert_same_shape("spikes", actual, expected)
    flipped = actual != expected
    flips = int(flipped.sum())
    if flips > max_flips:
        t, *index = (int(i) for i in flipped.nonzero()[0])
        values = f"{actual[(t, *index)].item()} instead of {expected[(t, *index)].item()}"
        raise AssertionError(
            f"{flips} of {flipped.numel()} spikes differ ({flips / flipped.numel():.2g} of all), more than the "
            f"{max_flips} allowed; the first at t={t}, index {tuple(index)}: {values}" + _unwritten(actual)
        )


def assert_close_gradients(actual: Tensor | None, expected: Tensor, *, tolerance: float = 1e-5) -> None:
    """Assert that no gradient deviates by more than `tolerance` times the largest expected one.

    Gradients through time are sums of terms that cancel, so small gradients have large relative errors in any correct
    implementation. The error is therefore relative to the largest gradient.

    Raises:
        AssertionError: the gradient is missing, its shape differs, or errors are larger; gives their number and the
            worst one.
    """
    if actual is None:
        raise AssertionError(f"there is no gradient, but one of shape {tuple(expected.shape)} is expected")
    _assert_same_shape("gradients", actual, expected)
    if not expected.numel():
        return
    error, largest = (actual.double() - expected.double()).abs(), float(expected.double().abs().max())
    # Negated, so that NaN fails too.
    wrong = ~(error <= tolerance * largest)
    if wrong.any():
        worst = int(error.nan_to_num(nan=torch.inf).argmax())
        index = tuple(int(i) for i in torch.unravel_index(torch.tensor(worst), error.shape))
        raise AssertionError(
            f"{int(wrong.sum())} of {wrong.numel()} gradients are off by more than {tolerance} of the largest, "
            f"{largest:.4g}; the worst at index {index}: {actual[index].item():.6g} instead of "
            f"{expected[index].item():.6g}" + _unwritten(actual)
        )


def _assert_same_shape(name: str, actual: Tensor, expected: Tensor) -> None:
    if actual.shape != expected.shape:
        raise AssertionError(f"{name} have shape {tuple(actual.shape)}, but {tuple(expected.shape)} is expected")


def _unwritten(actual: Tensor) -> str:
    count = int(actual.isnan().sum())
    return f"; {count} are NaN: probably never written" if count else ""


@contextmanager
def poison_empty_memory() -> Generator[None, None, None]:
    """Within the block, fill the memory of `torch.empty` with NaN (integers: the largest value), on every device.

    An element that a kernel forgets to write is then not correct by chance. Uses PyTorch's deterministic mode and
    restores it. Memory that a kernel allocates by other means is not filled.
    """
    # PyTorch adds the property at run time.
    memory: Any = torch.utils.deterministic
    # Not `use_deterministic_algorithms`: it imports the compiler, which takes seconds.
    mode, fill = torch.get_deterministic_debug_mode(), memory.fill_uninitialized_memory
    try:
        torch.set_deterministic_debug_mode("warn")
        memory.fill_uninitialized_memory = True
        yield
    finally:
        memory.fill_uninitialized_memory = fill
        torch.set_deterministic_debug_mode(mode)


def lif_settings() -> list[LIFSettings]:
    """Return all 144 combinations of reset, leak, detached terms and named surrogate.

    The constants differ from the defaults, so that an ignored argument shows.
    """
    return [
        LIFSettings(
            tau=4.0,
            v_threshold=0.75,
            v_reset=v_reset,
            decay_input=decay_input,
            detach_reset=detach_reset,
            detach_membrane=detach_membrane,
            surrogate=surrogate,
            slope=2.0,
        )
        for v_reset, decay_input, detach_reset, detach_membrane, surrogate in itertools.product(
            (0.0, -0.5, None), (True, False), (True, False), (True, False), SURROGATES
        )
    ]


def check_lif_implementation(
    function: LIFImplementation,
    *,
    settings: Iterable[LIFSettings] | None = None,
    device: torch.device | str = "cpu",
    dtype: torch.dtype = torch.float32,
    tolerance: float | None = None,
) -> None:
    """Compare an implementation of the LIF neuron with `ops/lif/reference.py` in float64.

    Inputs, constants and potentials are multiples of powers of two that float32 sums exactly in any order, so spikes
    and last potentials must be equal, even where a potential equals the threshold. Shapes are odd and exceed a block of
    1024; one input has gaps in memory, another swapped axes. Gradients come from the spikes, the last potential and
    both, through one graph. Results without gradients are compared as well. Uninitialized memory is NaN, and inputs
    must not change.

    Args:
        function: `(x, v_init, **settings) -> (spikes, v_last)`; spikes in the dtype of x, v_init and v_last in float32
            (float64 if x is).
        settings: the settings to test; None means all of `lif_settings()`. Pass a subset that your kernel supports.
        device: device of the inputs.
        dtype: dtype of x.
        tolerance: see `assert_close_gradients`; None means `TOLERANCES` of the dtype.

    Raises:
        AssertionError: the first difference, with the settings and the shape.
    """
    allowed = TOLERANCES[dtype] if tolerance is None else tolerance
    with poison_empty_memory():
        for case in lif_settings() if settings is None else settings:
            for layout, (x, v_init) in _inputs(dtype, device).items():
                try:
                    _check(function, case, x, v_init, allowed)
                except Exception as error:
                    text = ", ".join(f"{name}={value!r}" for name, value in case.items())
                    error.add_note(f"with {text}\nfor x of shape {tuple(x.shape)} and dtype {dtype}, {layout}")
                    raise


def _inputs(dtype: torch.dtype, device: torch.device | str) -> dict[str, tuple[Tensor, Tensor]]:
    """Return inputs x and v_init by memory layout: multiples of 1/16, with few enough steps for exact sums."""
    state = torch.float64 if dtype == torch.float64 else torch.float32
    generator = torch.Generator().manual_seed(0)

    def dyadic(shape: tuple[int, ...], kind: torch.dtype) -> Tensor:
        return (torch.randint(-24, 49, shape, generator=generator) / 16).to(device, kind)

    def both(*shape: int) -> tuple[Tensor, Tensor]:
        return dyadic(shape, dtype), dyadic(shape[1:], state)

    swapped_x, swapped_v = both(5, 13, 4)
    wide_x, wide_v = both(4, 3, 14)
    return {
        "one neuron and step": both(1, 1),
        "contiguous": both(6, 3),
        "contiguous, more than a block": both(3, 1031),
        "with the last two axes swapped in memory": (swapped_x.mT, swapped_v.mT),
        "every other element of a larger tensor": (wide_x[..., ::2], wide_v[..., ::2]),
    }


def _check(function: LIFImplementation, settings: LIFSettings, x: Tensor, v_init: Tensor, tolerance: float) -> None:
    expected_x, expected_v = (y.detach().double().requires_grad_() for y in (x, v_init))
    surrogate = surrogate_gradient(settings["surrogate"])
    expected = lif_reference(expected_x, expected_v, **{**settings, "surrogate": surrogate})  # pyright: ignore[reportArgumentType]

    # A detached tensor shares memory: it has the same layout, and a change in place would show in x.
    before = x.clone(), v_init.clone()
    leaves = x.detach().requires_grad_(), v_init.detach().requires_grad_()
    outputs = function(*leaves, **settings)
    _assert_unchanged((x, v_init), before)
    _assert_same_outputs(outputs, expected, x)
    with torch.no_grad():
        _assert_same_outputs(function(x, v_init, **settings), expected, x)

    generator = torch.Generator().manual_seed(1)
    spikes, v_last = outputs
    upstream_spikes, upstream_v = (
        (torch.randint(-16, 17, y.shape, generator=generator) / 8).to(y.device, y.dtype) for y in outputs
    )
    # The gradient of a sum is one expanded element.
    ones = torch.ones((), device=x.device, dtype=spikes.dtype).expand(spikes.shape)
    upstreams: dict[str, tuple[list[int], list[Tensor]]] = {
        "of spikes and last potential": ([0, 1], [upstream_spikes, upstream_v]),
        "of the sum of spikes alone": ([0], [ones]),
        "of the last potential alone": ([1], [upstream_v]),
    }
    for name, y in (("spikes", spikes), ("last potentials", v_last)):
        if not y.requires_grad:
            raise AssertionError(f"{name} have no gradient function")
    for name, (indices, upstream) in upstreams.items():
        expected_grads = torch.autograd.grad(
            [expected[i] for i in indices],
            (expected_x, expected_v),
            [g.double() for g in upstream],
            retain_graph=True,
            allow_unused=True,
            materialize_grads=True,
        )
        grads = torch.autograd.grad(
            [outputs[i] for i in indices],
            leaves,
            upstream,
            retain_graph=True,
            allow_unused=True,
            materialize_grads=True,
        )
        for leaf, a, b in zip(("x", "v_init"), grads, expected_grads, strict=True):
            try:
                assert_close_gradients(a, b, tolerance=tolerance)
            except AssertionError as error:
                raise AssertionError(f"gradient {name} with respect to {leaf}: {error}") from None
    _assert_unchanged((x, v_init), before)


def _assert_unchanged(inputs: tuple[Tensor, Tensor], before: tuple[Tensor, Tensor]) -> None:
    for name, after, original in zip(("x", "v_init"), inputs, before, strict=True):
        if not torch.equal(after, original):
            raise AssertionError(f"{name} was changed in place")


def _assert_same_outputs(outputs: tuple[Tensor, Tensor], expected: tuple[Tensor, Tensor], x: Tensor) -> None:
    spikes, v_last = outputs
    if spikes.dtype != x.dtype:
        raise AssertionError(f"spikes are {spikes.dtype}, but x is {x.dtype}")
    assert_same_spikes(spikes.detach(), expected[0].detach().to(spikes.dtype))
    expected_v = expected[1].detach()
    _assert_same_shape("last potentials", v_last, expected_v)
    wrong = v_last.detach().double() != expected_v
    if wrong.any():
        index = tuple(int(i) for i in wrong.nonzero()[0])
        raise AssertionError(
            f"{int(wrong.sum())} of {wrong.numel()} last potentials differ; the first at index {index}: "
            f"{v_last[index].item()} instead of {expected_v[index].item()}" + _unwritten(v_last)
        )
