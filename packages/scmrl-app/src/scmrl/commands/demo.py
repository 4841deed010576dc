"""`scmrl demo`: a local web page on which to perturb the inputs of a model and see its prediction change.

Nothing here imports PyTorch or the web server before the command runs.
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
    """Serve a run's model in the browser: upload a clip or pick a sample, mute modalities, add noise.

    The page shows class probabilities, the contribution of each modality, attention maps and spikes. Page and scripts
    come from this machine only. Uploads are decoded in a separate process with limits on size, time and memory, and are
    deleted immediately; the model inputs of the newest 16 stay in memory. Control-C stops the server.

    Args:
        run: run folder of `scmrl train`; default: the newest run in the folder `runs`.
        port: port of the server; 0 picks a free one.
        host: name or address to listen on; if other machines can reach it, the printed address ends in a token, and
            requests without the token are refused.
        open_: open the page in the browser.
        max_upload_mb: size limit of an upload in MB (10^6 bytes).
        decode_seconds: time limit for decoding a file.
        access: where the data are now.
    """
    from scmrl.run_folder.files import read_experiment
    from scmrl.run_folder.newest import run_or_newest

    if not max_upload_mb > 0:
        raise ValueError(f"--max-upload-mb {max_upload_mb:g} allows no upload; give more than 0")
    if not 0 < decode_seconds < 24 * 3600:
        raise ValueError(f"--decode-seconds {decode_seconds:g} is out of range; give 1 or more, such as 20")
    run = run_or_newest(run)
    read_experiment(run, access)
    with listen(host, port) as listener:
        url = page_url(listener, host)
        token = None if is_loopback(listener) else secrets.token_urlsafe(24)
        if token is not None:
            print(
                f"scmrl: warning: everyone who can reach {url} and has its token can use this page; the connection is "
                "not encrypted",
                file=sys.stderr,
            )
            url += f"?token={token}"
        # Printed before loading: a browser that connects now waits for the response.
        print(f"{url} shows {run} as soon as it is loaded; Control-C stops the server", flush=True)
        start = time.monotonic()
        try:
            from scmrl.demo.server import create_app, create_server
        except ImportError as error:
            if (error.name or "").partition(".")[0] not in ("fastapi", "starlette", "uvicorn"):
                raise
            raise ImportError(
                "the demo needs FastAPI and uvicorn: install scmrl-app with its extra `demo`, in a clone by "
                f"`uv sync` ({error})"
            ) from error
        from scmrl.console.progress import Progress
        from scmrl.demo.session import open_demo

        with Progress.create() as progress:
            opened = open_demo(run, progress, access)
        app = create_app(
            opened, host=host, max_upload=round(max_upload_mb * 1e6), decode_seconds=decode_seconds, token=token
        )
        print(f"ready after {time.monotonic() - start:.1f} s", flush=True)
        if open_:
            threading.Thread(target=webbrowser.open, args=(url,), daemon=True).start()
        # The server stops on SIGINT and SIGTERM and raises them again; handle both as KeyboardInterrupt.
        signal.signal(signal.SIGTERM, signal.default_int_handler)
        # Closing the terminal window stops the demo too, unless `nohup` ignores SIGHUP.
        if sys.platform != "win32" and signal.getsignal(signal.SIGHUP) is signal.SIG_DFL:
            signal.signal(signal.SIGHUP, _terminate)
        try:
            create_server(app).run(sockets=[listener])
        except KeyboardInterrupt:
            print()  # the terminal shows ^C
    return 0


def _terminate(_signal: int, _frame: FrameType | None) -> None:
    signal.raise_signal(signal.SIGTERM)


def listen(host: str, port: int) -> socket.socket:
    """Return a listening socket.

    Raises:
        ValueError: the host or port does not exist or is in use.
    """
    if not 0 <= port <= 65535:
        raise ValueError(f"--port {port}: ports range from 0 (any free one) to 65535")
    try:
        family, _, _, _, socket_address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
    except (OSError, UnicodeError) as error:
        raise ValueError(f"--host {host}: there is no such name or address ({error})") from error
    listener = socket.socket(family, socket.SOCK_STREAM)
    try:
        if sys.platform != "win32":  # on Windows it would share the port with another server
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(socket_address)
        listener.listen()
    except OSError as error:
        listener.close()
        raise ValueError(
            f"cannot listen on {host}, port {port} ({error.strerror}); give another --port, or 0 for a free one"
        ) from error
    return listener


def page_url(listener: socket.socket, host: str) -> str:
    """Return the URL of the page for a browser on this machine."""
    port: int = listener.getsockname()[1]
    name = host
    if host in ("", "0.0.0.0", "::"):
        name = "127.0.0.1" if listener.family == socket.AF_INET else "::1"
    return f"http://{f'[{name}]' if ':' in name else name}:{port}/"


def is_loopback(listener: socket.socket) -> bool:
    """Return whether only this machine can reach the socket."""
    return ipaddress.ip_address(listener.getsockname()[0]).is_loopback
