"""Uploaded files are read apart: in a private folder, by a process that is limited, used once and ended in any case.

A file that crashes a decoder, or keeps it busy for ever, costs the server nothing. This is no wall against a file that
takes a decoder over: the process may do what the user may.
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
from scmrl.demo.refused import RefusedError
from scmrl.run_folder.inputs import Inputs

POSSIBLE = find_spec("resource") is not None
"""Whether the system has what limits and ends processes."""
START_SECONDS = 120.0
"""For the first process to import what it needs, which is no fault of a file."""
LARGEST_ANSWER = 2**30
"""Bytes of what a process may say."""


@dataclass(frozen=True)
class Read:
    """What became of a file."""

    found: dict[str, Tensor]
    """By modality, as the model takes it, without a batch axis."""
    faults: dict[str, str]
    """By modality why it could not be read."""


class Sandbox:
    """Reads the files that are uploaded to a run's demo, one at a time; `close` it in the end.

    Processes are forked from one that has imported everything and never read anything, so that each begins at once and
    knows nothing of the files before.

    Args:
        inputs: how the run reads files.
        seconds: that reading a file may take, on the clock and on the processor alike.
    """

    def __init__(self, inputs: Inputs, *, seconds: float) -> None:
        self._inputs, self._seconds = inputs, seconds
        self._folder = tempfile.TemporaryDirectory(prefix="scmrl-demo-")  # for nobody else: mode 0700
        self._turn = threading.Lock()
        self._open = True
        self._reading: BaseProcess | None = None
        self._processes = multiprocessing.get_context("forkserver")
        self._processes.set_forkserver_preload(["__main__", "scmrl.demo.reading"])
        _begin_importing()

    @property
    def folder(self) -> Path:
        """Where uploads are put while they are read."""
        return Path(self._folder.name)

    def read(self, path: Path, name: str, modalities: tuple[str, ...]) -> Read:
        """Read a file for some modalities.

        Args:
            path: the file, within `folder`.
            name: what the person calls it; decides what stages draw, as in `scmrl predict`.
            modalities: for which it is read.

        Raises:
            RefusedError: it took too long, needed too much memory or broke the decoder.
        """
        from scmrl.demo.limits import MEMORY
        from scmrl.demo.reading import read_apart

        with self._turn:
            if not self._open:
                raise _stopped()
            here, there = self._processes.Pipe(duplex=False)
            files = dict.fromkeys(modalities, str(path))
            job = (there, self._inputs, files, printable(Path(name).stem), self._seconds)
            process = self._reading = self._processes.Process(target=read_apart, args=job, daemon=True)
            try:
                _start(process)
                there.close()  # so that its end is seen here
                if not self._open:  # `close` found nothing to end yet
                    raise _stopped()
                said = self._said(here, name)
            finally:
                if process.pid is not None:
                    _kill(process)
                    process.join()
                here.close()
                self._reading = None
        if process.exitcode == -signal.SIGXCPU:
            raise self._too_long(name)
        read = self._checked(said, modalities)
        if read is None:
            raise RefusedError(
                f"{printable(name)} broke the program that reads it: it is damaged, or needs more than "
                f"{MEMORY >> 30} GB of memory; convert or replace it"
            )
        return Read(read.found, {at: _naming(name, path, fault) for at, fault in read.faults.items()})

    def close(self) -> None:
        """End what runs, and delete what lies there."""
        self._open = False
        if (reading := self._reading) is not None:
            _kill(reading)
        with self._turn:
            self._folder.cleanup()

    def _said(self, answers: Connection[bytes, bytes], name: str) -> bytes:
        """What the process says of the file; nothing if it breaks down."""
        try:
            if not answers.poll(START_SECONDS):
                raise RefusedError(f"the program that reads files did not start in {START_SECONDS:g} s; try again", 503)
            answers.recv_bytes(0)
            if not answers.poll(self._seconds):
                raise self._too_long(name)
            return answers.recv_bytes(LARGEST_ANSWER)
        except (EOFError, OSError):
            return b""

    def _too_long(self, name: str) -> RefusedError:
        return RefusedError(
            f"reading {printable(name)} took more than {self._seconds:g} s; cut it, or start the demo with more "
            "--decode-seconds"
        )

    def _checked(self, said: bytes, modalities: tuple[str, ...]) -> Read | None:
        """What the process said, if it is what a healthy one would say."""
        head, _, body = said.partition(b"\n")
        try:
            faults: dict[str, str] = {str(k): str(v) for k, v in json.loads(head)["faults"].items()}
            found = load(body)
        except (ValueError, LookupError, TypeError, AttributeError, SafetensorError):
            return None
        if {*found, *faults} != set(modalities):
            return None
        for name, value in found.items():
            info = self._inputs.modalities[name].info
            expected = info.shape if info.time_steps is None else (info.time_steps, *info.shape)
            if value.shape != expected or not bool(value.isfinite().all()):
                return None
        return Read(found, faults)


def _begin_importing() -> None:
    """Start the process that others are forked from; it imports while the person looks for a file."""
    from multiprocessing import forkserver, resource_tracker

    # A Control-C is for every process of the terminal. This one minds it until it has imported, and would say so.
    resource_tracker.ensure_running()  # which changes what is blocked
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        forkserver.ensure_running()
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _start(process: BaseProcess) -> None:
    """Start a process, or say that the system cannot."""
    try:
        process.start()
    except (OSError, EOFError) as error:
        raise RefusedError("the program that reads files could not be started; try again", 503) from error


def _stopped() -> RefusedError:
    return RefusedError("the demo is being stopped", 503)


def _naming(name: str, path: Path, fault: str) -> str:
    """A fault that names the file as the person does: the private folder is nobody's business."""
    fault = printable(fault.replace(str(path), name))
    return fault if printable(name) in fault else f"{printable(name)}: {fault}"


def _kill(process: BaseProcess) -> None:
    """End a process and whatever it has started, wherever it is."""
    if process.pid is None:
        return
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    with suppress(ProcessLookupError):
        os.kill(process.pid, signal.SIGKILL)  # before it has a group of its own
