"""Being told to stop: within the training loop a run ends after the step under way, elsewhere at once."""

from __future__ import annotations

import signal
import threading
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType, TracebackType
from typing import Any, NoReturn

POLITE = (signal.SIGTERM, *((signal.SIGUSR1,) if hasattr(signal, "SIGUSR1") else ()))
"""What schedulers send before they kill: the run ends well."""


class Stopped(BaseException):
    """A scheduler asked the run to stop, and it did; the text says how to go on.

    Like KeyboardInterrupt it may be raised anywhere, so it is no Exception, which code on the way would take for a
    broken file.
    """


class Interruption:
    """Within the block, Ctrl-C and a scheduler's signals end the run with a text that says what is kept.

    Args:
        folder: of the run; None while there is none yet.
        where: what the run is doing, as in `stopped before the training began`.
    """

    def __init__(self, folder: Path | None = None, where: str = "before the training began") -> None:
        self.folder = folder
        self.asked = False
        """Whether the run is to stop after the step under way."""
        self._where = where
        self._waits = False
        self._by_user = False
        self._before: dict[int, Any] = {}

    def __enter__(self) -> Interruption:
        if threading.current_thread() is threading.main_thread():
            self._before = {number: signal.signal(number, self._note) for number in (signal.SIGINT, *POLITE)}
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    @contextmanager
    def after_steps(self) -> Generator[None, None, None]:
        """Within the block signals are only noted, in `asked`; a second Ctrl-C ends the run at once."""
        self._waits = True
        try:
            yield
        finally:
            self._waits, self._where = False, "in the evaluation after the training, whose model is kept"

    def _note(self, number: int, frame: FrameType | None) -> None:
        again = self._by_user and number == signal.SIGINT
        self._by_user = self._by_user or number == signal.SIGINT
        self.asked = True
        if again and self._waits:
            self.end("at once; the last checkpoint is kept")
        if not self._waits:
            self.end(self._where)

    def end(self, where: str) -> NoReturn:
        """Leave the run.

        Raises:
            KeyboardInterrupt: the user asked.
            Stopped: a scheduler, or another process of the run, asked.
        """
        how = f"the same command and --resume --out {self.folder}" if self.folder else "the same command"
        raise (KeyboardInterrupt if self._by_user else Stopped)(f"stopped {where}; go on with {how}")
