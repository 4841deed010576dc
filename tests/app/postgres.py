"""A PostgreSQL server of a test's own, which listens on a socket in its own folder and nowhere else."""

from __future__ import annotations

import os
import pwd
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path

DEBIAN = Path("/usr/lib/postgresql")
SECONDS = 60
"""Within which the server has to start."""


def program(name: str) -> str:
    """A program of PostgreSQL, the newest one where Debian keeps them.

    Raises:
        AssertionError: PostgreSQL is not installed.
    """
    versions = sorted(DEBIAN.glob(f"*/bin/{name}"), key=lambda path: float(path.parts[-3]))
    found = str(versions[-1]) if versions else shutil.which(name)
    assert found, f"these tests need PostgreSQL, and there is no {name}: install the package postgresql"
    return found


@contextmanager
def postgres() -> Generator[str, None, None]:
    """Start a server and give the address of its database; stop it in the end, whatever happens."""
    # Not below pytest's folder, which the server's user may not enter; and the path of a socket has to be short.
    folder = Path(tempfile.mkdtemp(prefix="pg-"))
    user = None
    if os.getuid() == 0:  # PostgreSQL refuses to run as root
        user = next((entry.pw_name for name in ("postgres", "nobody") for entry in _entries(name)), None)
        assert user, "these tests run as root, and PostgreSQL does not: there is no user postgres to run it as"
        shutil.chown(folder, user)
    environment = {**os.environ, "LC_ALL": "C"}
    try:
        made = subprocess.run(
            [program("initdb"), "-D", folder / "data", "-U", "study", "-A", "trust", "--no-sync", "-E", "UTF8"],
            user=user, env=environment, cwd=folder, capture_output=True, text=True, check=False,
        )  # fmt: skip
        assert made.returncode == 0, made.stderr
        server = subprocess.Popen(
            [program("postgres"), "-D", folder / "data", "-k", folder, "-c", "listen_addresses=", "-c", "fsync=off"],
            user=user, env=environment, cwd=folder, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        )  # fmt: skip
        try:
            _wait_for(folder, server)
            yield f"postgresql+psycopg://study@/postgres?host={folder}"
        finally:
            server.send_signal(signal.SIGINT)  # at once, without waiting for clients
            try:
                server.wait(30)
            finally:
                server.kill()
    finally:
        shutil.rmtree(folder)


def _entries(name: str) -> list[pwd.struct_passwd]:
    return [entry for entry in pwd.getpwall() if entry.pw_name == name]


def _wait_for(folder: Path, server: subprocess.Popen[bytes]) -> None:
    until = time.monotonic() + SECONDS
    ready = [program("pg_isready"), "-q", "-h", str(folder), "-U", "study", "-d", "postgres"]
    while subprocess.run(ready, check=False).returncode != 0:
        assert server.poll() is None, "PostgreSQL ended before it was ready"
        assert time.monotonic() < until, f"PostgreSQL was not ready within {SECONDS} s"
        time.sleep(0.1)
