"""What every request passes first: pages of other sites can neither read from this server nor act through it."""

from __future__ import annotations

import ipaddress
import socket
from collections.abc import Iterable

from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

HEADERS = {
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; "
        "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    ),
    "Cache-Control": "no-store",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
}
"""Of every answer: nothing from elsewhere, nothing within the markup, and nobody frames or guesses."""
SENT = ("application/json", "application/octet-stream")
"""What may be posted: neither can come from a form of another site."""


class Guard:
    """Refuses what a browser sends on behalf of another site.

    A site that lets its own name point to this machine (DNS rebinding) is told by the Host header, which then holds
    that name: an address or a name of this machine is asked for. What another site's page posts is told by its Origin,
    by what the browser says of it (Sec-Fetch-Site), and by its type.

    Args:
        app: what is guarded.
        host: name or address that the server was told to listen on.
    """

    def __init__(self, app: ASGIApp, *, host: str) -> None:
        self._app = app
        self._names = {"localhost", host.lower(), socket.gethostname().lower()}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on, or refuse it; either way with the headers above."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        fault = self._fault(scope["method"], Headers(scope=scope))

        async def send_guarded(message: Message) -> None:
            if message["type"] == "http.response.start":
                MutableHeaders(scope=message).update(HEADERS)
            await send(message)

        if fault is None:
            await self._app(scope, receive, send_guarded)
        else:
            status, reason = fault
            await JSONResponse({"fault": reason}, status)(scope, receive, send_guarded)

    def _fault(self, method: str, headers: Headers) -> tuple[int, str] | None:
        hosts = headers.getlist("host")
        if len(hosts) != 1 or not self._is_this_machine(hosts[0]):
            return 421, "the server is not known by this name; use the address that it printed"
        if headers.get("sec-fetch-site", "none") not in ("none", "same-origin") and method != "GET":
            return 403, "another site's page asked for this"
        if any(origin != f"http://{hosts[0]}" for origin in headers.getlist("origin")):
            return 403, "another site's page asked for this"
        if method == "POST" and _kind(headers.getlist("content-type")) not in SENT:
            return 415, f"send {' or '.join(SENT)}"
        return None

    def _is_this_machine(self, host: str) -> bool:
        name = host.rpartition(":")[0] if host.rpartition(":")[2].isdecimal() else host
        try:
            ipaddress.ip_address(name.strip("[]"))
        except ValueError:
            return name.lower() in self._names
        return True  # only a name can be made to point here


def _kind(content_types: Iterable[str]) -> str:
    return ",".join(content_types).partition(";")[0].strip().lower()
