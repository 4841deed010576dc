"""Whether a sound file is whole, by the structure of its container.

Decoders read a file that is cut off as if what is left were all. Most containers say how long their sound is: WAV,
RF64, W64, AIFF, AU and CAF state its bytes, an Ogg stream marks its last page, and an MP3 file whose encoder wrote a
Xing, Info or VBRI header states its bytes. An MP3 file without one, a plain stream of frames, says nothing, so a cut
cannot be seen.
"""

from __future__ import annotations

import io
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

MOST_CHUNKS = 10_000
"""Chunks looked at before the sound; real files have a handful."""
UNKNOWN_FROM = 0x7F00_0000
"""Programs that write to a pipe do not know the length: they claim none, 2 GB less some kB, or all there can be."""
OGG_TAIL = 2**17
"""Bytes at the end of an Ogg file in which the last page, of at most 65,307 bytes, begins."""

_W64_RIFF = b"riff\x2e\x91\xcf\x11\xa5\xd6\x28\xdb\x04\xc1\x00\x00"
_W64_DATA = b"data\xf3\xac\xd3\x11\x8c\xd1\x00\xc0\x4f\x8e\xdb\x8a"


@dataclass(frozen=True, slots=True)
class Sound:
    """What the container of a file says of its sound."""

    damage: str | None = None
    """How the file is not whole, to follow "the file"; None where it is, or the container does not tell."""
    length_at: int | None = None
    """Where the length of the sound stands as a wrong 0, little-endian in 4 bytes; None where it is not wrong."""


def examine(path: Path) -> Sound:
    """Look at the container of a sound file; one of an unknown format tells nothing."""
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


class LengthFilled(io.FileIO):
    """A WAV file whose sound states no length, as if it stated that of all the bytes behind it."""

    def __init__(self, path: Path, length_at: int) -> None:
        super().__init__(path)
        self._at = length_at
        self._length = struct.pack("<I", min(path.stat().st_size - length_at - 4, 0xFFFF_FFFF))

    def readinto(self, buffer: object, /) -> int:
        """Read on, with the length filled in."""
        view = memoryview(buffer).cast("B")  # pyright: ignore[reportArgumentType]
        begin = self.tell()
        count = super().readinto(view)
        for offset, byte in enumerate(self._length, start=self._at - begin):
            if 0 <= offset < count:
                view[offset] = byte
        return count


def _wav(file: BinaryIO, size: int) -> Sound:
    head = file.read(12)
    if head[8:] != b"WAVE":
        return Sound()
    order = ">" if head[:4] == b"RIFX" else "<"
    claimed = struct.unpack(order + "I", head[4:8])[0]
    wide: int | None = None
    for name, length, begin in _chunks(file, size, f"{order}4sI", even=True):
        if name == b"ds64" and head[:4] != b"RIFF":
            sizes = file.read(16)
            wide = struct.unpack("<Q", sizes[8:])[0] if len(sizes) == 16 else None
        if name != b"data":
            continue
        if wide is not None and length == 0xFFFF_FFFF:
            return _cut_off(wide, begin, size)
        # Where the file ends as its head says, what lies behind sound of length 0 are other chunks.
        if length == 0 and begin < size and order == "<" and abs(claimed + 8 - size) > 1:
            return Sound(length_at=begin - 4)
        return Sound() if length >= UNKNOWN_FROM else _cut_off(length, begin, size)
    return Sound()


def _cut_off(length: int, begin: int, size: int) -> Sound:
    missing = begin + length - size
    if missing <= 0:
        return Sound()
    return Sound(f"is cut off, {missing:,} of its {length:,} bytes of sound are missing")


def _length_of(chunks: Iterator[tuple[bytes, int, int]], wanted: bytes, size: int) -> Sound:
    for name, length, begin in chunks:
        if name == wanted:
            unknown = length < 0 or (UNKNOWN_FROM <= length <= 0xFFFF_FFFF and begin + length > size)
            return Sound() if unknown else _cut_off(length, begin, size)
    return Sound()


def _chunks(file: BinaryIO, size: int, form: str, *, even: bool) -> Iterator[tuple[bytes, int, int]]:
    """Name, length and first byte of each chunk from here on; the file stands at its first byte."""
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
    """Lengths of W64 count their own 24 bytes, and chunks begin at multiples of 8."""
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


def _au(file: BinaryIO, size: int) -> Sound:
    head = file.read(12)
    if len(head) < 12:
        return Sound()
    begin, length = struct.unpack((">" if head[:4] == b".snd" else "<") + "II", head[4:])
    return Sound() if length == 0xFFFF_FFFF else _cut_off(length, begin, size)


def _ogg(file: BinaryIO, size: int) -> Sound:
    start = max(0, size - OGG_TAIL)
    file.seek(start)
    tail = file.read(OGG_TAIL)
    at = tail.rfind(b"OggS")
    if at < 0:
        return Sound("is damaged: its last part holds no Ogg page")
    page = tail[at:]
    if len(page) < 27 or len(page) < 27 + page[26]:
        return Sound("is cut off within its last page")
    whole = 27 + page[26] + sum(page[27 : 27 + page[26]])
    if len(page) < whole:
        return Sound(f"is cut off, {whole - len(page):,} bytes of its last page are missing")
    if not page[5] & 4:
        return Sound("is cut off: its last page does not end its stream")
    return Sound()


def _mp3(file: BinaryIO, size: int) -> Sound:
    """Compare the bytes that the header of the encoder states, counted from its own frame on."""
    begin = 0
    head = file.read(10)
    if head[:3] == b"ID3" and len(head) == 10:
        begin = 10 + sum((byte & 0x7F) << shift for byte, shift in zip(head[6:], (21, 14, 7, 0), strict=True))
    file.seek(begin)
    frame = file.read(256)
    if len(frame) < 64 or frame[0] != 0xFF or frame[1] & 0xE0 != 0xE0:
        return Sound()
    is_mpeg1, is_mono = frame[1] & 0x18 == 0x18, frame[3] >> 6 == 3
    at = 4 + ((17 if is_mono else 32) if is_mpeg1 else (9 if is_mono else 17))
    if frame[at : at + 4] in (b"Xing", b"Info"):
        flags = struct.unpack(">I", frame[at + 4 : at + 8])[0]
        offset = at + 8 + (4 if flags & 1 else 0)
        length = struct.unpack(">I", frame[offset : offset + 4])[0] if flags & 2 else 0
    elif frame[36:40] == b"VBRI":
        length = struct.unpack(">I", frame[46:50])[0]
    else:
        return Sound()
    return _cut_off(length, begin, size)
