"""Check one call of the Triton kernels, forward and backward, against the equations; see `test_triton.py`.

    TRITON_INTERPRET=1 python tests/core/triton_cases.py RESULTS.json [--wide]

runs every case on the CPU and writes the error of each, or null. `tests/gpu` runs the same cases on a device.
"""

from __future__ import annotations

import argparse
import functools
import itertools
import json
import random
import traceback
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from snn_core import SURROGATES, surrogate_gradient
from snn_core.ops.common.call import Affine, NeuronCall, Save
from snn_core.ops.lif import torch_kernels, triton
from snn_core.ops.lif.constants import LIFConstants
from snn_core.ops.lif.reference import lif_reference

SAMPLES, CHANNELS, INNER = 3, 5, 7
GUARD = 64
"""Elements after each output that must not be written."""
SLOPE = 2.0
PRECISION = {"cpu": 1e-6, "cuda": 4e-6}
"""Tolerance of gradients relative to the largest; exponential and division on a device are accurate to 2 ulp."""
WIDE = 500
"""Random cases of the wide run."""


SIGNS = "signs of zero"
"""Name of `check_signs_of_zero` in the results."""


@dataclass(frozen=True)
class Case:
    """One combination of all compile-time options of the kernels."""

    T: int = 4
    neurons: int = INNER
    """Neurons of a channel: N = 3 samples x 5 channels x these."""
    dtype: str = "float32"
    tau: float = 2.0
    """Infinite for IF."""
    decay_input: bool = True
    threshold: float = 47 / 64
    """Below 0, neurons spike at rest. Not a multiple of 1/16, which constant currents reach: rounding would decide."""
    soft_reset: bool = False
    detach_reset: bool = True
    detach_membrane: bool = False
    surrogate: str = "sigmoid"
    save: Save = "d32"
    v_init: str = "each"
    """One potential for `each` neuron, or one `shared` by all."""
    lengths: bool = False
    affine: bool = False
    residual: bool = False
    grads: str = "both"
    """Upstream gradients: of the `spikes`, of the last `potential`, or `both`."""
    learned: bool = False
    """Whether the constants have gradients."""
    outputs: str = "spikes"
    """`spikes` in the dtype of x, `bytes`, `bits`, or `both` spikes and bits."""
    strided: bool = False
    """Whether x and the gradient of the spikes are strided views."""

    def __str__(self) -> str:
        default = Case()
        changed = {name: value for name, value in asdict(self).items() if value != getattr(default, name)}
        return ",".join(f"{name}={value}" for name, value in changed.items()) or "default"

    def is_valid(self) -> bool:
        """Return whether the options can be combined."""
        coarse = self.save in ("d16", "u8")
        return not (self.save == "u8" and not self.detach_reset) and not (coarse and self.learned)


VALUES: dict[str, tuple[Any, ...]] = {
    "T": (1, 4, 9, 16, 17, 33),
    "neurons": (1, INNER, 36),
    "dtype": ("float32", "bfloat16", "float16"),
    "tau": (2.0, 4.0, float("inf")),
    "decay_input": (True, False),
    "threshold": (47 / 64, -13 / 64),
    "soft_reset": (False, True),
    "detach_reset": (True, False),
    "detach_membrane": (False, True),
    "surrogate": tuple(SURROGATES),
    "save": ("d32", "d16", "x", "u8"),
    "v_init": ("each", "shared"),
    "lengths": (False, True),
    "affine": (False, True),
    "residual": (False, True),
    "grads": ("both", "spikes", "potential"),
    "learned": (False, True),
    "outputs": ("spikes", "bytes", "bits", "both"),
    "strided": (False, True),
}


@functools.cache
def covering_cases() -> list[Case]:
    """Return a small set of cases that covers every valid pair of option values."""
    drawn = drawn_cases(4000)
    pairs = {case: set(itertools.combinations(asdict(case).items(), 2)) for case in drawn}
    missing, cases = set[object]().union(*pairs.values()), list[Case]()
    while missing:
        # The best of a few is nearly the best of all, and actual sooner.
        best = max(drawn[len(cases) :: 20], key=lambda case: len(missing & pairs[case]))
        if not missing & pairs[best]:
            best = next(case for case in drawn if missing & pairs[case])
        missing -= pairs[best]
        cases.append(best)
    return cases


def drawn_cases(count: int) -> list[Case]:
    """Return random cases from a fixed seed."""
    draw, cases = random.Random(0), list[Case]()
    while len(cases) < count:
        case = Case(**{name: draw.choice(values) for name, values in VALUES.items()})
        if case.is_valid():
            cases.append(case)
    return cases


