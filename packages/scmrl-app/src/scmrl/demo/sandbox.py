"""Decode uploaded files in a separate process with resource limits, which is used once and always killed.

A file that crashes or blocks a decoder does not affect the server. This is no defense against a file that exploits a
decoder: the process has the permissions of the user.
"""

from __future__ import annotations

import json
import multiprocessing
import os
import signal
import tempfile
import threading
from contextlib import suppress
from dataclasses import dataclass
from importlib.util import find_spec
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from pathlib import Path

from safetensors import SafetensorError
from safetensors.torch import load
from torch import Tensor

from scmrl.console.printable import printable
from scmrl.demo.errors import RefusedError
from scmrl.run_folder.inputs import Inputs

SUPPORTED = find_spec("resource") is not None
"""Whether the system can limit and kill processes."""
START_SECONDS = 120.0
"""For the first process to import its modules, which does not count as decoding time."""
MAX_RESULT = 2**30
"""Size limit of a process's result in bytes."""


@dataclass(frozen=True)
class DecodedFile:
    """The result of decoding a file."""

    inputs: dict[str, Tensor]
    """By modality, the model's input without a batch axis."""
    faults: dict[str, str]
    """By modality, the reason why decoding failed."""


class Sandbox:
    """Decodes uploaded files, one at a time; `close` it at the end.

    Processes are forked from one that has imported everything and never read a file, so that each starts immediately
    and has no data of earlier files.

    Args:
        inputs: how the run reads files.
        seconds: time limit for a file, of the clock and of the processor.
    """

    def __init__(self, inputs: Inputs, *, seconds: float) -> None:
        self._inputs, self._seconds = inputs, seconds
        self._folder = tempfile.TemporaryDirectory(prefix="scmrl-demo-")  # private: mode 0700
        self._lock = threading.Lock()
        self._open = True
        self._process: BaseProcess | None = None
        self._processes = multiprocessing.get_context("forkserver")
        self._processes.set_forkserver_preload(["__main__", "scmrl.demo.decoder"])
        _start_forkserver()

    @property
    def folder(self) -> Path:
        """Folder of the uploads while they are decoded."""
        return Path(self._folder.name)

    def decode(self, path: Path, name: str, modalities: tuple[str, ...]) -> DecodedFile:
        """Decode a file for some modalities.

        Args:
            path: the file, in `folder`.
            name: the user's name of the file; seeds random stages, as in `scmrl predict`.
            modalities: to decode it for.

        Raises:
            RefusedError: it took too long, needed too much memory or crashed the decoder.
        """
        from scmrl.demo.decoder import decode_file
        from scmrl.demo.limits import MEMORY

        with self._lock:
            if not self._open:
                raise _stopped()
            receiver, sender = self._processes.Pipe(duplex=False)
            files = dict.fromkeys(modalities, str(path))
            args = (sender, self._inputs, files, printable(Path(name).stem), self._seconds)
            process = self._process = self._processes.Process(target=decode_file, args=args, daemon=True)
            try:
                _start(process)
                sender.close()  # so that the end of the process closes the pipe
                if not self._open:  # `close` ran before the process started
                    raise _stopped()
                message = self._receive(receiver, name)
            finally:
                if process.pid is not None:
                    _kill(process)
                    process.join()
                receiver.close()
                self._process = None
        if process.exitcode == -signal.SIGXCPU:
            raise self._too_long(name)
        decoded = self._parse(message, modalities)
        if decoded is None:
            raise RefusedError(
                f"{printable(name)} crashed the decoder: it is damaged, or needs more than {MEMORY >> 30} GB "
                "of memory; convert or replace it"
            )
        return DecodedFile(
            decoded.inputs, {modality: _public_fault(name, path, fault) for modality, fault in decoded.faults.items()}
        )

    def close(self) -> None:
        """Kill the running process and delete the folder."""
        self._open = False
        if (process := self._process) is not None:
            _kill(process)
        with self._lock:
            self._folder.cleanup()

    def _receive(self, receiver: Connection[bytes, bytes], name: str) -> bytes:
        """Return the message of the process; empty if it crashed."""
        try:
            if not receiver.poll(START_SECONDS):
                raise RefusedError(f"the decoder did not start within {START_SECONDS:g} s; try again", 503)
            receiver.recv_bytes(0)
            if not receiver.poll(self._seconds):
                raise self._too_long(name)
            return receiver.recv_bytes(MAX_RESULT)
        except (EOFError, OSError):
            return b""

    def _too_long(self, name: str) -> RefusedError:
        return RefusedError(
            f"reading {printable(name)} took more than {self._seconds:g} s; cut it, or start the demo with a "
            "larger --decode-seconds"
        )

    def _parse(self, message: bytes, modalities: tuple[str, ...]) -> DecodedFile | None:
        """Validate the message of a process that decoded a hostile file; None if it is invalid."""
        head, _, body = message.partition(b"\n")
        try:
            faults: dict[str, str] = {str(k): str(v) for k, v in json.loads(head)["faults"].items()}
            inputs = load(body)
        except (ValueError, LookupError, TypeError, AttributeError, SafetensorError):
            return None
        if {*inputs, *faults} != set(modalities):
            return None
        for name, value in inputs.items():
            info = self._inputs.modalities[name].info
            expected = info.input_shape
            if value.shape != expected or not bool(value.isfinite().all()):
                return None
        return DecodedFile(inputs, faults)


def _start_forkserver() -> None:
    """Start the process that the others are forked from, so that it imports while the user picks a file."""
    from multiprocessing import forkserver, resource_tracker

    # Control-C reaches every process of the terminal; this one would print a traceback while it imports.
    resource_tracker.ensure_running()  # before SIGINT is blocked: it changes the signal mask
    mask = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        forkserver.ensure_running()
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)


def _start(process: BaseProcess) -> None:
    """Start a process.

    Raises:
        RefusedError: the system cannot start it.
    """
    try:
        process.start()
    except (OSError, EOFError) as error:
        raise RefusedError("the decoder could not be started; try again", 503) from error


def _stopped() -> RefusedError:
    return RefusedError("the demo is being stopped", 503)


def _public_fault(name: str, path: Path, fault: str) -> str:
    """Replace the private path by the user's name of the file."""
    name = printable(name)
    fault = printable(fault.replace(str(path), name))
    return fault if name in fault else f"{name}: {fault}"


def _kill(process: BaseProcess) -> None:
    """Kill a process and its children."""
    if process.pid is None:
        return
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    with suppress(ProcessLookupError):
        os.kill(process.pid, signal.SIGKILL)  # it may not have its own group yet
