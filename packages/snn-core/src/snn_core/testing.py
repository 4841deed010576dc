"""Checks for those who write kernels or modules of their own: same spikes, close gradients, a whole LIF against ours.

    from snn_core.testing import check_lif_implementation

    def test_my_kernel():
        check_lif_implementation(my_kernel)

All raise `AssertionError` with what differs, how much and where; nothing but PyTorch is needed.
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
"""Largest error of a gradient by the dtype of x, as a share of the largest gradient."""


class LIFSettings(TypedDict):
    """Keyword arguments of a LIF implementation, explained at `snn_core.lif`."""

    tau: float
    v_threshold: float
    v_reset: float | None
    decay_input: bool
    detach_reset: bool
    detach_membrane: bool
    surrogate: str
    slope: float


class LIFImplementation(Protocol):
    """A differentiable function like `snn_core.lif`, with all settings given."""

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
    """Spikes [T, ...] are equal but for at most `max_flips` of them.

    Implementations that add in another order round otherwise, and a potential next to the threshold then falls on the
    other side; a few flips in a million are normal, on inputs that float32 adds exactly there is none.

    Raises:
        AssertionError: other shapes, or more flips, with their number, share and the first one.
    """
    _assert_same_shape("spikes", actual, expected)
    flipped = actual != expected
    flips = int(flipped.sum())
    if flips > max_flips:
        t, *place = (int(i) for i in flipped.nonzero()[0])
        found, wanted = actual[(t, *place)].item(), expected[(t, *place)].item()
        raise AssertionError(
            f"{flips} of {flipped.numel()} spikes differ ({flips / flipped.numel():.2g} of all), more than the "
            f"{max_flips} allowed; the first at t={t}, index {tuple(place)}: {found} instead of {wanted}"
            + _unwritten(actual)
        )


def assert_close_gradients(actual: Tensor | None, expected: Tensor, *, tolerance: float = 1e-5) -> None:
    """No gradient is off by more than `tolerance` times the largest expected one.

    Gradients through time are sums of terms that cancel, so that small ones have large relative errors in any
    correct implementation: what counts is the error next to the largest.

    Raises:
        AssertionError: no gradient, another shape, or larger errors, with their number and the worst one.
    """
    if actual is None:
        raise AssertionError(f"there is no gradient, but one of shape {tuple(expected.shape)} is expected")
    _assert_same_shape("gradients", actual, expected)
    if not expected.numel():
        return
    wanted = expected.double()
    error, largest = (actual.double() - wanted).abs(), float(wanted.abs().max())
    wrong = ~(error <= tolerance * largest)
    if wrong.any():
        worst = int(error.nan_to_num(nan=torch.inf).argmax())
        place = tuple(int(i) for i in torch.unravel_index(torch.tensor(worst), error.shape))
        raise AssertionError(
            f"{int(wrong.sum())} of {wrong.numel()} gradients are off by more than {tolerance} of the largest, "
            f"{largest:.4g}; the worst at index {place}: {actual[place].item():.6g} instead of "
            f"{expected[place].item():.6g}" + _unwritten(actual)
        )


def _assert_same_shape(what: str, actual: Tensor, expected: Tensor) -> None:
    if actual.shape != expected.shape:
        raise AssertionError(f"{what} have shape {tuple(actual.shape)}, but {tuple(expected.shape)} is expected")


def _unwritten(actual: Tensor) -> str:
    unknown = int(actual.isnan().sum())
    return f"; {unknown} are nan, as elements are that nothing was written to" if unknown else ""


@contextmanager
def poison_empty_memory() -> Generator[None, None, None]:
    """Within the block, `torch.empty` and its like give NaN (the largest value for integers), on every device.

    So an element that a kernel forgets to write is not right by luck. Sets PyTorch's deterministic mode, which does
    it, and puts everything back afterwards. Memory that a kernel takes from elsewhere is not reached.
    """
    # Typed as a plain module, whose property PyTorch adds at run time.
    memory: Any = torch.utils.deterministic
    # Not `use_deterministic_algorithms`: it imports the compiler first, which takes seconds.
    mode, fill = torch.get_deterministic_debug_mode(), memory.fill_uninitialized_memory
    try:
        torch.set_deterministic_debug_mode("warn")
        memory.fill_uninitialized_memory = True
        yield
    finally:
        memory.fill_uninitialized_memory = fill
        torch.set_deterministic_debug_mode(mode)


def lif_settings() -> list[LIFSettings]:
    """Every combination of resets, leaks, detachments and named surrogates, 144 in all.

    The constants differ from the defaults, so that an argument that is not passed on shows.
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
    """Compare an implementation of the LIF neuron with the float64 gradients of `ops/lif/reference.py`.

    Inputs, constants and potentials are multiples of powers of two that float32 adds without rounding, whatever the
    order: spikes and last potentials have to be equal, also where a potential meets the threshold exactly. Shapes are
    odd, longer than a block of 1024, one has gaps in memory and one its axes the other way round; gradients come from
    the spikes, the last potential and both, through one graph; the results without gradients are compared, too; memory
    that is not initialized is NaN; inputs must stay as they are.

    Args:
        function: `(x, v_init, **settings) -> (spikes, v_last)`; spikes in the dtype of x, v_init and v_last in float32
            (float64 if x is).
        settings: what to call it with; None means all of `lif_settings()`, of which you can pick what a kernel is for.
        device: where the inputs lie.
        dtype: dtype of x.
        tolerance: error of gradients as a share of the largest, see `assert_close_gradients`; None means that of
            `TOLERANCES` for the dtype.

    Raises:
        AssertionError: the first difference, with the settings and the shape.
    """
    allowed = TOLERANCES[dtype] if tolerance is None else tolerance
    with poison_empty_memory():
        for chosen in lif_settings() if settings is None else settings:
            for layout, (x, v_init) in _inputs(dtype, device).items():
                try:
                    _check(function, chosen, x, v_init, allowed)
                except Exception as error:
                    named = ", ".join(f"{name}={value!r}" for name, value in chosen.items())
                    error.add_note(f"with {named}\nfor x of shape {tuple(x.shape)} and dtype {dtype}, {layout}")
                    raise


