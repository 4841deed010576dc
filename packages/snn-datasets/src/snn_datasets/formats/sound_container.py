"""Detection of truncated sound files from the structure of their container.

Decoders read a truncated file without an error. Most containers state the length of their sound: WAV, RF64, W64, AIFF,
AU and CAF in bytes, an Ogg stream marks its last page, and an MP3 file with a Xing, Info or VBRI header states its
bytes. In an MP3 file without one, a plain stream of frames, truncation cannot be detected.
"""

from __future__ import annotations

import io
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

MOST_CHUNKS = 10_000
"""Chunks inspected before the sound; real files have a handful."""
UNKNOWN_FROM = 0x7F00_0000
"""Lengths from here on are unknown: programs that write to a pipe state 0, 2 GB less some kB, or the maximum."""
OGG_TAIL = 2**17
"""Bytes at the end of an Ogg file that contain the start of the last page, of at most 65,307 bytes."""

_W64_RIFF = b"riff\x2e\x91\xcf\x11\xa5\xd6\x28\xdb\x04\xc1\x00\x00"
_W64_DATA = b"data\xf3\xac\xd3\x11\x8c\xd1\x00\xc0\x4f\x8e\xdb\x8a"


@dataclass(frozen=True, slots=True)
class ContainerCheck:
    """Result of inspecting the container of a sound file."""

    damage: str | None = None
    """The damage, to follow "the file"; None if there is none, or it cannot be detected."""
    length_offset: int | None = None
    """Byte offset of a length field (4 bytes, little-endian) that is wrongly 0; None if the field is right."""


def inspect_container(path: Path) -> ContainerCheck:
    """Inspect the container of a sound file; unknown formats pass."""
    size = path.stat().st_size
    with path.open("rb") as file:
        head = file.read(16)
        file.seek(0)
        match head[:4]:
            case b"RIFF" | b"RIFX" | b"RF64" | b"BW64":
                return _wav(file, size)
            case b"FORM":
                return _length_of(_aiff_chunks(file, size), b"SSND", size)
            case b"caff":
                return _length_of(_caf_chunks(file, size), b"data", size)
            case b".snd" | b"dns.":
                return _au(file, size)
            case b"OggS":
                return _ogg(file, size)
            case b"riff" if head == _W64_RIFF:
                return _length_of(_w64_chunks(file, size), _W64_DATA, size)
            case _:
                return _mp3(file, size)


class LengthPatchedFile(io.FileIO):
    """A WAV file without a sound length, read as if it stated the number of bytes that follow."""

    def __init__(self, path: Path, length_offset: int) -> None:
        super().__init__(path)
        self._length_offset = length_offset
        self._length = struct.pack("<I", min(path.stat().st_size - length_offset - 4, 0xFFFF_FFFF))

    def readinto(self, buffer: object, /) -> int:
        """Read bytes, with the length filled in."""
        view = memoryview(buffer).cast("B")  # pyright: ignore[reportArgumentType]
        begin = self.tell()
        count = super().readinto(view)
        for offset, byte in enumerate(self._length, start=self._length_offset - begin):
            if 0 <= offset < count:
                view[offset] = byte
        return count


def _wav(file: BinaryIO, size: int) -> ContainerCheck:
    head = file.read(12)
    if head[8:] != b"WAVE":
        return ContainerCheck()
    order = ">" if head[:4] == b"RIFX" else "<"
    claimed = struct.unpack(order + "I", head[4:8])[0]
    long_length: int | None = None
    for name, length, begin in _chunks(file, size, f"{order}4sI", even=True):
        if name == b"ds64" and head[:4] != b"RIFF":
            sizes = file.read(16)
            long_length = struct.unpack("<Q", sizes[8:])[0] if len(sizes) == 16 else None
        if name != b"data":
            continue
        if long_length is not None and length == 0xFFFF_FFFF:
            return _truncation(long_length, begin, size)
        # If the file ends where its header says, the bytes after a sound of length 0 are other chunks.
        if length == 0 and begin < size and order == "<" and abs(claimed + 8 - size) > 1:
            return ContainerCheck(length_offset=begin - 4)
        return ContainerCheck() if length >= UNKNOWN_FROM else _truncation(length, begin, size)
    return ContainerCheck()


def _truncation(length: int, begin: int, size: int) -> ContainerCheck:
    missing = begin + length - size
    if missing <= 0:
        return ContainerCheck()
    return ContainerCheck(f"is truncated, {missing:,} of its {length:,} bytes of sound are missing")


