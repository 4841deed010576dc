"""A PostgreSQL server of a test's own, which listens on a socket in its own folder and nowhere else."""

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

SECONDS = 60
"""Within which the server has to start."""


@dataclass(frozen=True)
class Server:
    """A running server."""

    address: str
    """Of its database, as SQLAlchemy takes it."""
    folder: Path
    """Holds its data and its socket."""
    programs: Path
    user: str | None
    """Whom it runs as; None: as the user of this process."""

    def run(self, program: str, *arguments: str | Path) -> subprocess.CompletedProcess[str]:
        """Run one of PostgreSQL's programs to its end as the server's user."""
        return subprocess.run(
            [self.programs / program, *arguments],
            user=self.user, env={**os.environ, "LC_ALL": "C"}, cwd=self.folder,
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False,
        )  # fmt: skip

    def start(self) -> None:
        """Start it on the data that are there, and wait until it answers."""
        options = f"-k {self.folder} -c listen_addresses= -c fsync=off"
        self._control("start", "-l", self.folder / "log", "-o", options)

    def stop(self) -> None:
        """Stop it at once, without waiting for clients."""
        self._control("stop", "-m", "fast")

    def _control(self, *arguments: str | Path) -> None:
        done = self.run("pg_ctl", "-w", "-s", "-t", str(SECONDS), "-D", self.folder / "data", *arguments)
        log = self.folder / "log"
        assert done.returncode == 0, done.stdout + (log.read_text() if log.is_file() else "")


@contextmanager
def postgres() -> Generator[Server, None, None]:
    """Start a server; stop it in the end, whatever happens. Tests that call this are marked `needs("postgres")`."""
    programs = postgres_programs()
    assert programs is not None
    # Not below pytest's folder, which the server's user may not enter; and the path of a socket has to be short.
    folder = Path(tempfile.mkdtemp(prefix="pg-"))
    try:
        user = None
        if os.getuid() == 0:  # PostgreSQL refuses to run as root
            user = next((name for name in ("postgres", "nobody") if _exists(name)), None)
            assert user, "these tests run as root, and PostgreSQL does not: there is no user postgres to run it as"
            if DEBIAN_POSTGRESQL not in programs.parents:
                # A virtual environment of root's is often closed to other users, so the server runs from a copy.
                programs = _copied(programs, folder / "programs")
            folder.chmod(0o755)
            shutil.chown(folder, user)
        server = Server(f"postgresql+psycopg://study@/postgres?host={folder}", folder, programs, user)
        made = server.run("initdb", "-D", folder / "data", "-U", "study", "-A", "trust", "--no-sync", "-E", "UTF8")
        assert made.returncode == 0, made.stdout
        server.start()
        try:
            yield server
        finally:
            if (folder / "data" / "postmaster.pid").exists():
                server.stop()
    finally:
        shutil.rmtree(folder)


def _copied(programs: Path, folder: Path) -> Path:
    """A copy of the wheel's programs, with the libraries beside the package that they find by relative paths."""
    package = programs.parents[1]
    for each in package.parent.glob(f"{package.name}*"):
        if each.is_dir() and each.suffix != ".dist-info":
            shutil.copytree(each, folder / each.name)
    return folder / programs.relative_to(package.parent)


def _exists(user: str) -> bool:
    return any(entry.pw_name == user for entry in pwd.getpwall())
