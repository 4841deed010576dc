"""Receive request bodies concurrently, so that slow senders do not block others."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import BinaryIO

from starlette.requests import ClientDisconnect, Request

from scmrl.demo.errors import RefusedError

GRACE = 0.5
"""Seconds before the rate of a sender is measured."""


@dataclass(eq=False)
class IncomingBody:
    """A body that is being received."""

    since: float
    timeout: asyncio.Timeout
    size: int = 0
    evicted: bool = False


class Intake:
    """Receives a limited number of bodies at a time. At the limit, the slowest sender is evicted.

    Args:
        capacity: maximum number of concurrent bodies.
        seconds: time limit of a body.
    """

    def __init__(self, capacity: int, *, seconds: float) -> None:
        self._capacity, self._seconds = capacity, seconds
        self._bodies: set[IncomingBody] = set()

    async def receive(self, request: Request, into: BinaryIO, max_bytes: int, name: str) -> None:
        """Write a request's body to a file.

        Args:
            request: the request.
            into: the file.
            max_bytes: size limit.
            name: of the body, for messages.

        Raises:
            RefusedError: the body is too large, too slow or incomplete.
        """
        too_large = RefusedError(f"{name} exceeds the limit of {max_bytes / 1e6:g} MB", 413)
        if int(request.headers.get("content-length", "0")) > max_bytes:
            raise too_large
        self._evict_slowest()
        body = IncomingBody(asyncio.get_running_loop().time(), asyncio.timeout(self._seconds))
        self._bodies.add(body)
        try:
            async with body.timeout:
                async for chunk in request.stream():
                    body.size += len(chunk)
                    if body.size > max_bytes:
                        raise too_large
                    into.write(chunk)
        except TimeoutError:
            if body.evicted:
                raise RefusedError(
                    f"{name} arrived too slowly while other requests were waiting; try again in a moment", 503
                ) from None
            raise RefusedError(f"{name} did not arrive within {self._seconds:g} s; try again", 408) from None
        except ClientDisconnect:
            raise RefusedError(f"{name} was not sent completely; try again", 400) from None
        finally:
            self._bodies.discard(body)

    def _evict_slowest(self) -> None:
        """Evict the slowest sender at the limit; if all have just begun, the first."""
        now = asyncio.get_running_loop().time()
        active = [body for body in self._bodies if not body.evicted]
        if len(active) < self._capacity:
            return
        measured = [body for body in active if now - body.since > GRACE]
        if measured:
            slowest = min(measured, key=lambda body: body.size / (now - body.since))
        else:
            slowest = min(active, key=lambda body: body.since)
        slowest.evicted = True
        slowest.timeout.reschedule(now)  # raises TimeoutError in `receive`