def _length_of(chunks: Iterator[tuple[bytes, int, int]], sound_chunk: bytes, size: int) -> ContainerCheck:
    for name, length, begin in chunks:
        if name == sound_chunk:
            unknown = length < 0 or (UNKNOWN_FROM <= length <= 0xFFFF_FFFF and begin + length > size)
            return ContainerCheck() if unknown else _truncation(length, begin, size)
    return ContainerCheck()


def _chunks(file: BinaryIO, size: int, form: str, *, even: bool) -> Iterator[tuple[bytes, int, int]]:
    """Yield name, length and start of each chunk; the file is positioned at the start of the current one."""
    for _ in range(MOST_CHUNKS):
        head = file.read(struct.calcsize(form))
        if len(head) < struct.calcsize(form):
            return
        name, length = struct.unpack(form, head)
        begin = file.tell()
        yield name, length, begin
        if not 0 <= length < size - begin:
            return
        file.seek(begin + length + (length % 2 if even else 0))


def _aiff_chunks(file: BinaryIO, size: int) -> Iterator[tuple[bytes, int, int]]:
    head = file.read(12)
    return _chunks(file, size, ">4sI", even=True) if head[8:] in (b"AIFF", b"AIFC") else iter(())


def _caf_chunks(file: BinaryIO, size: int) -> Iterator[tuple[bytes, int, int]]:
    file.seek(8)
    return _chunks(file, size, ">4sq", even=False)


def _w64_chunks(file: BinaryIO, size: int) -> Iterator[tuple[bytes, int, int]]:
    """Yield the chunks of W64, whose lengths include their 24-byte header and which are aligned to 8 bytes."""
    file.seek(40)
    for _ in range(MOST_CHUNKS):
        head = file.read(24)
        if len(head) < 24:
            return
        length = struct.unpack("<q", head[16:])[0]
        begin = file.tell()
        if length < 24:
            return
        yield head[:16], length - 24, begin
        if length > size - begin:
            return
        file.seek(begin + (length - 24 + 7) // 8 * 8)


def _au(file: BinaryIO, size: int) -> ContainerCheck:
    head = file.read(12)
    if len(head) < 12:
        return ContainerCheck()
    begin, length = struct.unpack((">" if head[:4] == b".snd" else "<") + "II", head[4:])
    return ContainerCheck() if length == 0xFFFF_FFFF else _truncation(length, begin, size)


def _ogg(file: BinaryIO, size: int) -> ContainerCheck:
    start = max(0, size - OGG_TAIL)
    file.seek(start)
    tail = file.read(OGG_TAIL)
    at = tail.rfind(b"OggS")
    if at < 0:
        return ContainerCheck("is damaged: there is no Ogg page at its end")
    page = tail[at:]
    if len(page) < 27 or len(page) < 27 + page[26]:
        return ContainerCheck("is truncated within its last page")
    length = 27 + page[26] + sum(page[27 : 27 + page[26]])
    if len(page) < length:
        return ContainerCheck(f"is truncated, {length - len(page):,} bytes of its last page are missing")
    if not page[5] & 4:
        return ContainerCheck("is truncated: its last page does not end its stream")
    return ContainerCheck()


def _mp3(file: BinaryIO, size: int) -> ContainerCheck:
    """Check the number of bytes in the encoder's header, counted from the header's frame on."""
    begin = 0
    head = file.read(10)
    if head[:3] == b"ID3" and len(head) == 10:
        begin = 10 + sum((byte & 0x7F) << shift for byte, shift in zip(head[6:], (21, 14, 7, 0), strict=True))
    file.seek(begin)
    frame = file.read(256)
    if len(frame) < 64 or frame[0] != 0xFF or frame[1] & 0xE0 != 0xE0:
        return ContainerCheck()
    is_mpeg1, is_mono = frame[1] & 0x18 == 0x18, frame[3] >> 6 == 3
    at = 4 + ((17 if is_mono else 32) if is_mpeg1 else (9 if is_mono else 17))
    if frame[at : at + 4] in (b"Xing", b"Info"):
        flags = struct.unpack(">I", frame[at + 4 : at + 8])[0]
        offset = at + 8 + (4 if flags & 1 else 0)
        length = struct.unpack(">I", frame[offset : offset + 4])[0] if flags & 2 else 0
    elif frame[36:40] == b"VBRI":
        length = struct.unpack(">I", frame[46:50])[0]
    else:
        return ContainerCheck()
    return _truncation(length, begin, size)
