"""Detection of truncated video files, which FFmpeg reads without an error as if they were complete.

MP4 and MOV, Matroska and WebM, AVI, FLV and Ogg consist of elements that state their size; in a truncated file the last
one extends beyond the end. MPEG program and transport streams state no sizes, so truncation cannot be detected.
"""

from __future__ import annotations

import os
import struct
from collections.abc import Callable
from pathlib import Path
from typing import BinaryIO

MOST_ELEMENTS = 1_000_000
"""Elements inspected in one file; a recording of some hours has fewer."""
LONGEST_SCRIPT = 2**16
"""Bytes of an FLV script tag that are searched for the duration."""


def truncation(path: Path) -> str | None:
    """Describe how a video file is truncated, to follow "it is truncated: "; None if no truncation is detected.

    Raises:
        OSError: the file cannot be read.
    """
    with path.open("rb") as file:
        head = file.read(12)
        for begins, check in _CHECKS:
            if begins(head):
                file.seek(0)
                return check(file, os.fstat(file.fileno()).st_size)
    return None


def _missing(missing: int) -> str:
    """Describe a file whose last element extends beyond its end; further elements may be lost as well."""
    return f"its last element lacks {missing:,} bytes"


def _mp4(file: BinaryIO, size: int) -> str | None:
    """Check the boxes of MP4 and MOV: 32-bit size and type; size 1: a 64-bit size follows, size 0: to the end."""
    start = 0
    for _ in range(MOST_ELEMENTS):
        file.seek(start)
        head = file.read(16)
        if len(head) < 8 or not head[4:8].isalnum():
            return None
        length = int.from_bytes(head[:4], "big")
        if length == 1:
            length = int.from_bytes(head[8:16], "big")
        if length < 8:
            return None
        start += length
        if start > size:
            return _missing(start - size)
    return None


def _matroska(file: BinaryIO, size: int) -> str | None:
    """Check EBML elements: id and size of 1 to 8 bytes each; all bits set is an unknown size, as in live recordings."""
    start = 0
    for _ in range(MOST_ELEMENTS):
        file.seek(start)
        head = file.read(16)
        id_length = 9 - head[0].bit_length() if head else 9
        rest = head[id_length:]
        length = 9 - rest[0].bit_length() if rest else 9
        if id_length > 4 or length > 8 or len(rest) < length:
            return None
        number = int.from_bytes(rest[:length], "big") & (1 << 7 * length) - 1
        start += id_length + length
        if number < (1 << 7 * length) - 1:
            start += number
            if start > size:
                return _missing(start - size)
        # If the size is unknown, the children are checked next.
    return None


def _riff(file: BinaryIO, size: int) -> str | None:
    """Check RIFF lists, several in a large AVI file; one written to a pipe states size 0 or an arbitrary one."""
    start = 0
    for _ in range(MOST_ELEMENTS):
        file.seek(start)
        head = file.read(8)
        length = int.from_bytes(head[4:], "little")
        if head[:4] != b"RIFF" or length == 0 or length >= 0x7FFF_F000:
            return None
        start += 8 + length
        if start > size:
            return _missing(start - size)
        start += length % 2
    return None


def _flv(file: BinaryIO, size: int) -> str | None:
    """Check FLV tags: type, size (24 bits), time in ms (24 bits, then the upper 8), data, and the tag size again."""
    file.seek(5)
    start = int.from_bytes(file.read(4), "big") + 4
    duration, last = 0.0, 0
    for _ in range(MOST_ELEMENTS):
        file.seek(start)
        head = file.read(11)
        if len(head) < 11:
            break
        kind, length = head[0] & 0x1F, int.from_bytes(head[1:4], "big")
        if kind not in {8, 9, 18}:
            return None
        if kind == 18:
            duration = duration or _flv_duration(file.read(min(length, LONGEST_SCRIPT)))
        else:
            last = max(last, head[7] << 24 | int.from_bytes(head[4:7], "big"))
        start += 11 + length
        if start > size:
            return _missing(start - size)
        start += 4
    # Tolerance for the duration of the last frame and for rounding by tools.
    if duration - last / 1000 > max(0.5, 0.1 * duration):
        return f"it states a duration of {duration:.3g} s, but ends after {last / 1000:.3g} s"
    return None


def _flv_duration(script: bytes) -> float:
    """Return the duration in seconds that the script tag states; 0 if it states none or an impossible one."""
    name = b"\x00\x08duration\x00"
    _, matched, value = script.partition(name)
    if not matched or len(value) < 8:
        return 0.0
    seconds = float(struct.unpack(">d", value[:8])[0])
    return seconds if 0 < seconds < 1e6 else 0.0


def _ogg(file: BinaryIO, size: int) -> str | None:
    """Check Ogg pages: 27 bytes, the last of them the number of segments, then the size of each, then the segments."""
    start = 0
    for _ in range(MOST_ELEMENTS):
        file.seek(start)
        head = file.read(27)
        if head[:4] != b"OggS"[: len(head)] or not head:
            return None
        lengths = file.read(head[26]) if len(head) == 27 else b""
        start += 27 + len(lengths) + sum(lengths)
        if start > size or len(head) < 27 or len(lengths) < head[26]:
            return _missing(max(1, start - size))
    return None


_CHECKS: tuple[tuple[Callable[[bytes], bool], Callable[[BinaryIO, int], str | None]], ...] = (
    (lambda head: head[4:8] in {b"ftyp", b"moov", b"mdat", b"wide", b"free", b"skip"}, _mp4),
    (lambda head: head.startswith(b"\x1a\x45\xdf\xa3"), _matroska),
    (lambda head: head.startswith(b"RIFF") and head[8:] == b"AVI ", _riff),
    (lambda head: head.startswith(b"FLV"), _flv),
    (lambda head: head.startswith(b"OggS"), _ogg),
)
