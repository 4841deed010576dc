"""A reader: from a file as it lies on disk to one of the five kinds of recording."""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

from snn_datasets.kinds import RecordingKind
from snn_datasets.stage import Value

if TYPE_CHECKING:
    from snn_datasets.recordings import Recording


class ReadError(ValueError):
    """A file is not what it should be: damaged, cut off, of another format. Its text names the file and what to do."""


@dataclass(frozen=True, slots=True)
class Source:
    """Where one recording lies."""

    path: Path
    """The file."""
    part: tuple[str | int | float, ...] = ()
    """What of the file, where it holds several recordings: a key of an HDF5 file, the bounds of a window, ..."""

    def __str__(self) -> str:
        return f"{self.path}" + (f" [{', '.join(map(str, self.part))}]" if self.part else "")


class Reader(Value):
    """Reads one format. Subclasses say which kind of recording they give."""

    gives: ClassVar[RecordingKind]
    """The kind of recording."""

    @abstractmethod
    def read(self, source: Source) -> Recording:
        """Read one recording.

        Raises:
            FileNotFoundError: there is no such file.
            ReadError: the file cannot be read as this format; nothing else is raised whatever the file holds.
            ImportError: a package is needed; the text says which extra brings it.
        """

    def open_file(self, source: Source) -> Path:
        """The path of a source that is there and is no placeholder.

        Raises:
            FileNotFoundError: there is no such file.
            ReadError: it is empty, a Git-LFS pointer or a web page, as failed downloads leave them.
        """
        if not source.path.is_file():
            raise FileNotFoundError(f"no file at {source.path}")
        problem = placeholder(source.path)
        if problem:
            raise ReadError(f"{source.path} {problem}")
        return source.path


def placeholder(path: Path) -> str | None:
    """What a file is instead of data, and what to do; None if it may be data."""
    with path.open("rb") as file:
        head = file.read(256)
    if not head:
        return "is empty; fetch it again"
    if head.startswith(b"version https://git-lfs"):
        return "is a Git-LFS pointer, not the file itself; run `git lfs pull` where it was cloned"
    if head.lstrip(b"\xef\xbb\xbf \t\r\n")[:14].lower().startswith((b"<!doctype html", b"<html")):
        return "is a web page, not the file itself: the download asked for a login or the link is dead; fetch it again"
    return None
