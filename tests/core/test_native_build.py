"""Building the C code: what happens where it cannot be built."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from snn_core.ops import native_build

LOUD = """
import logging, torch
logging.basicConfig(format="%(message)s")
from snn_core import lif
from snn_core.ops.lif import which_implementation
x = torch.full((2, 3), 1.5)
print(which_implementation(x).implementation, lif(x)[0].sum().item(), lif(x)[0].sum().item())
"""

ASKED_FOR = """
import torch, snn_core
try:
    snn_core.LIF(implementation="native")(torch.ones(2, 3))
except ValueError as error:
    print(error)
"""


def run(tmp_path: Path, code: str = LOUD, **environment: str) -> subprocess.CompletedProcess[str]:
    given = {"SNN_CORE_CACHE": str(tmp_path), "HOME": str(tmp_path), "PATH": os.environ["PATH"], **environment}
    return subprocess.run([sys.executable, "-c", code], env=given, capture_output=True, text=True, check=True)


def test_the_first_use_builds_and_the_next_finds_the_build(tmp_path):
    first = run(tmp_path)
    assert first.stdout.split() == ["native", "3.0", "3.0"]
    assert not first.stderr
    (built,) = tmp_path.iterdir()
    before = built.stat().st_mtime_ns
    assert run(tmp_path, PATH="").stdout.split()[0] == "native"  # no compiler is needed any more
    assert built.stat().st_mtime_ns == before


@pytest.mark.parametrize(
    ("environment", "message"),
    [
        ({"PATH": ""}, "no C compiler is on PATH; install gcc or clang, or set CC"),
        ({"CC": "false"}, "false could not build native.c: no output"),
        ({"CC": "no-such-compiler"}, "no-such-compiler"),
        ({"SNN_CORE_CACHE": "/proc/nowhere"}, "set SNN_CORE_CACHE to a folder that can"),
    ],
)
def test_where_it_cannot_be_built_torch_takes_over_with_one_log_line(tmp_path, environment, message):
    result = run(tmp_path, **environment)
    assert result.stdout.split() == ["torch", "3.0", "3.0"]
    (line,) = result.stderr.splitlines()
    assert line.startswith("snn-core's native CPU code is not used, PyTorch's operations are: ")
    assert message in line


def test_it_can_be_switched_off(tmp_path):
    result = run(tmp_path, SNN_CORE_NATIVE="0")
    assert result.stdout.split()[0] == "torch"
    assert not result.stderr
    assert not list(tmp_path.iterdir())


def test_asking_for_it_where_it_cannot_be_built_says_what_to_do(tmp_path):
    result = run(tmp_path, ASKED_FOR, PATH="")
    assert "implementation='native' cannot run here: no C compiler is on PATH; install gcc or clang" in result.stdout


def test_a_build_depends_on_the_headers_that_it_includes(tmp_path, monkeypatch):
    monkeypatch.setenv("SNN_CORE_CACHE", str(tmp_path / "cache"))
    source, header = tmp_path / "code.c", tmp_path / "number.h"
    source.write_text('#include "number.h"\nint number(void) { return NUMBER; }\n')
    for number in (3, 4):
        header.write_text(f"#define NUMBER {number}\n")
        native_build.load.cache_clear()
        assert native_build.load(source).number() == number
    assert len(list((tmp_path / "cache").iterdir())) == 2