def _inputs(dtype: torch.dtype, device: torch.device | str) -> dict[str, tuple[Tensor, Tensor]]:
    """Inputs x and v_init by how they lie in memory: multiples of 1/16, over few enough steps for exact sums."""
    state = torch.float64 if dtype == torch.float64 else torch.float32
    generator = torch.Generator().manual_seed(0)

    def dyadic(shape: tuple[int, ...], kind: torch.dtype) -> Tensor:
        return (torch.randint(-24, 49, shape, generator=generator) / 16).to(device, kind)

    def both(*shape: int) -> tuple[Tensor, Tensor]:
        return dyadic(shape, dtype), dyadic(shape[1:], state)

    turned_x, turned_v = both(5, 13, 4)
    wide_x, wide_v = both(4, 3, 14)
    return {
        "one neuron and step": both(1, 1),
        "contiguous": both(6, 3),
        "contiguous, more than a block": both(3, 1031),
        "with the last two axes swapped in memory": (turned_x.mT, turned_v.mT),
        "every other element of a larger tensor": (wide_x[..., ::2], wide_v[..., ::2]),
    }


def _check(function: LIFImplementation, settings: LIFSettings, x: Tensor, v_init: Tensor, tolerance: float) -> None:
    expected_x, expected_v = (y.detach().double().requires_grad_() for y in (x, v_init))
    surrogate = surrogate_gradient(settings["surrogate"])
    expected = lif_reference(expected_x, expected_v, **{**settings, "surrogate": surrogate})  # pyright: ignore[reportArgumentType]

    # A detached tensor shares its memory, so the layout stays and a change in place would show in x.
    before = x.clone(), v_init.clone()
    leaves = x.detach().requires_grad_(), v_init.detach().requires_grad_()
    found = function(*leaves, **settings)
    _assert_untouched((x, v_init), before)
    _assert_same_outputs(found, expected, x)
    with torch.no_grad():
        _assert_same_outputs(function(x, v_init, **settings), expected, x)

    generator = torch.Generator().manual_seed(1)
    spikes, v_last = found
    upstream_spikes, upstream_v = (
        (torch.randint(-16, 17, y.shape, generator=generator) / 8).to(y.device, y.dtype) for y in found
    )
    # A sum's gradient is one element seen as many.
    ones = torch.ones((), device=x.device, dtype=spikes.dtype).expand(spikes.shape)
    upstreams: dict[str, tuple[list[int], list[Tensor]]] = {
        "of spikes and last potential": ([0, 1], [upstream_spikes, upstream_v]),
        "of the sum of spikes alone": ([0], [ones]),
        "of the last potential alone": ([1], [upstream_v]),
    }
    for name, y in (("spikes", spikes), ("last potentials", v_last)):
        if not y.requires_grad:
            raise AssertionError(f"{name} have no gradient function")
    for name, (which, upstream) in upstreams.items():
        wanted = torch.autograd.grad(
            [expected[i] for i in which],
            (expected_x, expected_v),
            [g.double() for g in upstream],
            retain_graph=True,
            allow_unused=True,
            materialize_grads=True,
        )
        given = torch.autograd.grad(
            [found[i] for i in which],
            leaves,
            upstream,
            retain_graph=True,
            allow_unused=True,
            materialize_grads=True,
        )
        for leaf, a, b in zip(("x", "v_init"), given, wanted, strict=True):
            try:
                assert_close_gradients(a, b, tolerance=tolerance)
            except AssertionError as error:
                raise AssertionError(f"gradient {name} with respect to {leaf}: {error}") from None
    _assert_untouched((x, v_init), before)


def _assert_untouched(inputs: tuple[Tensor, Tensor], before: tuple[Tensor, Tensor]) -> None:
    for name, now, then in zip(("x", "v_init"), inputs, before, strict=True):
        if not torch.equal(now, then):
            raise AssertionError(f"{name} was changed in place")


def _assert_same_outputs(found: tuple[Tensor, Tensor], expected: tuple[Tensor, Tensor], x: Tensor) -> None:
    spikes, v_last = found
    if spikes.dtype != x.dtype:
        raise AssertionError(f"spikes are {spikes.dtype}, but x is {x.dtype}")
    assert_same_spikes(spikes.detach(), expected[0].detach().to(spikes.dtype))
    wanted = expected[1].detach()
    _assert_same_shape("last potentials", v_last, wanted)
    wrong = v_last.detach().double() != wanted
    if wrong.any():
        place = tuple(int(i) for i in wrong.nonzero()[0])
        raise AssertionError(
            f"{int(wrong.sum())} of {wrong.numel()} last potentials differ; the first at index {place}: "
            f"{v_last[place].item()} instead of {wanted[place].item()}" + _unwritten(v_last)
        )
