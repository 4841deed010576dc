"""A database that is away for a while, because it is restarted or the network is: studies wait for it.

Whoever asks the storage something takes a connection that is tried first and made anew if it was cut, so it is enough
to be patient where connections are made. A question that is cut in the middle fails all the
same; asked again, it waits.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Any

from scmrl.progress import format_duration

AWAY = 600.0
"""Seconds that a database may be away."""
AGAIN = 2.0
"""Seconds between two attempts to reach it."""


class Patience:
    """Makes connections to a database, and waits for it for up to `AWAY` seconds.

    Args:
        say: told when waiting begins and when it ends.
        clock: seconds that only grow.
    """

    def __init__(self, say: Callable[[str], object], *, clock: Callable[[], float] = time.monotonic) -> None:
        self._say, self._now = say, clock
        self._waited, self._since = 0.0, None
        self._one_at_a_time, self._over = threading.Lock(), threading.Event()

    _since: float | None
    """When the database was missed first; None while it is there."""

    def clock(self) -> float:
        """Seconds that only grow, without those for which the database was away: no worker could count up in them."""
        return self._now() - self._waited

    def end(self) -> None:
        """Wait no longer, now or ever, since this process is to stop."""
        self._over.set()

    def connect(self, dialect: Any, record: object, arguments: Any, options: Any) -> Any:
        """Make a connection, as SQLAlchemy's event `do_connect` does.

        Raises:
            dialect.loaded_dbapi.OperationalError: the database was away for too long.
        """
        with self._one_at_a_time:
            while True:
                try:
                    connection = dialect.connect(*arguments, **options)
                except dialect.loaded_dbapi.OperationalError as error:
                    if self._since is None:
                        self._since = self._now()
                        reason = " ".join(str(error).split())
                        self._say(f"the database is away ({reason}); waiting for it for up to {format_duration(AWAY)}")
                    if self._now() - self._since > AWAY or self._over.wait(AGAIN):
                        raise
                else:
                    if self._since is not None:
                        away, self._since = self._now() - self._since, None
                        self._waited += away
                        self._say(f"the database is back after {format_duration(away)}")
                    return connection
