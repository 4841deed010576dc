"""Handle Ctrl-C and a scheduler's signals: the training loop ends after the current step, other phases at once."""

from __future__ import annotations

import signal
import threading
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType, TracebackType
from typing import Any, NoReturn

SCHEDULER_SIGNALS = (signal.SIGTERM, *((signal.SIGUSR1,) if hasattr(signal, "SIGUSR1") else ()))
"""Signals that schedulers send before they kill; the run then ends cleanly."""


class Stopped(BaseException):
    """A scheduler stopped the run; the message says how to resume.

    Like KeyboardInterrupt it may be raised anywhere, so it is not an Exception, which other code would take for a
    damaged file.
    """


class Interruption:
    """Within the block, Ctrl-C and a scheduler's signals end the run with a message that says what is kept.

    Args:
        folder: of the run; None while there is none yet.
        phase: current phase of the run, as in `stopped before the training began`.
    """

    def __init__(self, folder: Path | None = None, phase: str = "before the training began") -> None:
        self.folder = folder
        self.requested = False
        """Whether the run must stop after the current step."""
        self._phase = phase
        self._deferred = False
        self._by_user = False
        self._previous_handlers: dict[int, Any] = {}

    def __enter__(self) -> Interruption:
        if threading.current_thread() is threading.main_thread():
            self._previous_handlers = {
                number: signal.signal(number, self._handle) for number in (signal.SIGINT, *SCHEDULER_SIGNALS)
            }
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        for number, handler in self._previous_handlers.items():
            signal.signal(number, handler)

    @contextmanager
    def after_steps(self) -> Generator[None, None, None]:
        """Within the block a signal only sets `requested`; a second Ctrl-C ends the run at once."""
        self._deferred = True
        try:
            yield
        finally:
            self._deferred, self._phase = False, "in the evaluation after the training, whose model is kept"

    def _handle(self, number: int, frame: FrameType | None) -> None:
        again = self._by_user and number == signal.SIGINT
        self._by_user = self._by_user or number == signal.SIGINT
        self.requested = True
        if again and self._deferred:
            self.stop("at once; the last checkpoint is kept")
        if not self._deferred:
            self.stop(self._phase)

    def stop(self, phase: str) -> NoReturn:
        """Leave the run.

        Raises:
            KeyboardInterrupt: on Ctrl-C.
            Stopped: on a scheduler's signal, or if another process of the run stops.
        """
        command = f"the same command and --resume --out {self.folder}" if self.folder else "the same command"
        raise (KeyboardInterrupt if self._by_user else Stopped)(f"stopped {phase}; resume with {command}")
