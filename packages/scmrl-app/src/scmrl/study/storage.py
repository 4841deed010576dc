"""Where the list of work lies: in a database, or in a journal file.

Many processes append to a journal, and any of them may be killed at any moment. Optuna's own lock is a file that a
killed process leaves behind: others wait half a minute before they take it away, for ever where the path is relative
(the link that the lock is then points nowhere, and its age cannot be read), and two of them may take it away at once.
The lock here is the system's (flock), which ends with its holder. A holder that was killed, or had no disk left, may
have written half a line, which would make the journal unreadable as soon as another line follows; whoever is next cuts
it off.
"""

from __future__ import annotations

import json
import os
import re
from pathlib import Path
from typing import BinaryIO

from optuna.storages import BaseStorage, JournalStorage, RDBStorage
from optuna.storages.journal import JournalFileBackend, JournalFileOpenLock
from sqlalchemy import create_engine, event
from sqlalchemy.pool import NullPool

from scmrl.study.outage import Patience

try:
    import fcntl
except ImportError:  # there is none on Windows
    fcntl = None

MAKING_TABLES = 0x5C3217
"""The lock of a database while its tables are made; any number would do that others do not use."""


def open_storage(where: str | Path, patience: Patience | None = None) -> BaseStorage:
    """The storage at a database's address, such as `postgresql+psycopg://user@host/name`, or in a journal file.

    Args:
        where: the address, or the journal.
        patience: with a database that was there once; None has none.

    Raises:
        ValueError: the database cannot be reached, or no driver for it is installed, or the journal is damaged, or the
            file system knows no locks.
    """
    if isinstance(where, Path):
        return open_journal(where)
    try:
        storage = open_database(where)
    except ImportError as error:
        raise ValueError(
            f'--storage {shown(where)}: {error}; for PostgreSQL: pip install "scmrl-app[postgresql]"'
        ) from error
    except Exception as error:  # every driver has exceptions of its own
        raise ValueError(f"--storage {shown(where)} cannot be opened: {str(error).splitlines()[0]}") from error
    if patience is not None:
        event.listen(storage.engine, "do_connect", patience.connect)
    return storage


def open_database(address: str) -> RDBStorage:
    """The storage in a database, which gets its tables if it is new.

    Raises:
        Exception: whatever the driver raises, if the database cannot be reached.
    """
    engine = create_engine(address, poolclass=NullPool)
    with engine.connect() as connection:
        if connection.dialect.name == "postgresql":
            # Optuna makes tables without a look at others, who find the new database at the same moment and fail.
            connection.exec_driver_sql(f"SELECT pg_advisory_xact_lock({MAKING_TABLES})")
        # A connection that rests while a model trains may be cut on the way, so it is tried before it is used.
        return RDBStorage(address, engine_kwargs={"pool_pre_ping": True})


def shown(address: str) -> str:
    """A database's address without its password, wherever it has one."""
    address = re.sub(r"([?&]password=)[^&]*", r"\1...", address)
    before, at, host = address.rpartition("@")
    scheme, slashes, user = before.partition("://")
    return f"{scheme}{slashes}{user.partition(':')[0]}{at}{host}" if at else address


def open_journal(path: Path) -> JournalStorage:
    """The storage in a journal file, which is made if it is new.

    Raises:
        ValueError: the journal is damaged, or the file system knows no locks.
    """
    path = path.resolve()
    lock = JournalFileOpenLock(str(path)) if fcntl is None else JournalLock(path)
    backend = JournalFileBackend(str(path), lock)
    try:
        lock.acquire()
        lock.release()
    except OSError as error:
        raise ValueError(
            f"{path} cannot be locked ({error.strerror}), so processes cannot share it: put --out on another file "
            "system, or keep the list of work in a database, --storage postgresql+psycopg://user@host/name"
        ) from error
    try:
        _check_last_line(path)
        return JournalStorage(backend)
    except OSError:
        raise
    except Exception as error:  # Optuna checks nothing of what it reads, so damage shows as any error
        reason = " ".join(f"{type(error).__name__}: {error}".split()).removesuffix(":")
        raise ValueError(
            f"{path} is damaged ({reason}); restore it from a backup, or begin anew with another --out"
        ) from error


class JournalLock(JournalFileOpenLock):
    """One process at a time appends to a journal, and finds it whole.

    Args:
        journal: the file.
    """

    def __init__(self, journal: Path) -> None:
        super().__init__(str(journal))
        self._journal = journal
        self._held: BinaryIO | None = None

    def acquire(self) -> bool:
        """Wait for the lock, and cut off half a line at the journal's end.

        Raises:
            OSError: the file system knows no locks.
        """
        assert fcntl is not None
        held = self._journal.with_name(self._journal.name + ".lock").open("ab")
        try:
            fcntl.flock(held, fcntl.LOCK_EX)
            cut_half_a_line(self._journal)
        except BaseException:
            held.close()
            raise
        self._held = held
        return True

    def release(self) -> None:
        """Let the next one in."""
        assert fcntl is not None
        assert self._held is not None
        # Closing is not enough: a process that was forked in the meantime, to read samples, holds the file open, too.
        fcntl.flock(self._held, fcntl.LOCK_UN)
        self._held.close()
        self._held = None


def cut_half_a_line(journal: Path) -> None:
    """Shorten a file to its last whole line."""
    with journal.open("rb+") as file:
        end = size = file.seek(0, os.SEEK_END)
        while end and _byte(file, end - 1) != b"\n":
            end -= 1
        if end < size:
            file.truncate(end)


def _check_last_line(journal: Path) -> None:
    """Refuse a last line that is no JSON: Optuna takes it for one that is being written, and appends to it.

    Raises:
        ValueError: it is none.
    """
    lines = journal.read_bytes().splitlines()
    if lines:
        json.loads(lines[-1])


def _byte(file: BinaryIO, at: int) -> bytes:
    file.seek(at)
    return file.read(1)
