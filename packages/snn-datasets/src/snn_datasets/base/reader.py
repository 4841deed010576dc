"""Readers: from a file on disk to one of the five kinds of recording."""

from __future__ import annotations

import math
from abc import abstractmethod
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

from snn_datasets.base.kinds import RecordingKind
from snn_datasets.base.stage import Fingerprinted

if TYPE_CHECKING:
    from snn_datasets.base.recordings import Recording


LFS_POINTER = b"version https://git-lfs"
"""The first bytes of a Git-LFS pointer."""


class ReadError(ValueError):
    """A file cannot be read: it is damaged, truncated or has another format. The message names the file and a fix."""


@dataclass(frozen=True, slots=True)
class Source:
    """The location of one recording."""

    path: Path
    """The file."""
    part: tuple[str | int | float, ...] = ()
    """Part of a file with several recordings: a key of an HDF5 file, the bounds of a window, ..."""

    def seconds(self) -> tuple[float, float] | None:
        """Return the part as start and stop in seconds; None means the whole file.

        Raises:
            ReadError: the part is not such a pair.
        """
        if not self.part:
            return None
        try:
            start, stop = (float(bound) for bound in self.part)
        except ValueError:
            start = stop = math.nan
        if not (0 <= start <= stop < math.inf):
            raise ReadError(
                f"{self}: the part must be (start, stop) in seconds, 0 <= start <= stop, such as (1.5, 2.0)"
            )
        return start, stop

    def __str__(self) -> str:
        return f"{self.path}" + (f" [{', '.join(map(str, self.part))}]" if self.part else "")


class Reader(Fingerprinted):
    """Reads one file format into one kind of recording."""

    gives: ClassVar[RecordingKind]
    """The kind of recording that `read` returns."""

    @abstractmethod
    def read(self, source: Source) -> Recording:
        """Read one recording.

        Raises:
            FileNotFoundError: the file does not exist.
            ReadError: the file cannot be read as this format; no other exception is raised for any file content.
            ImportError: a package is missing; the message names the extra to install.
        """

    def open_file(self, source: Source) -> Path:
        """Return the path of a source after checking that the file exists and is not a placeholder.

        Raises:
            FileNotFoundError: the file does not exist.
            ReadError: it is empty, a Git-LFS pointer or a web page, as failed downloads leave.
        """
        if not source.path.is_file():
            raise FileNotFoundError(f"no file at {source.path}")
        problem = placeholder(source.path)
        if problem:
            raise ReadError(f"{source.path} {problem}")
        return source.path


def placeholder(path: Path) -> str | None:
    """Describe a file that is a placeholder instead of data, and the fix; None if it may be data."""
    with path.open("rb") as file:
        head = file.read(256)
    if not head:
        return "is empty; fetch it again"
    if head.startswith(LFS_POINTER):
        return "is a Git-LFS pointer, not the file itself; run `git lfs pull` where it was cloned"
    if is_web_page(head):
        return "is a web page, not the file itself: the download asked for a login or the link is dead; fetch it again"
    return None


def is_web_page(head: bytes) -> bool:
    """Check whether a file that begins with these bytes is an HTML page."""
    return head.lstrip(b"\xef\xbb\xbf \t\r\n")[:14].lower().startswith((b"<!doctype html", b"<html"))
