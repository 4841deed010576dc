"""How a failed command ends: one line about what happened and what to do, never a traceback.

Errors of the user or the machine are printed as they are. Anything else is a bug: it is named, and its traceback is
written to a file for the bug report. Imports no PyTorch.
"""

from __future__ import annotations

import os
import select
import sys
import tempfile
import traceback
from io import TextIOWrapper
from pathlib import Path

USER_ERRORS = (ValueError, OSError, ImportError, FloatingPointError)
"""Errors whose message is meant for the user."""
OUT_OF_MEMORY_TEXTS = ("DefaultCPUAllocator", "out of memory", "can't allocate memory", "CUBLAS_STATUS_ALLOC_FAILED")
"""Texts in PyTorch's RuntimeErrors that mean out of memory."""
USER_ERROR, BUG, INTERRUPTED, BROKEN_PIPE = 2, 1, 130, 141
"""Exit codes."""


def report_error(error: BaseException) -> int:
    """Print why a command ended to standard error, and return its exit code."""
    if isinstance(error, KeyboardInterrupt):
        print("\nscmrl: " + "; ".join(filter(None, ("interrupted", str(error)))), file=sys.stderr)
        return INTERRUPTED
    if isinstance(error, BrokenPipeError) and _is_stdout_closed():
        return BROKEN_PIPE
    if is_out_of_memory(error):
        _print_error(memory_message(error))
        return USER_ERROR
    # The message of a UnicodeError names neither file nor cause.
    if isinstance(error, USER_ERRORS) and not isinstance(error, UnicodeError) and str(error).strip():
        _print_error(str(error))
        if error.__cause__ is not None and is_out_of_memory(error.__cause__):
            _print_error("memory ran out there, so the file may be intact: free some memory and try again")
        return USER_ERROR
    name = " ".join(f"{type(error).__name__}: {error}".split()).removesuffix(":")
    _print_error(f"this is a bug in scmrl: {name}\n{_save_traceback(error)}")
    return BUG


def is_out_of_memory(error: BaseException) -> bool:
    """Whether memory ran out, on the CPU or a GPU."""
    # torch.OutOfMemoryError is a RuntimeError; importing torch to check the type would take seconds.
    return isinstance(error, MemoryError) or (
        isinstance(error, RuntimeError) and any(text in str(error) for text in OUT_OF_MEMORY_TEXTS)
    )


def memory_message(error: BaseException) -> str:
    """Say that memory ran out, and what to do."""
    reason = str(error).strip().partition("\n")[0]
    if reason.startswith("out of memory"):  # raised by us, with better advice
        return str(error)
    advice = (
        "reduce --train.batch_size, --model.channels or --model.time_steps, close other programs, or use a machine "
        "with more memory"
    )
    return f"out of memory{f' ({reason})' if reason else ''}: {advice}"


def escape_unencodable() -> None:
    """Print characters that standard output or error cannot encode as escapes instead of failing."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


def _is_stdout_closed() -> bool:
    """Whether the reader of standard output has exited, as `head` does; if so, redirect it to the null device."""
    try:
        number = sys.stdout.fileno()
        poll = select.poll()
        poll.register(number, 0)
        if not any(event & select.POLLERR for _, event in poll.poll(0)):
            return False
    except (AttributeError, OSError, ValueError):  # no poll on Windows, or not a file
        return False
    # Python flushes standard output once more on exit.
    os.dup2(os.open(os.devnull, os.O_WRONLY), number)
    return True


def _save_traceback(error: BaseException) -> str:
    """Write the traceback to a temporary file and return what to do with it."""
    text = "".join(traceback.format_exception(error))
    hint = "SCMRL_DEBUG=1 in the environment prints it here"
    try:
        number, name = tempfile.mkstemp(prefix="scmrl-error-", suffix=".txt")
        with open(number, "w", encoding="utf-8", errors="backslashreplace") as file:
            file.write(f"command: {' '.join(['scmrl', *sys.argv[1:]])}\nfolder: {Path.cwd()}\n\n{text}")
    except OSError:
        return hint.replace("it", "the traceback")
    return f"please report it with its traceback, which is in {name} ({hint})"


def _print_error(message: str) -> None:
    for line in message.splitlines():
        print(f"scmrl: {line}", file=sys.stderr)