def check(case: Case, device: str) -> None:
    """Run the case on the device; fail where it differs from the equations in float64."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        call = Call(case)
    saved, grads = call.check_against_equations(device)
    call.check_against_few_pass(device, saved, grads)


def check_signs_of_zero(device: str) -> None:
    """Potentials just below, at and above the threshold: 16 bits keep only the sign of their distances."""
    c = LIFConstants(1.0, 1.0, 2**-10)
    options = NeuronCall(surrogate="rectangle", slope=1.0, save="d16")
    v_init = 2**-10 + torch.tensor([-(2**-30), 0.0, 2**-30], device=device)
    x, spikes, grad_x = (torch.zeros(1, 3, device=device) for _ in range(3))
    saved, v_last, grad_v = x.half(), torch.zeros(3, device=device), torch.zeros(3, device=device)
    triton.forward(x, v_init, c, options, spikes, saved, v_last)
    triton.backward(None, torch.ones(3, device=device), saved, v_init, c, options, grad_x, grad_v, None)
    assert saved.tolist() == [[0.0, 0.0, 0.0]]
    assert spikes.tolist() == [[0.0, 1.0, 1.0]]
    assert grad_v.tolist() == [1.0, 0.0, 0.0], f"the reset lets through {grad_v.tolist()}"


class Call:
    """The inputs of a case on dyadic grids, where sums are exact and spikes must be equal."""

    def __init__(self, case: Case) -> None:
        T, N, dtype = case.T, SAMPLES * CHANNELS * case.neurons, getattr(torch, case.dtype)
        self.case = case
        self.x = grid((T, N), -8, 24).to(dtype)
        self.grad_spikes = None if case.grads == "potential" else grid((T, N), -16, 17).to(dtype)
        if case.strided:
            # A constant current, and a gradient that is a view of a larger array.
            self.x = self.x[:1].expand(T, N)
            if self.grad_spikes is not None:
                self.grad_spikes = grid((2 * T, N + 3), -16, 17).to(dtype)[::2, :N]
        self.grad_v_last = None if case.grads == "spikes" else grid((N,), -16, 17)
        self.v_init = grid((1,), -4, 5).expand(N) if case.v_init == "shared" else grid((N,), -4, 5)
        self.lengths = torch.tensor([T, 0, T // 2], dtype=torch.int32) if case.lengths else None
        scale, shift = 2.0 ** torch.randint(-1, 2, (CHANNELS,)), grid((CHANNELS,), -2, 3)
        self.affine: Affine | None = (scale, shift, case.neurons) if case.affine else None
        self.residual = grid((T, N), -8, 9).to(dtype) if case.residual else None
        leak = 1 / case.tau
        self.constants = LIFConstants(1 - leak, leak if case.decay_input and leak else 1.0, case.threshold)
        self.options = NeuronCall(
            soft_reset=case.soft_reset,
            detach_reset=case.detach_reset,
            detach_membrane=case.detach_membrane,
            surrogate=case.surrogate,
            slope=SLOPE,
            save=case.save,
        )

    def drive(self) -> Tensor:
        """Return the drive of the neurons [T, N] in float64."""
        x = self.x.double()
        if self.affine is not None:
            scale, shift, inner = self.affine
            channel = torch.arange(x.shape[1]) // inner % CHANNELS
            x = x * scale[channel] + shift[channel]
        return x if self.residual is None else x + self.residual

    def equations(self) -> tuple[Tensor, ...]:
        """Return spikes, last potential and the gradients of drive and v_init by autograd, sample by sample."""
        drive, v_init = self.drive().requires_grad_(), self.v_init.double().requires_grad_()
        T = len(drive)
        lengths = [T] * SAMPLES if self.lengths is None else self.lengths.tolist()
        spikes, v_last = list[Tensor](), list[Tensor]()
        for length, x, v in zip(lengths, drive.chunk(SAMPLES, 1), v_init.chunk(SAMPLES), strict=True):
            actual = torch.zeros_like(x)
            if length:
                fired, v = lif_reference(
                    x[:length],
                    v,
                    tau=self.case.tau,
                    v_threshold=self.constants.threshold,
                    v_reset=None if self.options.soft_reset else 0.0,
                    decay_input=self.constants.gain != 1.0,
                    detach_reset=self.options.detach_reset,
                    detach_membrane=self.options.detach_membrane,
                    surrogate=surrogate_gradient(self.options.surrogate),
                    slope=self.options.slope,
                )
                actual = torch.cat([fired, actual[length:]])
            spikes.append(actual)
            v_last.append(v)
        outputs = torch.cat(spikes, 1), torch.cat(v_last)
        loss = torch.zeros((), dtype=torch.float64)
        for output, upstream in zip(outputs, (self.grad_spikes, self.grad_v_last), strict=True):
            if upstream is not None:
                loss = loss + (output * upstream.double()).sum()
        # With a detached membrane the loss may not depend on v_init; this makes both gradients exist.
        loss = loss + 0.0 * (drive.sum() + v_init.sum())
        return *(output.detach() for output in outputs), *torch.autograd.grad(loss, (drive, v_init))

    def forward(self, device: str) -> tuple[Tensor | None, Tensor | None, Tensor, Tensor | None]:
        """Return spikes, packed spikes, last potential and saved tensor."""
        (T, N), case = self.x.shape, self.case
        dtype = {"bytes": torch.uint8, "bits": None}.get(case.outputs, self.x.dtype)
        spikes = None if dtype is None else Poisoned((T, N), dtype, device)
        packed = Poisoned((T, -(-N // 32)), torch.int32, device) if case.outputs in ("bits", "both") else None
        saved = {"d32": torch.float32, "d16": torch.float16, "u8": torch.uint8, "x": None}[case.save]
        saved = None if saved is None else Poisoned((T, N), saved, device)
        v_last = Poisoned((N,), torch.float32, device)
        written = spikes, packed, v_last, saved
        triton.forward(
            self.x.to(device),
            self.v_init.to(device),
            self.constants,
            self.options,
            None if spikes is None else spikes.tensor,
            None if saved is None else saved.tensor,
            v_last.tensor,
            lengths=on(self.lengths, device),
            affine=self.affine_on(device),
            residual=on(self.residual, device),
            packed=None if packed is None else packed.tensor,
        )
        actual = [None if output is None else output.read() for output in written]
        assert actual[2] is not None
        return actual[0], actual[1], actual[2], actual[3]

    def backward(self, saved: Tensor, device: str) -> tuple[Tensor, Tensor, Tensor]:
        """Return the gradients of the drive, v_init and the constants."""
        grad_x, grad_v = (Poisoned(y.shape, y.dtype, device) for y in (self.x, self.v_init))
        grad_constants = torch.zeros(3, dtype=torch.float64, device=device)
        triton.backward(
            on(self.grad_spikes, device),
            on(self.grad_v_last, device),
            saved.to(device),
            self.v_init.to(device),
            self.constants,
            self.options,
            grad_x.tensor,
            grad_v.tensor,
            grad_constants if self.case.learned else None,
            lengths=on(self.lengths, device),
            affine=self.affine_on(device),
            residual=on(self.residual, device),
        )
        return grad_x.read(), grad_v.read(), grad_constants.cpu()

    def affine_on(self, device: str) -> Affine | None:
        return None if self.affine is None else (self.affine[0].to(device), self.affine[1].to(device), self.affine[2])

    def check_against_equations(self, device: str) -> tuple[Tensor | None, tuple[Tensor, ...]]:
        """Compare spikes exactly and gradients up to rounding; return the saved tensor and the gradients."""
        spikes, v_last, grad_x, grad_v = self.equations()
        actual_spikes, packed, actual_v, saved = self.forward(device)
        if actual_spikes is not None:
            assert torch.equal(actual_spikes.double(), spikes), "spikes differ"
        if packed is not None:
            assert np.array_equal(packed.numpy().view(np.uint8), bits_of(spikes)), "bits differ"
        assert_near("last potential", actual_v, v_last, PRECISION[device])
        grads = self.backward(self.x if saved is None else saved, device)
        # Saving fewer bytes rounds the gradient.
        precision = {"d16": 2e-3, "u8": 3e-2}.get(self.options.save, PRECISION[device])
        if not (self.options.save == "d16" and self.options.surrogate == "rectangle"):
            # Rounding moves distances across the edge; the comparison with `torch_kernels` remains.
            assert_near("gradient of x", grads[0], grad_x, precision)
            assert_near("gradient of v_init", grads[1], grad_v, precision)
        return saved, grads

    def check_against_few_pass(self, device: str, ours: Tensor | None, grads: tuple[Tensor, ...]) -> None:
        """The saved tensor of either implementation works in the other, with equal gradients of the constants."""
        x, v_init, call = self.drive(), self.v_init.double(), self.options
        precise = torch.float64 if call.save in ("d32", "x") else None
        saved_type = precise or {"d16": torch.float16, "u8": torch.uint8}[call.save]
        theirs = torch.empty(x.shape, dtype=saved_type)
        torch_kernels.forward(
            x,
            v_init,
            self.constants,
            call,
            torch.empty_like(x),
            None if call.save == "x" else theirs,
            torch.empty_like(v_init),
            lengths=self.lengths,
        )
        saved_by = {"torch_kernels": theirs, "triton": ours} if ours is not None else {"triton": x}
        for name, saved in saved_by.items():
            grad_x, grad_v = torch.empty_like(x), torch.empty_like(v_init)
            grad_constants = torch.zeros(3, dtype=torch.float64)
            torch_kernels.backward(
                None if self.grad_spikes is None else self.grad_spikes.double(),
                None if self.grad_v_last is None else self.grad_v_last.double(),
                saved.to(saved_type),
                v_init,
                self.constants,
                call,
                grad_x,
                grad_v,
                grad_constants if self.case.learned else None,
                lengths=self.lengths,
            )
            actual = (
                grads if name == "triton" else self.backward(saved.float() if call.save == "d32" else saved, device)
            )
            assert_near(f"gradient of x from the saved tensor of {name}", actual[0], grad_x, PRECISION[device])
            assert_near(f"gradient of v_init from the saved tensor of {name}", actual[1], grad_v, PRECISION[device])
            if self.case.learned:
                # Sums of many terms of either sign, which may cancel.
                precision = 3 * PRECISION[device]
                assert_near(
                    f"gradient of the constants from the saved tensor of {name}", actual[2], grad_constants, precision
                )


class Poisoned:
    """An output filled with NaN (integers: 255), followed by a guard."""

    def __init__(self, shape: tuple[int, ...], dtype: torch.dtype, device: str) -> None:
        self.size = int(np.prod(shape))
        self.poison = float("nan") if dtype.is_floating_point else 255
        self.all = torch.full((self.size + GUARD,), self.poison, dtype=dtype, device=device)
        self.tensor = self.all[: self.size].view(shape)

    def read(self) -> Tensor:
        """Return the output on the CPU after checking the guard."""
        guard = torch.full((GUARD,), self.poison, dtype=self.all.dtype)
        assert torch.equal(self.all[self.size :].cpu().nan_to_num(7.0), guard.nan_to_num(7.0)), "written beyond the end"
        return self.tensor.cpu()


def grid(shape: tuple[int, ...], low: int, high: int) -> Tensor:
    """Return random multiples of 1/8 in [low / 8, high / 8)."""
    return torch.randint(low, high, shape) / 8


def on(x: Tensor | None, device: str) -> Tensor | None:
    return None if x is None else x.to(device)


def bits_of(spikes: Tensor) -> np.ndarray:
    """Pack spikes [T, N] into bits, each row padded to whole 32-bit words."""
    packed = np.packbits(spikes.bool().numpy(), axis=1, bitorder="little")
    return np.pad(packed, ((0, 0), (0, -packed.shape[1] % 4)))


def assert_near(name: str, actual: Tensor, expected: Tensor, precision: float) -> None:
    """Assert equality up to a precision relative to the largest value, plus the rounding of a 16-bit `actual`."""
    assert not actual.isnan().any(), f"{name}: not fully written"
    # Triton's interpreter truncates bfloat16, a device rounds to nearest.
    rounding = {torch.bfloat16: 2**-7, torch.float16: 2**-10}.get(actual.dtype, 0.0)
    largest = max(1e-3, float(expected.abs().max()))
    error = (actual.double() - expected).abs() - rounding * expected.abs()
    assert error.max() <= precision * largest, f"{name}: off by {error.max() / largest:.1e} of the largest"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("results", type=Path)
    parser.add_argument("--wide", action="store_true", help="run many random cases instead")
    options = parser.parse_args()
    # The interpreter needs the same time for small and large blocks; the largest N still needs two.
    triton._block = lambda N, *arrays: (512, 4)
    results = dict[str, str | None]()
    checks = {
        str(case): functools.partial(check, case) for case in (drawn_cases(WIDE) if options.wide else covering_cases())
    }
    for name, run in {SIGNS: check_signs_of_zero, **checks}.items():
        try:
            run("cpu")
            results[name] = None
        except Exception:
            results[name] = traceback.format_exc()
    options.results.write_text(json.dumps(results), encoding="utf-8")


if __name__ == "__main__":
    main()
