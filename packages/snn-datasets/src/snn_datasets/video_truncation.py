"""Whether a video file ends before it says that it does: FFmpeg reads what is left as if it were all.

MP4 and MOV, Matroska and WebM, AVI, FLV and Ogg are made of elements that state their size; the last one of a file that
was cut off reaches beyond its end. MPEG program and transport streams state nothing, so nothing is said of them.
"""

from __future__ import annotations

import os
import struct
from collections.abc import Callable
from pathlib import Path
from typing import BinaryIO

MOST_ELEMENTS = 1_000_000
"""Looked at in one file; a recording of some hours has fewer."""
LONGEST_SCRIPT = 2**16
"""Bytes of an FLV file's script tag among which its duration is looked for."""


def truncation(path: Path) -> str | None:
    """How a video file is cut off, in words that follow "it is cut off: "; None if nothing shows that it is.

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
    """What to say of a file whose last element reaches so many bytes beyond its end; others may be lost behind it."""
    return f"its last part lacks {missing:,} bytes"


def _mp4(file: BinaryIO, size: int) -> str | None:
    """Boxes of MP4 and MOV: size and type, 32 bits each; size 1 is followed by 64 bits, size 0 reaches to the end."""
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
    """EBML elements: id and size of 1 to 8 bytes each; a size of ones alone is unknown, as in a live recording."""
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
        # Otherwise its children follow, one after the other.
    return None


def _riff(file: BinaryIO, size: int) -> str | None:
    """RIFF lists, one after the other in a large AVI file; one that was written to a pipe claims no or any size."""
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
    """Tags of FLV: type, size (24 bits), time in ms (24 bits, then the upper 8), then the size of the tag again."""
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
    # The last frame lasts a little, and tools round.
    if duration - last / 1000 > max(0.5, 0.1 * duration):
        return f"it lasts {duration:.3g} s as it says itself, but it ends after {last / 1000:.3g} s"
    return None


def _flv_duration(script: bytes) -> float:
    """Seconds that the script tag states; 0 where it states none, or none that can be."""
    name = b"\x00\x08duration\x00"
    _, matched, value = script.partition(name)
    if not matched or len(value) < 8:
        return 0.0
    seconds = float(struct.unpack(">d", value[:8])[0])
    return seconds if 0 < seconds < 1e6 else 0.0


def _ogg(file: BinaryIO, size: int) -> str | None:
    """Pages of Ogg: 27 bytes, of which the last is the number of segments, the size of each, and the segments."""
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
