"""Request bodies come in side by side, and slow ones keep nobody out."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import BinaryIO

from starlette.requests import ClientDisconnect, Request

from scmrl.demo.refused import RefusedError

GRACE = 0.5
"""Seconds before a body's rate is judged."""


@dataclass(eq=False)
class Arriving:
    """A body that is being received."""

    since: float
    timeout: asyncio.Timeout
    size: int = 0
    gave_way: bool = False


class Intake:
    """Takes a bounded number of bodies at once. When all places are taken, the slowest sender loses its place.

    Args:
        places: bodies that may come in at once.
        seconds: for a body to arrive.
    """

    def __init__(self, places: int, *, seconds: float) -> None:
        self._places, self._seconds = places, seconds
        self._arriving: set[Arriving] = set()

    async def receive(self, request: Request, into: BinaryIO, largest: int, what: str) -> None:
        """Write a request's body to a file.

        Args:
            request: whose body it is.
            into: the file.
            largest: bytes that are taken.
            what: is sent, for messages.

        Raises:
            RefusedError: it is too large, too slow or cut off.
        """
        too_large = RefusedError(f"{what} has more than {largest / 1e6:g} MB, the most that is taken", 413)
        if int(request.headers.get("content-length", "0")) > largest:
            raise too_large
        self._make_room()
        arriving = Arriving(asyncio.get_running_loop().time(), asyncio.timeout(self._seconds))
        self._arriving.add(arriving)
        try:
            async with arriving.timeout:
                async for chunk in request.stream():
                    arriving.size += len(chunk)
                    if arriving.size > largest:
                        raise too_large
                    into.write(chunk)
        except TimeoutError:
            if arriving.gave_way:
                raise RefusedError(
                    f"{what} arrived too slowly while others were waiting; try again in a moment", 503
                ) from None
            raise RefusedError(f"{what} did not arrive within {self._seconds:g} s; try again", 408) from None
        except ClientDisconnect:
            raise RefusedError(f"{what} was not sent to its end; try again", 400) from None
        finally:
            self._arriving.discard(arriving)

    def _make_room(self) -> None:
        """Let the slowest give way if all places are taken; if all have just begun, the first of them."""
        now = asyncio.get_running_loop().time()
        staying = [each for each in self._arriving if not each.gave_way]
        if len(staying) < self._places:
            return
        judged = [each for each in staying if now - each.since > GRACE]
        if judged:
            leaving = min(judged, key=lambda each: each.size / (now - each.since))
        else:
            leaving = min(staying, key=lambda each: each.since)
        leaving.gave_way = True
        leaving.timeout.reschedule(now)  # ends it with a TimeoutError
