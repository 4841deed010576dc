"""Building the C code, and the fallback where it cannot be built."""

import ctypes
import os
import subprocess
import sys
from pathlib import Path

import pytest

from snn_core.ops.common import build

PRINT_IMPLEMENTATION = """
import logging, torch
logging.basicConfig(format="%(message)s")
from snn_core import lif
from snn_core.ops.lif import which_implementation
x = torch.full((2, 3), 1.5)
print(which_implementation(x).implementation, lif(x)[0].sum().item(), lif(x)[0].sum().item())
"""

REQUEST_NATIVE = """
import torch, snn_core
try:
    snn_core.LIF(implementation="native")(torch.ones(2, 3))
except ValueError as error:
    print(error)
"""


def run(tmp_path: Path, code: str = PRINT_IMPLEMENTATION, **environment: str) -> subprocess.CompletedProcess[str]:
    variables = {"SNN_CORE_CACHE": str(tmp_path), "HOME": str(tmp_path), "PATH": os.environ["PATH"], **environment}
    return subprocess.run([sys.executable, "-c", code], env=variables, capture_output=True, text=True, check=True)


@pytest.mark.needs("compiler")
def test_the_first_use_builds_and_the_next_reuses_the_build(tmp_path: Path):
    first = run(tmp_path)
    assert first.stdout.split() == ["native", "3.0", "3.0"]
    assert not first.stderr
    (built,) = tmp_path.iterdir()
    before = built.stat().st_mtime_ns
    assert run(tmp_path, PATH="").stdout.split()[0] == "native"  # needs no compiler
    assert built.stat().st_mtime_ns == before


@pytest.mark.needs("compiler")
@pytest.mark.parametrize(
    ("environment", "message"),
    [
        ({"PATH": ""}, "no C compiler is on PATH; install gcc or clang, or set CC"),
        ({"CC": "false"}, "false could not build native.c: no output"),
        ({"CC": "no-such-compiler"}, "no-such-compiler"),
        ({"SNN_CORE_CACHE": "/proc/nowhere"}, "set SNN_CORE_CACHE to a writable folder"),
    ],
)
def test_torch_is_used_with_one_log_line_where_the_build_fails(
    tmp_path: Path, environment: dict[str, str], message: str
):
    result = run(tmp_path, **environment)
    assert result.stdout.split() == ["torch", "3.0", "3.0"]
    (line,) = result.stderr.splitlines()
    assert line.startswith("snn-core's native CPU code is not used, PyTorch's operations are: ")
    assert message in line


CODE = "int number(void) { return 7; }\n"


def cache_with_a_build(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return the folder of a cache with one build."""
    monkeypatch.setenv("SNN_CORE_CACHE", str(tmp_path / "cache"))
    (tmp_path / "code.c").write_text(CODE)
    assert number_of(reload(tmp_path)) == 7
    return tmp_path / "cache"


def reload(tmp_path: Path) -> ctypes.CDLL | str:
    build.load.cache_clear()
    return build.load(tmp_path / "code.c")


def number_of(loaded: ctypes.CDLL | str) -> int:
    """Return the number of a library that was loaded."""
    assert isinstance(loaded, ctypes.CDLL), loaded
    return loaded.number()


def reason(loaded: ctypes.CDLL | str) -> str:
    """Return why a library was not loaded."""
    assert isinstance(loaded, str)
    return loaded


@pytest.mark.needs("compiler")
@pytest.mark.parametrize("mode", [0o775, 0o757, 0o777])
@pytest.mark.parametrize("kind", ["file", "folder"])
def test_a_build_writable_by_others_is_not_loaded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str, mode: int
):
    folder = cache_with_a_build(tmp_path, monkeypatch)
    (file,) = folder.iterdir()
    path = {"file": file, "folder": folder}[kind]
    path.chmod(mode)
    reason = reload(tmp_path)
    assert isinstance(reason, str)
    assert reason.startswith(f"{path} is writable by others (mode {mode:o}), and loading a library executes its code")
    path.chmod(0o755)
    assert number_of(reload(tmp_path)) == 7


@pytest.mark.needs("compiler")
def test_a_library_in_a_world_writable_folder_is_not_loaded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """In a folder such as /tmp any user could place the file."""
    folder = cache_with_a_build(tmp_path, monkeypatch)
    folder.chmod(0o1777)
    assert "SNN_CORE_CACHE to a private folder" in reason(reload(tmp_path))
    for file in folder.iterdir():
        file.unlink()
    assert "SNN_CORE_CACHE to a private folder" in reason(reload(tmp_path))
    assert not list(folder.iterdir())


@pytest.mark.needs("compiler")
@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() != 0, reason="only root can give files away")
@pytest.mark.parametrize("kind", ["file", "folder"])
def test_a_build_of_another_user_is_not_loaded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str):
    folder = cache_with_a_build(tmp_path, monkeypatch)
    (file,) = folder.iterdir()
    path = {"file": file, "folder": folder}[kind]
    os.chown(path, 65534, -1)
    assert reload(tmp_path).startswith(f"{path} belongs to another user")


@pytest.mark.needs("compiler")
def test_builds_are_private_under_any_umask(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    before = os.umask(0)
    try:
        folder = cache_with_a_build(tmp_path, monkeypatch)
    finally:
        os.umask(before)
    (file,) = folder.iterdir()
    assert folder.stat().st_mode & 0o022 == 0
    assert file.stat().st_mode & 0o022 == 0
    assert number_of(reload(tmp_path)) == 7


def test_a_missing_compiler_is_logged_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
):
    monkeypatch.setenv("SNN_CORE_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("PATH", "")
    monkeypatch.delenv("CC", raising=False)
    build._warn_once.cache_clear()
    for name in ("a.c", "b.c"):
        (tmp_path / name).write_text(CODE)
        assert "no C compiler is on PATH" in reason(build.load(tmp_path / name))
    assert len(caplog.records) == 1


def test_native_code_can_be_disabled(tmp_path: Path):
    result = run(tmp_path, SNN_CORE_NATIVE="0")
    assert result.stdout.split()[0] == "torch"
    assert not result.stderr
    assert not list(tmp_path.iterdir())


def test_requesting_native_without_a_compiler_says_what_to_do(tmp_path: Path):
    result = run(tmp_path, REQUEST_NATIVE, PATH="")
    assert "implementation='native' cannot run here: no C compiler is on PATH; install gcc or clang" in result.stdout


@pytest.mark.needs("compiler")
def test_a_build_depends_on_the_headers_that_it_includes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("SNN_CORE_CACHE", str(tmp_path / "cache"))
    source, header = tmp_path / "code.c", tmp_path / "number.h"
    source.write_text('#include "number.h"\nint number(void) { return NUMBER; }\n')
    for number in (3, 4):
        header.write_text(f"#define NUMBER {number}\n")
        build.load.cache_clear()
        assert number_of(build.load(source)) == number
    assert len(list((tmp_path / "cache").iterdir())) == 2
