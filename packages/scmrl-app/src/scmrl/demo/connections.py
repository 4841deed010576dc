"""HTTP connections with a deadline for every request head and an upper limit on their number.

Uvicorn waits indefinitely for the rest of a request head, so a few hundred half-sent ones would block the server.
Bodies are limited where they are read; see `intake`.
"""

from __future__ import annotations

import asyncio

from uvicorn.protocols.http.h11_impl import H11Protocol

HEAD_SECONDS = 5.0
"""Deadline for the head of a request, from its first byte or from the opening of the connection."""
MAX_WAITING = 64
"""Connections that wait for a request head; a further one replaces the oldest of them."""
MAX_CONNECTIONS = 256
"""All connections; a further one replaces the oldest, an idle one if there is any."""


class LimitedProtocol(H11Protocol):
    """Uvicorn's HTTP/1.1 protocol with these limits."""

    _deadline: asyncio.TimerHandle | None = None
    _since = 0.0

    @property
    def is_waiting(self) -> bool:
        """Whether the head of a request is due."""
        return self._deadline is not None

    @property
    def is_running(self) -> bool:
        """Whether a request has no complete response yet."""
        return bool(self.cycle) and not self.cycle.response_complete

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Accept a connection, and close others if there are too many."""
        super().connection_made(transport)
        self._since = self.loop.time()
        self._start_deadline()
        self._close_excess()

    def connection_lost(self, exc: Exception | None) -> None:
        """Cancel the deadline."""
        self._cancel_deadline()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Pass bytes on; an incomplete request head gets a deadline."""
        super().data_received(data)
        if self.is_running:
            self._cancel_deadline()
        elif not self.is_waiting and not self.transport.is_closing():
            self._start_deadline()

    def _start_deadline(self) -> None:
        self._deadline = self.loop.call_later(HEAD_SECONDS, self.transport.abort)

    def _cancel_deadline(self) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None

    def _close_excess(self) -> None:
        connections: list[LimitedProtocol] = [each for each in self.connections if isinstance(each, LimitedProtocol)]
        is_open = (each for each in connections if not each.transport.is_closing())
        by_age = sorted(is_open, key=lambda each: (each.is_running, each._since))
        waiting = [each for each in by_age if each.is_waiting]
        excess = [*waiting[: max(0, len(waiting) - MAX_WAITING)], *by_age[: max(0, len(by_age) - MAX_CONNECTIONS)]]
        for each in excess:
            each.transport.abort()
