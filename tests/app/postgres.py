"""A PostgreSQL server for one test, which listens only on a socket in its own folder."""

from __future__ import annotations

import os
import pwd
import shutil
import subprocess
import tempfile
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from requirements import DEBIAN_POSTGRESQL, postgres_programs

START_TIMEOUT = 60
"""Seconds within which the server must start."""


@dataclass(frozen=True)
class Server:
    """A running server."""

    address: str
    """SQLAlchemy URL of its database."""
    folder: Path
    """Holds its data and its socket."""
    programs: Path
    user: str | None
    """User that it runs as; None: the user of this process."""

    def run(self, program: str, *arguments: str | Path) -> subprocess.CompletedProcess[str]:
        """Run one of PostgreSQL's programs as the server's user and wait for it."""
        return subprocess.run(
            [self.programs / program, *arguments],
            user=self.user, env={**os.environ, "LC_ALL": "C"}, cwd=self.folder,
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False,
        )  # fmt: skip

    def start(self) -> None:
        """Start it on the existing data, and wait until it accepts connections."""
        options = f"-k {self.folder} -c listen_addresses= -c fsync=off"
        self._control("start", "-l", self.folder / "log", "-o", options)

    def stop(self) -> None:
        """Stop it without waiting for clients."""
        self._control("stop", "-m", "fast")

    def _control(self, *arguments: str | Path) -> None:
        process = self.run("pg_ctl", "-w", "-s", "-t", str(START_TIMEOUT), "-D", self.folder / "data", *arguments)
        log = self.folder / "log"
        assert process.returncode == 0, process.stdout + (log.read_text() if log.is_file() else "")


@contextmanager
def postgres() -> Generator[Server, None, None]:
    """Run a server within the block. Tests that use this are marked `needs("postgres")`."""
    programs = postgres_programs()
    assert programs is not None
    # Outside pytest's folder, which the server's user may not enter; a socket also needs a short path.
    folder = Path(tempfile.mkdtemp(prefix="pg-"))
    try:
        user = None
        if os.getuid() == 0:  # PostgreSQL refuses to run as root
            user = next((name for name in ("postgres", "nobody") if _exists(name)), None)
            assert user, "PostgreSQL refuses to run as root, and there is no user postgres or nobody"
            if DEBIAN_POSTGRESQL not in programs.parents:
                # Other users often cannot read root's virtual environment, so the server runs from a copy.
                programs = _copy_programs(programs, folder / "programs")
            folder.chmod(0o755)
            shutil.chown(folder, user)
        server = Server(f"postgresql+psycopg://study@/postgres?host={folder}", folder, programs, user)
        initdb = server.run("initdb", "-D", folder / "data", "-U", "study", "-A", "trust", "--no-sync", "-E", "UTF8")
        assert initdb.returncode == 0, initdb.stdout
        server.start()
        try:
            yield server
        finally:
            if (folder / "data" / "postmaster.pid").exists():
                server.stop()
    finally:
        shutil.rmtree(folder)


def _copy_programs(programs: Path, folder: Path) -> Path:
    """Copy the wheel's programs, and the libraries that they load by relative paths."""
    package = programs.parents[1]
    for each in package.parent.glob(f"{package.name}*"):
        if each.is_dir() and each.suffix != ".dist-info":
            shutil.copytree(each, folder / each.name)
    return folder / programs.relative_to(package.parent)


def _exists(user: str) -> bool:
    return any(entry.pw_name == user for entry in pwd.getpwall())
