"""Authorization of requests: other sites can neither read from this server nor act through it.

If other machines can reach the server, a request also needs the token that the demo printed, as for notebooks.
"""

from __future__ import annotations

import base64
import hashlib
import ipaddress
import re
import secrets
import socket
from collections.abc import Iterable
from importlib.resources import files

from starlette.datastructures import Headers, MutableHeaders, QueryParams
from starlette.requests import cookie_parser
from starlette.responses import HTMLResponse, JSONResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; "
    "media-src 'self' blob:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
HEADERS = {
    "Content-Security-Policy": POLICY,
    "Cache-Control": "no-store",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
}
"""Of every response: no external or inline resources, no framing, no sniffing of media types."""
POST_TYPES = ("application/json", "application/octet-stream")
"""Media types that a form of another site cannot send."""
HEALTH = "/health"
"""The only path that needs no token; it reveals nothing else."""
TOKEN_FAULT = "this demo needs a token: open the address that it printed, which ends in ?token=..."
TOKEN_PAGE = files("scmrl.demo").joinpath("token.html").read_text(encoding="utf-8")


class Guard:
    """Refuse requests that a browser sends for another site, and requests without a required token.

    The Host header must be an address or a name of this machine; this stops sites whose name resolves to this machine
    (DNS rebinding). Posts of other sites are recognized by Origin, Sec-Fetch-Site and media type.

    The token is sent in the address (`?token=`), which sets a cookie, or in an Authorization header (`Bearer TOKEN`).
    The cookie is HttpOnly and SameSite=Strict. Its name holds the port, because all servers of a host share cookies.

    Args:
        app: the guarded application.
        host: name or address that the server listens on.
        token: required of requests; None: no token is required.
    """

    def __init__(self, app: ASGIApp, *, host: str, token: str | None) -> None:
        self._app = app
        self._names = {"localhost", host.lower(), socket.gethostname().lower()}
        self._token = token

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on or refuse it; both responses have `HEADERS`."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        headers = Headers(scope=scope)
        cookie = self._new_cookie(scope)

        async def send_guarded(message: Message) -> None:
            if message["type"] == "http.response.start":
                response_headers = MutableHeaders(scope=message)
                for name, value in HEADERS.items():
                    response_headers.setdefault(name, value)
                if cookie:
                    response_headers.append("Set-Cookie", cookie)
            await send(message)

        fault = self._fault(scope["method"], headers)
        if fault is not None:
            status, reason = fault
            response: Response = JSONResponse({"fault": reason}, status, {"Connection": "close"})
        elif scope["path"] == HEALTH:
            response = JSONResponse({"status": "ok"})
        elif cookie or self._has_token(scope, headers):
            await self._app(scope, receive, send_guarded)
            return
        elif scope["path"] == "/" and scope["method"] in ("GET", "HEAD"):
            response = HTMLResponse(TOKEN_PAGE, 401, {"Connection": "close", "Content-Security-Policy": token_policy()})
        else:
            response = JSONResponse({"fault": TOKEN_FAULT}, 401, {"Connection": "close"})
        await response(scope, receive, send_guarded)

    def _new_cookie(self, scope: Scope) -> str:
        """Return the cookie to set if the address holds the token, else ""."""
        if self._token is None or not self._matches(QueryParams(scope["query_string"]).get("token", "")):
            return ""
        return f"{_cookie_name(scope)}={self._token}; Path=/; HttpOnly; SameSite=Strict"

    def _has_token(self, scope: Scope, headers: Headers) -> bool:
        """Return whether a request has the token or needs none."""
        if self._token is None:
            return True
        scheme, _, bearer = headers.get("authorization", "").partition(" ")
        if scheme.lower() == "bearer" and self._matches(bearer.strip()):
            return True
        return self._matches(cookie_parser(headers.get("cookie", "")).get(_cookie_name(scope), ""))

    def _matches(self, token: str) -> bool:
        """Compare with the token in constant time."""
        assert self._token is not None
        return secrets.compare_digest(token.encode("utf-8", "surrogateescape"), self._token.encode())

    def _fault(self, method: str, headers: Headers) -> tuple[int, str] | None:
        hosts = headers.getlist("host")
        if len(hosts) != 1 or not self._is_this_machine(hosts[0]):
            return 421, "unknown host name; use the address that the demo printed"
        if headers.get("sec-fetch-site", "none") not in ("none", "same-origin") and method not in ("GET", "HEAD"):
            return 403, "requests from pages of other sites are refused"
        if any(origin != f"http://{hosts[0]}" for origin in headers.getlist("origin")):
            return 403, "requests from pages of other sites are refused"
        if method == "POST" and _kind(headers.getlist("content-type")) not in POST_TYPES:
            return 415, f"send {' or '.join(POST_TYPES)}"
        return None

    def _is_this_machine(self, host: str) -> bool:
        name = host.rpartition(":")[0] if host.rpartition(":")[2].isdecimal() else host
        try:
            ipaddress.ip_address(name.strip("[]"))
        except ValueError:
            return name.lower() in self._names
        return True  # DNS rebinding needs a name


def token_policy() -> str:
    """Return the policy of the token page: its own style sheet, and a form that leads to this server."""
    style = re.search(r"<style>(.*?)</style>", TOKEN_PAGE, re.DOTALL)
    assert style is not None
    digest = base64.b64encode(hashlib.sha256(style[1].encode()).digest()).decode()
    return POLICY.replace("style-src 'self'", f"style-src 'sha256-{digest}'").replace(
        "form-action 'none'", "form-action 'self'"
    )


def _cookie_name(scope: Scope) -> str:
    return f"scmrl-demo-{scope['server'][1]}"


def _kind(content_types: Iterable[str]) -> str:
    return ",".join(content_types).partition(";")[0].strip().lower()
