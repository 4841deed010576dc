"""Writing files so that each is complete or as it was before."""

from __future__ import annotations

import errno
from collections.abc import Generator
from contextlib import contextmanager, suppress
from pathlib import Path


@contextmanager
def atomic_write(path: Path, *, part: Path | None = None) -> Generator[Path, None, None]:
    """A path beside another to write to; it takes the other's place when the block ends.

    After an error the part is removed and what was there before is unchanged.

    Args:
        path: the file.
        part: what to write to, on the same file system; by default `path` with `.part` added to its name. Give one of
            its own to each of several processes that write the same file.

    Raises:
        OSError: it cannot be written; the text names the file and says why, such as a full disk.
    """
    part = part or path.with_name(f"{path.name}.part")
    try:
        yield part
        part.replace(path)
    except OSError as error:
        raise unwritable(path, error) from error
    finally:
        with suppress(OSError):
            part.unlink(missing_ok=True)


def write_bytes(path: Path, content: bytes) -> None:
    """Write a whole file; errors as of `writing`."""
    with atomic_write(path) as part:
        part.write_bytes(content)


def write_text(path: Path, text: str) -> None:
    """Write a whole file in UTF-8; errors as of `writing`."""
    write_bytes(path, text.encode())


def unwritable(path: Path, error: OSError) -> OSError:
    """The error of a file that cannot be written, in a line that names it."""
    failure = OSError(f"{path} cannot be written: {reason(error)}; what was there before is unchanged")
    failure.errno = error.errno  # not given to the constructor, which would put it into the text
    return failure


def reason(error: OSError) -> str:
    """Why something cannot be written, in words; of a full disk, what to do."""
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return "the disk is full: free some space"
    return error.strerror or str(error)
