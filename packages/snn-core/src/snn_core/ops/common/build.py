"""Compile the C files of this package at first use into the user's cache: a second or two, once per machine.

A build is a shared library with a plain C interface, loaded by ctypes, so it does not depend on the version of PyTorch
or Python. Without a compiler, with a read-only cache, or when a build fails, `load` returns the reason, callers use
PyTorch's operations, and one log line says so. `SNN_CORE_NATIVE=0` disables the C code.

Loading a library executes code. So a build is loaded only if it and its folder belong to this user or root, and nobody
else can write to them.
"""

from __future__ import annotations

import ctypes
import hashlib
import logging
import os
import platform
import re
import shutil
import stat
import subprocess
import sys
import tempfile
from functools import cache
from pathlib import Path

_log = logging.getLogger("snn_core")

_FLAGS = ["-O3", "-fPIC", "-shared", "-ffp-contract=off", "-fno-math-errno", "-fno-trapping-math", "-fopenmp-simd"]
"""No fused multiply-add, so that results equal PyTorch's. openmp-simd vectorizes without linking a runtime."""


def cache_folder() -> Path:
    """Return the folder of builds: `SNN_CORE_CACHE`, else the user's cache folder."""
    folder = os.environ.get("SNN_CORE_CACHE")
    if folder:
        return Path(folder)
    base = os.environ.get("XDG_CACHE_HOME")
    return (Path(base) if base else Path.home() / ".cache") / "snn-core"


@cache
def load(source: Path) -> ctypes.CDLL | str:
    """Return the library built from one C file, or why there is none and what to do."""
    if os.environ.get("SNN_CORE_NATIVE") == "0":
        return "it is disabled; unset SNN_CORE_NATIVE"
    try:
        return ctypes.CDLL(str(_built(source)))
    except (OSError, RuntimeError, subprocess.SubprocessError) as error:
        reason = str(error).strip()
        _warn_once(reason)
        return reason


@cache
def _warn_once(reason: str) -> None:
    """Log one line for all C files."""
    _log.warning("snn-core's native CPU code is not used, PyTorch's operations are: %s", reason)


def _built(source: Path) -> Path:
    """Return the compiled library of a C file, from the cache if possible."""
    compiler = os.environ.get("CC") or next((name for name in ("cc", "gcc", "clang") if shutil.which(name)), None)
    code = _with_headers(source)
    processor = _processor()
    key = hashlib.sha256(code + "\0".join([*_FLAGS, processor, sys.platform]).encode()).hexdigest()[:16]
    folder = cache_folder()
    target = folder / f"{source.stem}-{key}.so"
    if target.exists():
        _check_owner_and_mode(folder)
        _check_owner_and_mode(target)
        return target
    if compiler is None:
        raise RuntimeError("no C compiler is on PATH; install gcc or clang, or set CC")
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        _check_owner_and_mode(folder)
        with tempfile.TemporaryDirectory(dir=folder) as scratch:
            library = Path(scratch) / target.name
            _compile(compiler, source, library)
            library.chmod(0o755)
            # Renamed when complete, so that other processes never see a partial file.
            library.replace(target)
    except OSError as error:
        raise RuntimeError(f"cannot write to {folder}: {error}; set SNN_CORE_CACHE to a writable folder") from error
    return target


def _check_owner_and_mode(path: Path) -> None:
    """Reject a file or folder through which another user could run code in this process.

    Raises:
        RuntimeError: it belongs neither to this user nor to root, or its group or others can write to it.
    """
    if not hasattr(os, "getuid"):  # no owners and modes on this system
        return
    status = path.stat()
    if status.st_uid not in (0, os.getuid()):
        reason = "belongs to another user"
    elif status.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
        reason = f"is writable by others (mode {stat.S_IMODE(status.st_mode):o})"
    else:
        return
    raise RuntimeError(
        f"{path} {reason}, and loading a library executes its code; `chmod go-w` it if you trust it, or set "
        "SNN_CORE_CACHE to a private folder"
    )


def _with_headers(source: Path) -> bytes:
    """Return the text of a C file and of the local headers that it includes."""
    code = source.read_bytes()
    for name in re.findall(rb'^#include "(.+)"', code, re.MULTILINE):
        code += _with_headers(source.parent / name.decode())
    return code


def _compile(compiler: str, source: Path, target: Path) -> None:
    """Compile for this processor, or generically if the compiler does not recognize it."""
    message = ""
    for tuning in (["-march=native"], ["-mcpu=native"], []):
        command = [compiler, *_FLAGS, *tuning, str(source), "-o", str(target)]
        result = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
        if result.returncode == 0:
            return
        message = result.stderr.strip()
    raise RuntimeError(
        f"{compiler} could not build {source.name}: {message.splitlines()[0] if message else 'no output'}"
    )


def _processor() -> str:
    """Return the properties of the processor that a build depends on."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return f"{platform.machine()} {platform.processor()}"
    return next((line for line in lines if line.startswith(("flags", "Features"))), platform.machine())
