"""The storage of the work queue: a database or a journal file.

Many processes append to a journal, and any of them may be killed at any moment. Optuna's lock is a file that a killed
process leaves behind: others wait half a minute before they remove it, forever where the path is relative (the lock is
a link that then points nowhere, so its age cannot be read), and two of them may remove it at once. The lock here is the
operating system's (flock), which ends with its holder. A holder that was killed, or whose disk was full, may leave a
partial line, which would make the journal unreadable once another line follows; the next holder truncates it.
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

from scmrl.study.queue.outage import Reconnect

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None

CREATE_TABLES_LOCK = 0x5C3217
"""Key of the advisory lock held while tables are created; an arbitrary number that nothing else uses."""


def open_storage(location: str | Path, reconnect: Reconnect | None = None) -> BaseStorage:
    """Open the storage in a database, such as `postgresql+psycopg://user@host/name`, or in a journal file.

    Args:
        location: the database address, or the journal.
        reconnect: waits while the database is down; None: fail at once.

    Raises:
        ValueError: the database cannot be reached, its driver is not installed, the journal is damaged, or the file
            system does not support locks.
    """
    if isinstance(location, Path):
        return open_journal(location)
    try:
        storage = open_database(location)
    except ImportError as error:
        raise ValueError(
            f'--storage {hide_password(location)}: {error}; for PostgreSQL: pip install "scmrl-app[postgresql]"'
        ) from error
    except Exception as error:  # every driver has its own exceptions
        message = str(error).splitlines()[0]
        raise ValueError(f"--storage {hide_password(location)} cannot be opened: {message}") from error
    if reconnect is not None:
        event.listen(storage.engine, "do_connect", reconnect.connect)
    return storage


def open_database(address: str) -> RDBStorage:
    """Open the storage in a database; create its tables if it is new.

    Raises:
        Exception: any exception of the driver, if the database cannot be reached.
    """
    engine = create_engine(address, poolclass=NullPool)
    with engine.connect() as connection:
        if connection.dialect.name == "postgresql":
            # Optuna creates tables without a lock: processes that open a new database at the same time would fail.
            connection.exec_driver_sql(f"SELECT pg_advisory_xact_lock({CREATE_TABLES_LOCK})")
        # An idle connection may be cut while a model trains, so it is tested before use.
        return RDBStorage(address, engine_kwargs={"pool_pre_ping": True})


def hide_password(address: str) -> str:
    """Return a database address without its password."""
    address = re.sub(r"([?&]password=)[^&]*", r"\1...", address)
    before, at, host = address.rpartition("@")
    scheme, slashes, user = before.partition("://")
    return f"{scheme}{slashes}{user.partition(':')[0]}{at}{host}" if at else address


def open_journal(path: Path) -> JournalStorage:
    """Open the storage in a journal file; create the file if it is new.

    Raises:
        ValueError: the journal is damaged, or the file system does not support locks.
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
            "system, or keep the work queue in a database, --storage postgresql+psycopg://user@host/name"
        ) from error
    try:
        _check_last_line(path)
        return JournalStorage(backend)
    except OSError:
        raise
    except Exception as error:  # Optuna validates nothing that it reads, so damage may raise any error
        reason = " ".join(f"{type(error).__name__}: {error}".split()).removesuffix(":")
        raise ValueError(
            f"{path} is damaged ({reason}); restore it from a backup, or start again with another --out"
        ) from error


class JournalLock(JournalFileOpenLock):
    """Lets one process at a time append to a journal, and removes a partial last line first.

    Args:
        journal: the file.
    """

    def __init__(self, journal: Path) -> None:
        super().__init__(str(journal))
        self._journal = journal
        self._lock_file: BinaryIO | None = None

    def acquire(self) -> bool:
        """Wait for the lock, and truncate a partial line at the journal's end.

        Raises:
            OSError: the file system does not support locks.
        """
        assert fcntl is not None
        lock_file = self._journal.with_name(self._journal.name + ".lock").open("ab")
        try:
            fcntl.flock(lock_file, fcntl.LOCK_EX)
            truncate_partial_line(self._journal)
        except BaseException:
            lock_file.close()
            raise
        self._lock_file = lock_file
        return True

    def release(self) -> None:
        """Release the lock."""
        assert fcntl is not None
        assert self._lock_file is not None
        # Closing is not enough: a data-loading process forked in the meantime also holds the file open.
        fcntl.flock(self._lock_file, fcntl.LOCK_UN)
        self._lock_file.close()
        self._lock_file = None


def truncate_partial_line(journal: Path) -> None:
    """Truncate a file after its last complete line."""
    with journal.open("rb+") as file:
        end = size = file.seek(0, os.SEEK_END)
        while end and _read_byte(file, end - 1) != b"\n":
            end -= 1
        if end < size:
            file.truncate(end)


def _check_last_line(journal: Path) -> None:
    """Verify that the last line is JSON: Optuna would take other text for a line being written, and append to it.

    Raises:
        ValueError: it is not JSON.
    """
    lines = journal.read_bytes().splitlines()
    if lines:
        json.loads(lines[-1])


def _read_byte(file: BinaryIO, offset: int) -> bytes:
    file.seek(offset)
    return file.read(1)
