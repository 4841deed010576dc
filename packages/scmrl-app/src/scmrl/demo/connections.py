"""HTTP connections that nobody can hold open: every request head has a deadline, and their number is bounded.

Uvicorn waits for ever for the rest of a request head, so that a few hundred half-sent ones take all that the server
has. Bodies are bounded where they are read, see `intake`.
"""

from __future__ import annotations

import asyncio

from uvicorn.protocols.http.h11_impl import H11Protocol

HEAD_SECONDS = 5.0
"""For the head of a request to arrive, from its first byte or from the opening of the connection."""
MOST_WAITING = 64
"""Connections that may wait for a request head at once; a further one replaces the oldest of them."""
MOST_CONNECTIONS = 256
"""Connections in all; a further one replaces the oldest, an idle one where there is any."""


class BoundedProtocol(H11Protocol):
    """Uvicorn's HTTP/1.1 with these bounds; the bytes on the wire are the same."""

    _deadline: asyncio.TimerHandle | None = None
    _since = 0.0

    @property
    def is_waiting(self) -> bool:
        """Whether the head of a request is due."""
        return self._deadline is not None

    @property
    def is_running(self) -> bool:
        """Whether a request has no whole answer yet."""
        return bool(self.cycle) and not self.cycle.response_complete

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Take a connection, and close others where there are too many."""
        super().connection_made(transport)
        self._since = self.loop.time()
        self._expect_head()
        self._make_room()

    def connection_lost(self, exc: Exception | None) -> None:
        """Forget the connection."""
        self._head_is_there()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Take bytes: what is no whole head yet has a deadline."""
        super().data_received(data)
        if self.is_running:
            self._head_is_there()
        elif not self.is_waiting and not self.transport.is_closing():
            self._expect_head()

    def _expect_head(self) -> None:
        self._deadline = self.loop.call_later(HEAD_SECONDS, self.transport.abort)

    def _head_is_there(self) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None

    def _make_room(self) -> None:
        every: list[BoundedProtocol] = [each for each in self.connections if isinstance(each, BoundedProtocol)]
        alive = sorted(
            (each for each in every if not each.transport.is_closing()), key=lambda each: (each.is_running, each._since)
        )
        waiting = [each for each in alive if each.is_waiting]
        for each in [*waiting[: max(0, len(waiting) - MOST_WAITING)], *alive[: max(0, len(alive) - MOST_CONNECTIONS)]]:
            each.transport.abort()
