"""How a command ends that does not end well: one line of what happened and what to do, never a traceback.

What a user gave, or a machine lacks, is told as it is. Anything else is a fault of this program: it is named, and its
traceback is written to a file that a report can go with. Imports no PyTorch.
"""

from __future__ import annotations

import os
import select
import sys
import tempfile
import traceback
from io import TextIOWrapper
from pathlib import Path

FORESEEN = (ValueError, OSError, ImportError, FloatingPointError)
"""Errors whose text is meant for the user."""
NO_MEMORY = ("DefaultCPUAllocator", "out of memory", "can't allocate memory", "CUBLAS_STATUS_ALLOC_FAILED")
"""What errors of PyTorch say that are no MemoryError and mean one."""
MISTAKE, BUG, INTERRUPTED, BROKEN_PIPE = 2, 1, 130, 141
"""Exit codes."""


def end(error: BaseException) -> int:
    """Say on standard error why a command ended, and give its exit code."""
    if isinstance(error, KeyboardInterrupt):
        print("\nscmrl: " + "; ".join(filter(None, ("interrupted", str(error)))), file=sys.stderr)
        return INTERRUPTED
    if isinstance(error, BrokenPipeError) and _stdout_is_gone():
        return BROKEN_PIPE
    if is_out_of_memory(error):
        _say(memory_message(error))
        return MISTAKE
    # The text of a UnicodeError names neither file nor cause.
    if isinstance(error, FORESEEN) and not isinstance(error, UnicodeError) and str(error).strip():
        _say(str(error))
        if error.__cause__ is not None and is_out_of_memory(error.__cause__):
            _say("memory ran out there, so the file may be sound: free some memory and try again")
        return MISTAKE
    named = " ".join(f"{type(error).__name__}: {error}".split()).removesuffix(":")
    _say(f"this is a fault of scmrl: {named}\n{_where_to_report(error)}")
    return BUG


def is_out_of_memory(error: BaseException) -> bool:
    """Whether memory ran out, on the CPU or a GPU."""
    # torch.OutOfMemoryError is a RuntimeError; to import torch for its name would take seconds.
    return isinstance(error, MemoryError) or (
        isinstance(error, RuntimeError) and any(sign in str(error) for sign in NO_MEMORY)
    )


def memory_message(error: BaseException) -> str:
    """What ran out, and what to do."""
    reason = str(error).strip().partition("\n")[0]
    if reason.startswith("out of memory"):  # whoever raised it knows more
        return str(error)
    advice = (
        "use smaller --train.batch_size, --model.channels or --model.time_steps, close other programs, or take a "
        "machine with more memory"
    )
    return f"out of memory{f' ({reason})' if reason else ''}: {advice}"


def escape_what_the_terminal_lacks() -> None:
    """Have characters that standard output or error cannot encode shown as escapes, where they would be errors."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


def _stdout_is_gone() -> bool:
    """Whether whoever read standard output has ended, as `head` does; nothing more is written to it then."""
    try:
        number = sys.stdout.fileno()
        poll = select.poll()
        poll.register(number, 0)
        if not any(event & select.POLLERR for _, event in poll.poll(0)):
            return False
    except (AttributeError, OSError, ValueError):  # no poll on Windows, or no file
        return False
    # Python flushes standard output once more at its end.
    os.dup2(os.open(os.devnull, os.O_WRONLY), number)
    return True


def _where_to_report(error: BaseException) -> str:
    text = "".join(traceback.format_exception(error))
    hint = "SCMRL_DEBUG=1 in the environment shows it here"
    try:
        number, name = tempfile.mkstemp(prefix="scmrl-error-", suffix=".txt")
        with open(number, "w", encoding="utf-8", errors="backslashreplace") as file:
            file.write(f"command: {' '.join(['scmrl', *sys.argv[1:]])}\nfolder: {Path.cwd()}\n\n{text}")
    except OSError:
        return hint.replace("it", "the traceback")
    return f"please report it with its traceback, which is in {name} ({hint})"


def _say(message: str) -> None:
    for line in message.splitlines():
        print(f"scmrl: {line}", file=sys.stderr)
