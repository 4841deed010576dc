"""Being told to stop: a run ends after the step under way, with a checkpoint from which it can go on."""

from __future__ import annotations

import signal
import threading
from pathlib import Path
from types import FrameType, TracebackType
from typing import Any, NoReturn

POLITE = (signal.SIGTERM, *((signal.SIGUSR1,) if hasattr(signal, "SIGUSR1") else ()))
"""What schedulers send before they kill: the run ends well."""


class Stopped(Exception):  # noqa: N818  it is no error
    """A scheduler asked the run to stop, and it did; the text says how to go on."""


class Interruption:
    """Within the block, Ctrl-C and a scheduler's signals are taken note of; a second Ctrl-C ends at once."""

    def __init__(self) -> None:
        self.asked = False
        self._by_user = False
        self._before: dict[int, Any] = {}

    def __enter__(self) -> Interruption:
        if threading.current_thread() is threading.main_thread():
            self._before = {number: signal.signal(number, self._note) for number in (signal.SIGINT, *POLITE)}
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _note(self, number: int, frame: FrameType | None) -> None:
        if number == signal.SIGINT:
            if self._by_user:
                raise KeyboardInterrupt("stopped at once; the last checkpoint is in the run folder")
            self._by_user = True
        self.asked = True

    def end(self, folder: Path, where: str) -> NoReturn:
        """Leave the run.

        Raises:
            KeyboardInterrupt: the user asked.
            Stopped: a scheduler, or another process of the run, asked.
        """
        text = f"stopped {where}; go on with the same command and --resume --out {folder}"
        raise (KeyboardInterrupt if self._by_user else Stopped)(text)
