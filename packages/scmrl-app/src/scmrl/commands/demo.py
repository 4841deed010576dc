"""`scmrl demo`: a page on which a person disturbs what a model gets and sees its answer move.

Nothing here loads PyTorch or the web server before the command runs.
"""

from __future__ import annotations

import ipaddress
import secrets
import signal
import socket
import sys
import threading
import time
import webbrowser
from pathlib import Path
from types import FrameType
from typing import Annotated

from cyclopts import Parameter

from scmrl.config.data_access import AS_TRAINED, DataAccess


def demo(
    run: Path | None = None,
    /,
    *,
    port: int = 7860,
    host: str = "127.0.0.1",
    open_: Annotated[bool, Parameter(name="--open", negative="")] = False,
    max_upload_mb: float = 50,
    decode_seconds: float = 20,
    access: DataAccess = AS_TRAINED,
) -> int:
    """Show a run's model in the browser: drop a clip or pick a sample, mute senses, add noise, see the answer move.

    The page shows the probability of every class, what each sense contributes, what the model read of pictures and
    spectrograms, and which neurons fired. It comes from this machine alone, and so do its scripts. Uploads are read by
    a process apart, limited in size, time and memory, and deleted at once; what the model takes of the newest 16 is
    kept in memory. Control-C ends it.

    Args:
        run: folder that `scmrl train` left; none: the newest one in the folder `runs`.
        port: where the page is served; 0 takes a free one.
        host: name or address to listen on; with another than this machine's own, others can reach the page, and the
            address that is printed ends in a token without which they see nothing.
        open_: open the page in the browser.
        max_upload_mb: largest file that is taken, in MB (10^6 bytes).
        decode_seconds: longest time that reading a file may take.
        access: where the data are now.
    """
    from scmrl.run_folder.files import read_experiment
    from scmrl.run_folder.newest import run_or_newest

    if not max_upload_mb > 0:
        raise ValueError(f"--max-upload-mb {max_upload_mb:g} takes no file at all; give more than 0")
    if not 0 < decode_seconds < 24 * 3600:
        raise ValueError(
            f"--decode-seconds {decode_seconds:g} is no time to read a file in; give 1 or more, such as 20"
        )
    run = run_or_newest(run)
    read_experiment(run, access)
    with listening(host, port) as listener:
        url = address(listener, host)
        token = None if is_loopback(listener) else secrets.token_urlsafe(24)
        if token is not None:
            print(
                f"scmrl: warning: everyone who reaches {url} and has its token can use this page, and nothing they "
                "send is encrypted",
                file=sys.stderr,
            )
            url += f"?token={token}"
        # Said before anything is loaded: a browser that goes there now waits for its answer.
        print(f"{url} shows {run} as soon as it is loaded; Control-C ends it", flush=True)
        began = time.monotonic()
        try:
            from scmrl.demo.server import create_app, server_of
        except ImportError as error:
            if (error.name or "").partition(".")[0] not in ("fastapi", "starlette", "uvicorn"):
                raise
            raise ImportError(
                "the page is served by FastAPI and uvicorn: install scmrl-app with its extra `demo`, in a clone by "
                f"`uv sync` ({error})"
            ) from error
        from scmrl.console.progress import Progress
        from scmrl.demo.session import open_demo

        with Progress.create() as progress:
            opened = open_demo(run, progress, access)
        app = create_app(
            opened, host=host, largest_upload=round(max_upload_mb * 1e6), seconds=decode_seconds, token=token
        )
        print(f"ready after {time.monotonic() - began:.1f} s", flush=True)
        if open_:
            threading.Thread(target=webbrowser.open, args=(url,), daemon=True).start()
        # The server ends on both, and then passes them on: both are a person's way to end it, and leave nothing behind.
        signal.signal(signal.SIGTERM, signal.default_int_handler)
        # So is to close the terminal's window, unless `nohup` says that it is none.
        if sys.platform != "win32" and signal.getsignal(signal.SIGHUP) is signal.SIG_DFL:
            signal.signal(signal.SIGHUP, _end)
        try:
            server_of(app).run(sockets=[listener])
        except KeyboardInterrupt:
            print()  # the terminal shows ^C
    return 0


def _end(_signal: int, _frame: FrameType | None) -> None:
    signal.raise_signal(signal.SIGTERM)


def listening(host: str, port: int) -> socket.socket:
    """A socket that takes connections from now on.

    Raises:
        ValueError: no such host or port, or it is in use.
    """
    if not 0 <= port <= 65535:
        raise ValueError(f"--port {port}: ports go from 0 (any free one) to 65535")
    try:
        family, _, _, _, place = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
    except (OSError, UnicodeError) as error:
        raise ValueError(f"--host {host}: there is no such name or address ({error})") from error
    listener = socket.socket(family, socket.SOCK_STREAM)
    try:
        if sys.platform != "win32":  # there it would share the port with another server
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(place)
        listener.listen()
    except OSError as error:
        listener.close()
        raise ValueError(
            f"{host}, port {port} cannot be listened on ({error.strerror}); give another --port, or 0 for a free one"
        ) from error
    return listener


def address(listener: socket.socket, host: str) -> str:
    """Where the page is, for a browser on this machine."""
    place: tuple[str, int] = listener.getsockname()[:2]
    name = host
    if host in ("", "0.0.0.0", "::"):
        name = "127.0.0.1" if listener.family == socket.AF_INET else "::1"
    return f"http://{f'[{name}]' if ':' in name else name}:{place[1]}/"


def is_loopback(listener: socket.socket) -> bool:
    """Whether only this machine reaches it."""
    return ipaddress.ip_address(listener.getsockname()[0]).is_loopback
