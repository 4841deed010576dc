"""Compile the Triton kernels for devices that need not be present: access widths, registers, spills.

Kernel launches are recorded and compiled as they would be on the device.
"""

from __future__ import annotations

import re
import subprocess
import tempfile
from pathlib import Path
from typing import Any

import pytest
import torch
import triton as triton_language
from torch import Tensor
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource

from core import triton_cases
from snn_core.ops.common.call import NeuronCall, Save
from snn_core.ops.lif import triton
from snn_core.ops.lif.constants import LIFConstants
from snn_core.ops.lif.triton import kernels

CUOBJDUMP = Path(triton_language.__file__).parent / "backends" / "nvidia" / "bin" / "cuobjdump"
N = triton.MANY_NEURONS
POINTERS = {
    torch.float64: "*fp64",
    torch.float32: "*fp32",
    torch.bfloat16: "*bf16",
    torch.float16: "*fp16",
    torch.uint8: "*u8",
    torch.int32: "*i32",
}


class RecordedKernel:
    """Replaces a kernel and records its arguments."""

    def __init__(self, kernel: Any) -> None:
        self.kernel = kernel
        self.call: tuple[tuple[Any, ...], dict[str, Any]] | None = None

    def __getitem__(self, grid: tuple[int, ...]) -> Any:
        def launch(*arguments: Any, **compiled_in: Any) -> None:
            self.call = arguments, compiled_in

        return launch

    def source(self) -> tuple[ASTSource, dict[str, Any]]:
        """The call as Triton's own launcher sees it, and the options of the compilation."""
        assert self.call is not None, "the kernel was not called"
        arguments, compiled_in = self.call
        options = {name: compiled_in.pop(name) for name in ("num_warps", "enable_fp_fusion")}
        names = self.kernel.arg_names
        signature, constants, aligned = dict[str, str](), dict[str, Any](), dict[tuple[int], Any]()
        values = dict(zip(names, arguments, strict=False)) | compiled_in
        for position, name in enumerate(names):
            value = values[name]
            runtime = name in kernels.RUNTIME
            if isinstance(value, Tensor):
                signature[name] = POINTERS[value.dtype]
                multiple = value.data_ptr() % 16 == 0
            elif name in compiled_in or value is None or (isinstance(value, int) and value == 1 and not runtime):
                signature[name], constants[name], multiple = "constexpr", value, False
            else:
                signature[name] = "i32" if isinstance(value, int) else "fp32"
                multiple = isinstance(value, int) and value % 16 == 0 and not runtime
            if multiple:
                aligned[(position,)] = [["tt.divisibility", 16]]
        assert len(names) == len(arguments) + len(compiled_in)
        return ASTSource(self.kernel, signature, constants, aligned), options


def compile_kernel(
    monkeypatch: pytest.MonkeyPatch, name: str, capability: int, **case: Any
) -> tuple[str, dict[str, int]]:
    """Return the PTX of a kernel and its registers and memory on a device of this compute capability."""
    recorded = RecordedKernel(getattr(kernels, name))
    with monkeypatch.context() as patch:
        patch.setattr(kernels, name, recorded)
        patch.setattr(triton, "_interpreted", lambda: True)  # accepts arrays on the CPU
        call(backward=name != "lif_forward", **case)
    source, options = recorded.source()
    binary = triton_language.compile(source, target=GPUTarget("cuda", capability, 32), options=options)
    return binary.asm["ptx"], resources(binary.asm["cubin"])


