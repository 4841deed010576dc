"""The Triton kernels against the equations in float64, on the CPU: Triton's interpreter runs them in a child process.

Kernels are interpreted or compiled depending on an environment variable at their definition, so they run in a separate
process. It writes the error of each case; here each case is a test.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from core import triton_cases
from core.triton_cases import VALUES, Case, covering_cases
from present import present
from snn_core.ops.common.call import NeuronCall
from snn_core.ops.lif import triton
from snn_core.ops.lif.constants import LIFConstants

CONSTANTS, PLAIN = LIFConstants(0.5, 0.5, 1.0), NeuronCall()


def run_interpreted(results: Path, *options: str) -> dict[str, str | None]:
    """Return the error of each case, or None, from the child process."""
    completed = subprocess.run(
        [sys.executable, triton_cases.__file__, results, *options],
        env={**os.environ, "TRITON_INTERPRET": "1", "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert completed.returncode == 0, completed.stderr
    return json.loads(results.read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def covering(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str | None]:
    return run_interpreted(tmp_path_factory.mktemp("triton") / "results.json")


@pytest.mark.parametrize("case", covering_cases(), ids=str)
def test_kernels_agree_with_the_equations(case: Case, covering: dict[str, str | None]):
    assert covering[str(case)] is None, covering[str(case)]


def test_d16_keeps_the_spike_of_a_distance_that_rounds_to_zero(covering: dict[str, str | None]):
    assert covering[triton_cases.SIGNS] is None, covering[triton_cases.SIGNS]


def test_every_value_of_every_option_is_covered():
    cases = covering_cases()
    for name, values in VALUES.items():
        assert {getattr(case, name) for case in cases} == set(values)


@pytest.mark.slow
def test_kernels_agree_with_the_equations_in_random_cases(tmp_path: Path):
    results = run_interpreted(tmp_path / "results.json", "--wide")
    assert len(results) > 0.9 * triton_cases.WIDE
    wrong = {case: error for case, error in results.items() if error is not None}
    assert not wrong, f"{len(wrong)} of {len(results)} cases; the first: " + "\n".join(next(iter(wrong.items())))


def test_the_checks_detect_a_wrong_kernel():
    call = triton_cases.Call(Case())
    spikes, v_last, grad_x, _ = call.equations()
    assert 0.05 < spikes.mean() < 0.95
    off = grad_x.clone()
    off[1, 2] += 2e-6 * grad_x.abs().max()
    with pytest.raises(AssertionError, match=r"off by 2\.0e-06 of the largest"):
        triton_cases.assert_near("gradient of x", off, grad_x, 1e-6)
    with pytest.raises(AssertionError, match="not fully written"):
        triton_cases.assert_near("last potential", torch.where(v_last == v_last[3], torch.nan, v_last), v_last, 1e-6)
    output = triton_cases.Poisoned((2, 3), torch.float32, "cpu")
    output.all[6] = 0.0
    with pytest.raises(AssertionError, match="written beyond the end"):
        output.read()


def test_importing_snn_core_does_not_import_triton():
    code = (
        "import sys, snn_core; from snn_core.ops.lif import triton; triton.unavailable_reason(); "
        "print('triton' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=True, capture_output=True).stdout == b"False\n"


def test_reasons_say_what_to_do(monkeypatch: pytest.MonkeyPatch):
    reason = triton.unavailable_reason.__wrapped__  # without its cache
    monkeypatch.setattr(torch.version, "hip", None)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda: (9, 0))
    assert reason() is None
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda: (7, 5))
    assert "compute capability 8.0 (A100, RTX 30) or newer" in present(reason())
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert "install NVIDIA's driver and a CUDA build of PyTorch" in present(reason())
    monkeypatch.setenv("TRITON_INTERPRET", "1")
    assert reason() is None
    monkeypatch.setattr(triton, "find_spec", lambda name: None)
    assert "pip install triton" in present(reason())


@pytest.mark.parametrize(
    ("x", "call", "message"),
    [
        (torch.zeros(2, 3, dtype=torch.float64), PLAIN, "input is float64; use implementation='torch'"),
        (torch.zeros(2, 3), PLAIN, "run on CUDA devices, but x is on cpu; use implementation='auto'"),
        (
            torch.zeros(2, 3),
            NeuronCall(surrogate="mine"),
            "no surrogate 'mine'; use one of sigmoid, atan, triangle, rectangle, fast_sigmoid, erf",
        ),
    ],
)
def test_invalid_arguments_raise(x: torch.Tensor, call: NeuronCall, message: str):
    v = torch.zeros(3, dtype=torch.float32)
    with pytest.raises(ValueError, match=message):
        triton.forward(x, v, CONSTANTS, call, torch.empty_like(x), None, torch.empty_like(v))
    with pytest.raises(ValueError, match=message):
        triton.backward(x, None, x, v, CONSTANTS, call, torch.empty_like(x), torch.empty_like(v), None)


def test_too_many_neurons_raise(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(triton, "_interpreted", lambda: True)
    x = torch.zeros(1, 1).expand(1, 1 << 31)
    with pytest.raises(
        ValueError, match="x has 2147483648 neurons, but at most 2147418112 run at once; split the batch"
    ):
        triton.forward(x, torch.zeros(1), CONSTANTS, PLAIN, None, None, torch.zeros(1))
