"""Waiting for a database that is down for a while, because of a restart or the network.

Every access to the storage takes a connection that is tested first and reopened if it was cut, so it is enough to wait
where connections are opened. A query that is cut while it runs still fails; if it is repeated, it waits.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Any

from scmrl.console.progress import format_duration

MAX_OUTAGE = 600.0
"""Seconds to wait for a database that is down."""
RETRY_INTERVAL = 2.0
"""Seconds between two attempts to reach it."""


class Reconnect:
    """Opens connections to a database, and waits for up to `MAX_OUTAGE` seconds while it is down.

    Args:
        notify: called with a message when an outage begins and when it ends.
        clock: monotonic seconds.
    """

    def __init__(self, notify: Callable[[str], object], *, clock: Callable[[], float] = time.monotonic) -> None:
        self._notify, self._now = notify, clock
        self._waited, self._down_since = 0.0, None
        self._lock, self._cancelled = threading.Lock(), threading.Event()

    _down_since: float | None
    """Start of the current outage; None while the database is up."""

    def clock(self) -> float:
        """Return monotonic seconds without those of outages, in which no worker can send heartbeats."""
        return self._now() - self._waited

    def cancel(self) -> None:
        """Stop waiting, now and in future outages, because this process has to stop."""
        self._cancelled.set()

    def connect(self, dialect: Any, record: object, arguments: Any, options: Any) -> Any:
        """Open a connection; the signature is that of SQLAlchemy's event `do_connect`.

        Raises:
            dialect.loaded_dbapi.OperationalError: the database was down for too long.
        """
        with self._lock:
            while True:
                try:
                    connection = dialect.connect(*arguments, **options)
                except dialect.loaded_dbapi.OperationalError as error:
                    if self._down_since is None:
                        self._down_since = self._now()
                        reason = " ".join(str(error).split())
                        self._notify(f"the database is down ({reason}); waiting up to {format_duration(MAX_OUTAGE)}")
                    if self._now() - self._down_since > MAX_OUTAGE or self._cancelled.wait(RETRY_INTERVAL):
                        raise
                else:
                    if self._down_since is not None:
                        outage, self._down_since = self._now() - self._down_since, None
                        self._waited += outage
                        self._notify(f"the database is back after {format_duration(outage)}")
                    return connection
