"""Compiling the C files of this package at first use: a second or two, once a machine, into the user's cache.

A build is a shared library with a plain C interface, loaded by ctypes, so that it depends on no version of PyTorch or
Python. Without a compiler, with a cache that cannot be written, or when a build fails, `load` gives the reason and the
callers take PyTorch's own operations; one log line says so. `SNN_CORE_NATIVE=0` switches all this off.

Loading a library runs what is in it. So a build is loaded only if it and its folder belong to this user or root, and
nobody else may write to them.
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
"""No fused multiply-add: results are then the same as PyTorch's. openmp-simd vectorizes and links no runtime."""


def cache_folder() -> Path:
    """Where builds are kept: `SNN_CORE_CACHE`, else the user's cache folder."""
    given = os.environ.get("SNN_CORE_CACHE")
    if given:
        return Path(given)
    base = os.environ.get("XDG_CACHE_HOME")
    return (Path(base) if base else Path.home() / ".cache") / "snn-core"


@cache
def load(source: Path) -> ctypes.CDLL | str:
    """The library built from one C file, or why there is none and what would help."""
    if os.environ.get("SNN_CORE_NATIVE") == "0":
        return "it is switched off; unset SNN_CORE_NATIVE"
    try:
        return ctypes.CDLL(str(_built(source)))
    except (OSError, RuntimeError, subprocess.SubprocessError) as error:
        reason = str(error).strip()
        _warn_once(reason)
        return reason


@cache
def _warn_once(reason: str) -> None:
    """One log line, however many C files there are."""
    _log.warning("snn-core's native CPU code is not used, PyTorch's operations are: %s", reason)


def _built(source: Path) -> Path:
    """The compiled library of a C file, from the cache where it is there."""
    compiler = os.environ.get("CC") or next((name for name in ("cc", "gcc", "clang") if shutil.which(name)), None)
    code = _with_headers(source)
    processor = _processor()
    key = hashlib.sha256(code + "\0".join([*_FLAGS, processor, sys.platform]).encode()).hexdigest()[:16]
    folder = cache_folder()
    target = folder / f"{source.stem}-{key}.so"
    if target.exists():
        _refuse_what_others_may_change(folder)
        _refuse_what_others_may_change(target)
        return target
    if compiler is None:
        raise RuntimeError("no C compiler is on PATH; install gcc or clang, or set CC")
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        _refuse_what_others_may_change(folder)
        with tempfile.TemporaryDirectory(dir=folder) as beside:
            made = Path(beside) / target.name
            _compile(compiler, source, made)
            made.chmod(0o755)
            # Written beside and renamed: another process never sees half a file.
            made.replace(target)
    except OSError as error:
        raise RuntimeError(f"cannot write to {folder}: {error}; set SNN_CORE_CACHE to a folder that can") from error
    return target


def _refuse_what_others_may_change(path: Path) -> None:
    """Refuse a file or folder through which another user could have this process run their code.

    Raises:
        RuntimeError: it belongs to somebody else than this user and root, or its group or everybody may write to it.
    """
    if not hasattr(os, "getuid"):  # no such owners and modes here
        return
    about = path.stat()
    if about.st_uid not in (0, os.getuid()):
        reason = "belongs to another user"
    elif about.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
        reason = f"may be written by others (mode {stat.S_IMODE(about.st_mode):o})"
    else:
        return
    raise RuntimeError(
        f"{path} {reason}, and loading a library runs what is in it; `chmod go-w` it if you trust what it holds, or "
        "set SNN_CORE_CACHE to a folder of your own"
    )


def _with_headers(source: Path) -> bytes:
    """The text of a C file and of our own headers that it includes: a build depends on all of them."""
    code = source.read_bytes()
    for name in re.findall(rb'^#include "(.+)"', code, re.MULTILINE):
        code += _with_headers(source.parent / name.decode())
    return code


def _compile(compiler: str, source: Path, target: Path) -> None:
    """Build for this very processor, or for any of its family where the compiler cannot name it."""
    message = ""
    for tuned in (["-march=native"], ["-mcpu=native"], []):
        command = [compiler, *_FLAGS, *tuned, str(source), "-o", str(target)]
        result = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
        if result.returncode == 0:
            return
        message = result.stderr.strip()
    raise RuntimeError(
        f"{compiler} could not build {source.name}: {message.splitlines()[0] if message else 'no output'}"
    )


def _processor() -> str:
    """What a build for this processor depends on."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return f"{platform.machine()} {platform.processor()}"
    return next((line for line in lines if line.startswith(("flags", "Features"))), platform.machine())
