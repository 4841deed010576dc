"""Write files atomically: each is complete or unchanged."""

from __future__ import annotations

import errno
from collections.abc import Generator
from contextlib import contextmanager, suppress
from pathlib import Path


@contextmanager
def atomic_write(path: Path, *, part: Path | None = None) -> Generator[Path, None, None]:
    """Yield a temporary path to write to; it replaces `path` when the block ends.

    After an error the temporary file is removed and `path` is unchanged.

    Args:
        path: the file.
        part: temporary path on the same file system; by default `path` with `.part` appended. Processes that write the
            same file need different ones.

    Raises:
        OSError: it cannot be written; the message names the file and the reason, such as a full disk.
    """
    part = part or path.with_name(f"{path.name}.part")
    try:
        yield part
        part.replace(path)
    except OSError as error:
        raise write_error(path, error) from error
    finally:
        with suppress(OSError):
            part.unlink(missing_ok=True)


def write_bytes(path: Path, content: bytes) -> None:
    """Write a whole file; errors as in `atomic_write`."""
    with atomic_write(path) as part:
        part.write_bytes(content)


def write_text(path: Path, text: str) -> None:
    """Write a whole file in UTF-8; errors as in `atomic_write`."""
    write_bytes(path, text.encode())


def write_error(path: Path, error: OSError) -> OSError:
    """Return the error for a file that cannot be written, with a message that names it."""
    failure = OSError(f"{path} cannot be written: {write_error_reason(error)}; the previous content is unchanged")
    failure.errno = error.errno  # not passed to the constructor, which would put it into the message
    return failure


def write_error_reason(error: OSError) -> str:
    """Why a file cannot be written; for a full disk, what to do."""
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return "the disk is full: free some space"
    return error.strerror or str(error)