def call(
    *,
    backward: bool,
    T: int = 4,
    N: int = N,
    dtype: torch.dtype = torch.bfloat16,
    save: Save = "d16",
    surrogate: str = "sigmoid",
    soft_reset: bool = False,
    detach_reset: bool = True,
    detach_membrane: bool = False,
    learned: bool = False,
    lengths: bool = False,
    affine: bool = False,
    residual: bool = False,
    infer: bool = False,
    spikes: bool = True,
    packed: bool = False,
) -> None:
    """Call the launcher on uninitialized arrays: only their types, shapes and addresses matter."""
    c = LIFConstants(0.5, 0.5, 1.0)
    options = NeuronCall(soft_reset, detach_reset, detach_membrane, surrogate, 4.0, save)
    x, v = torch.empty(T, N, dtype=dtype), torch.empty(N)
    saved_dtype = {"d32": torch.float32, "d16": torch.float16, "u8": torch.uint8, "x": dtype}[save]
    saved = None if infer or (save == "x" and not backward) else torch.empty(T, N, dtype=saved_dtype)
    more: dict[str, Any] = {
        "lengths": torch.empty(3, dtype=torch.int32) if lengths else None,
        "affine": (torch.empty(64), torch.empty(64), 1024) if affine else None,
        "residual": torch.empty_like(x) if residual else None,
    }
    if backward:
        assert saved is not None
        constants = torch.zeros(3, dtype=torch.float64) if learned else None
        triton.backward(x, v, saved, v, c, options, torch.empty_like(x), torch.empty(N), constants, **more)
    else:
        words = torch.empty(T, -(-N // 32), dtype=torch.int32) if packed else None
        triton.forward(
            x, v, c, options, torch.empty_like(x) if spikes else None, saved, torch.empty(N), packed=words, **more
        )


def resources(cubin: bytes) -> dict[str, int]:
    """Return registers per thread and bytes of its stack, from the binary."""
    with tempfile.NamedTemporaryFile(suffix=".cubin") as file:
        file.write(cubin)
        file.flush()
        dump = subprocess.run(
            [CUOBJDUMP, "--dump-resource-usage", file.name], capture_output=True, check=True, text=True
        )
    usage = {name: int(value) for name, value in re.findall(r"(REG|STACK|SHARED|LOCAL):(\d+)", dump.stdout)}
    assert usage.keys() == {"REG", "STACK", "SHARED", "LOCAL"}, dump.stdout
    return usage


def widths(ptx: str, access: str) -> set[int]:
    """Return the bits of a thread's global accesses ("ld" or "st"), without scalars."""
    return {int(count or 1) * int(bits) for count, bits in re.findall(rf"{access}\.global(?:\.v(\d))?\.b(\d+)", ptx)}


BF16, FP32 = torch.bfloat16, torch.float32
WIDE_ACCESS = [
    ("lif_forward", {"save": "d16"}),
    ("lif_forward", {"save": "d32", "dtype": FP32}),
    ("lif_forward", {"infer": True, "T": 40}),
    ("lif_backward", {"save": "d16"}),
    ("lif_backward", {"save": "d32", "dtype": FP32, "T": 40}),
    ("lif_backward", {"save": "d16", "detach_membrane": True}),
    ("lif_backward_from_x", {"save": "x", "T": 8}),
]
"""Kernels whose arrays [T, N] have one width."""
EVERYTHING = {"soft_reset": True, "lengths": True, "affine": True, "residual": True}
NARROW_ACCESS = [
    ("lif_forward", {"save": "u8", "packed": True, **EVERYTHING}),
    ("lif_forward", {"save": "d32", "T": 40, "spikes": False, "packed": True}),
    ("lif_backward", {"save": "u8", "surrogate": "atan", "T": 16}),
    ("lif_backward", {"save": "d32", "learned": True, "detach_reset": False, "lengths": True, "T": 40}),
    ("lif_backward_from_x", {"save": "x", "T": 40, "detach_reset": False, **EVERYTHING}),
    ("lif_backward_from_x", {"save": "x", "T": 16, "dtype": FP32, "learned": True, **EVERYTHING}),
]
"""Kernels that also touch bytes, words or the lengths and channels of single neurons."""


def describe(value: Any) -> str:
    return value if isinstance(value, str) else ",".join(f"{name}={value[name]}" for name in value)


@pytest.mark.parametrize("capability", [80, 90])
@pytest.mark.parametrize(("kernel", "case"), WIDE_ACCESS, ids=describe)
def test_every_memory_access_is_128_bits_wide(
    monkeypatch: pytest.MonkeyPatch, kernel: str, case: dict[str, Any], capability: int
):
    ptx, used = compile_kernel(monkeypatch, kernel, capability, **case)
    assert widths(ptx, "ld") == widths(ptx, "st") == {128}
    assert used["STACK"] == used["LOCAL"] == 0
    assert used["REG"] <= 128


@pytest.mark.parametrize("capability", [80, 90])
@pytest.mark.parametrize(("kernel", "case"), NARROW_ACCESS, ids=describe)
def test_all_options_fit_into_the_registers(
    monkeypatch: pytest.MonkeyPatch, kernel: str, case: dict[str, Any], capability: int
):
    ptx, used = compile_kernel(monkeypatch, kernel, capability, **case)
    assert 128 in widths(ptx, "ld") | widths(ptx, "st")
    assert used["STACK"] == used["LOCAL"] == 0
    assert used["REG"] <= 128


def test_products_and_sums_are_not_contracted(monkeypatch: pytest.MonkeyPatch):
    # Fused multiply-adds would give other results, and other spikes, than the CPU.
    for kernel in ("lif_forward", "lif_backward_from_x"):
        ptx, _ = compile_kernel(monkeypatch, kernel, 90, save="x", surrogate="triangle")
        assert "mul.rn.f32" in ptx
        assert "fma" not in ptx


def test_kernels_are_shared_by_all_sizes_and_long_sequences(monkeypatch: pytest.MonkeyPatch):
    def key(**case: Any) -> str:
        recorded = RecordedKernel(kernels.lif_forward)
        with monkeypatch.context() as patch:
            patch.setattr(kernels, "lif_forward", recorded)
            patch.setattr(triton, "_interpreted", lambda: True)
            call(backward=False, **case)
        source, options = recorded.source()
        return f"{source.hash()} {options}"

    base = key(T=17, N=4096, lengths=True, affine=True)
    for T, N in ((18, 4096), (33, 8192), (64, 65536), (400, 4160)):
        assert key(T=T, N=N, lengths=True, affine=True) == base
    # Rows of odd numbers of neurons are not aligned to 128 bits; they share one kernel too.
    odd = key(T=17, N=4099, lengths=True, affine=True)
    assert key(T=64, N=5001, lengths=True, affine=True) == odd != base


@pytest.mark.slow
@pytest.mark.parametrize("capability", [80, 90])
def test_every_combination_compiles_within_its_registers(monkeypatch: pytest.MonkeyPatch, capability: int):
    wrong = dict[str, str]()
    for case in triton_cases.covering_cases():
        options = {
            "T": case.T,
            "N": 2**18 if case.neurons > 1 else 15,
            "dtype": getattr(torch, case.dtype),
            "packed": case.outputs in ("bits", "both"),
            **{
                name: getattr(case, name)
                for name in ("save", "surrogate", "soft_reset", "detach_reset", "lengths", "affine", "residual")
            },
        }
        back = {"detach_membrane": case.detach_membrane, "learned": case.learned}
        backward = "lif_backward_from_x" if case.save == "x" else "lif_backward"
        for kernel, more in (("lif_forward", {}), (backward, back)):
            _, used = compile_kernel(monkeypatch, kernel, capability, **options, **more)
            # A pointer or two may spill to the stack if one more block runs at once. Odd numbers of neurons with every
            # option need nearly 168 registers, with which 3 blocks of 4 warps still run.
            if used["STACK"] > 16 or used["REG"] > 168:
                wrong[f"{kernel} {case}"] = f"{used}"
    assert not wrong
