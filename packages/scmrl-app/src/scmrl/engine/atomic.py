"""Writing files so that each is complete or as it was before."""

from __future__ import annotations

import errno
from collections.abc import Generator
from contextlib import contextmanager, suppress
from pathlib import Path


@contextmanager
def writing(path: Path) -> Generator[Path, None, None]:
    """A path beside another to write to; it takes the other's place when the block ends.

    After an error the part is removed and what was there before is unchanged.

    Raises:
        OSError: it cannot be written; the text names the file and says why, such as a full disk.
    """
    part = path.with_name(f"{path.name}.part")
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
    with writing(path) as part:
        part.write_bytes(content)


def write_text(path: Path, text: str) -> None:
    """Write a whole file in UTF-8; errors as of `writing`."""
    write_bytes(path, text.encode())


def unwritable(path: Path, error: OSError) -> OSError:
    """The error of a file that cannot be written, in a line that names it."""
    full = error.errno in (errno.ENOSPC, errno.EDQUOT)
    reason = "the disk is full: free some space" if full else (error.strerror or str(error))
    return OSError(f"{path} cannot be written: {reason}; what was there before is unchanged")
