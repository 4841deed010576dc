"""Readers of event camera recordings written by jAER and cAER: AEDAT 2.0 and 3.1.

The formats are described in iniVation's documentation, "AEDAT file formats". Coordinates are those of the file, without
a flip: y = 0 is the bottom row in AEDAT 2.0 and the top row in AEDAT 3.1.
"""

from __future__ import annotations

import struct
from functools import lru_cache
from pathlib import Path
from typing import ClassVar, Literal, NoReturn

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from snn_datasets.base.kinds import RecordingKind
from snn_datasets.base.reader import Reader, ReadError, Source
from snn_datasets.base.recordings import Events
from snn_datasets.formats.event_arrays import events_of
from snn_datasets.formats.file_signature import HEAD_BYTES, conversion_advice, format_of_bytes

LONGEST_HEADER = 2**20
"""Bytes of the header; jAER writes its settings there, some hundred kB at most."""

READER_OF = {"2.0": "aedat2", "3.1": "aedat3"}
"""Reader kind by version."""

_SIDE = 128
_POLARITY, _PACKET, _EVENT = 1, 28, 8
"""AEDAT 3.1: type of polarity events, bytes of a packet's header, bytes of an event."""

Columns = tuple[NDArray[np.int64], NDArray[np.uint16], NDArray[np.uint16], NDArray[np.uint8]]


class Aedat2Reader(Reader):
    """Reads AEDAT 2.0 files of a DVS128: lines that begin with #, then big-endian pairs of address and time in us.

    Bit 0 of an address is the polarity, bits 1 to 7 are x, bits 8 to 14 y; events with bit 15 are external markers and
    skipped. jAER displays x from right to left and y from the bottom. The recording starts at its first event; a clock
    overflow is unwrapped, and events are sorted by time.

    The part of a source is (start, end) in microseconds from that start.
    """

    kind: Literal["aedat2"] = "aedat2"
    """AEDAT 2.0 files."""
    gives: ClassVar[RecordingKind] = "events"
    relies_on: ClassVar[tuple[str, ...]] = ("snn_datasets.formats.event_arrays",)

    def read(self, source: Source) -> Events:
        """Read one recording of 128 x 128 pixels; it ends just after its last event, or at the end of the part."""
        path = self.open_file(source)
        data = path.read_bytes()
        start = _end_of_header(path, data, "2.0")
        if (len(data) - start) % 8:
            raise ReadError(
                f"{path} is truncated: its last event has {(len(data) - start) % 8} of 8 bytes; fetch it again"
            )
        pairs = np.frombuffer(data, ">u4", offset=start).reshape(-1, 2)
        address, stamp = pairs[:, 0].astype(np.int64), pairs[:, 1].astype(np.int64)
        is_pixel = address & 0x8000 == 0
        address, stamp = address[is_pixel], stamp[is_pixel]
        if len(address) and int(address.max()) > 0x7FFF:
            raise ReadError(
                f"{path} has the address {int(address.max()):#x}, but those of a DVS128 have 15 bits; it is from "
                "another camera, or damaged"
            )
        # Signed 32-bit differences remain right when the clock overflows.
        steps = np.diff(stamp).astype(np.uint32).view(np.int32).astype(np.int64)
        t = np.concatenate([np.zeros(min(1, len(stamp)), np.int64), steps]).cumsum()
        return events_of(
            source,
            t=t - t.min() if len(t) else t,
            x=address >> 1 & 0x7F,
            y=address >> 8,
            p=address & 1,
            size=(_SIDE, _SIDE),
            polarities=2,
        )


class Aedat3Reader(Reader):
    """Reads AEDAT 3.1 files: packets of polarity events; packets of other events are skipped.

    A packet has a little-endian header of 28 bytes (type int16, source int16, then int32: event size, offset of the
    time in it, time overflow, capacity, number of events, number of valid ones) and its events: a word of 32 bits
    (bit 0 valid, bit 1 polarity, bits 2 to 16 y, bits 17 to 31 x) and a time of 31 bits in microseconds, to which each
    overflow adds 2^31. Invalid events are skipped.

    The part of a source is (start, end) in microseconds of the file's clock, as in annotations; without one the
    recording starts at its first event. The last file is cached in memory, since a file holds many recordings.
    """

    kind: Literal["aedat3"] = "aedat3"
    """AEDAT 3.1 files."""
    gives: ClassVar[RecordingKind] = "events"
    relies_on: ClassVar[tuple[str, ...]] = ("snn_datasets.formats.event_arrays",)

    height: int = Field(default=128, ge=1, le=2**15)
    """Rows of the sensor."""
    width: int = Field(default=128, ge=1, le=2**15)
    """Columns of the sensor."""

    def read(self, source: Source) -> Events:
        """Read one recording; it ends just after its last event, or at the end of the part."""
        path = self.open_file(source)
        status = path.stat()
        t, x, y, p = _polarity_events(path, status.st_size, status.st_mtime_ns)
        _refuse_past_the_end(source, t)
        if not source.part and len(t):
            t = t - t.min()
        return events_of(source, t=t, x=x, y=y, p=p, size=(self.height, self.width), polarities=2)


def _refuse_past_the_end(source: Source, t: NDArray[np.int64]) -> None:
    """Refuse a part that ends long after the last event: it would be read as a recording with no motion.

    Raises:
        ReadError: less than half of the part lies before the last event.
    """
    if len(source.part) != 2 or not all(isinstance(bound, int) for bound in source.part):
        return  # `events_of` refuses it
    start, end = (int(bound) for bound in source.part)
    last = int(t.max()) if len(t) else -1
    if start < end and last - start < (end - start) // 2:
        reason = f"its last event is at {last} us" if len(t) else "it has no events"
        raise ReadError(
            f"{source} is past the end of the file: {reason}; fetch the file again, or correct the part (microseconds)"
        )


@lru_cache(maxsize=1)
def _polarity_events(path: Path, _size: int, _changed: int) -> Columns:
    """Return all polarity events of an AEDAT 3.1 file, with times of the file's clock.

    Cached by path, size and modification time: reading ten gestures of one file would decode it ten times.
    """
    data = path.read_bytes()
    position = _end_of_header(path, data, "3.1")
    words: list[NDArray[np.uint32]] = []
    times: list[NDArray[np.int64]] = []

    def fail(why: str) -> NoReturn:
        raise ReadError(f"{path}, byte {position}: {why}; fetch it again")

    while position < len(data):
        if len(data) - position < _PACKET:
            fail("the file is truncated in the header of a packet")
        kind, _source, size, offset, overflow, capacity, number, _valid = struct.unpack_from(
            "<hhiiiiii", data, position
        )
        if size < 1 or not 0 <= number <= capacity or overflow < 0:
            fail(f"a packet claims {number} events, a capacity of {capacity} x {size} bytes and overflow {overflow}")
        if capacity * size > len(data) - position - _PACKET:
            fail(f"a packet claims {capacity} events of {size} bytes, more than is left of the file; it is truncated")
        if kind == _POLARITY:
            if (size, offset) != (_EVENT, 4):
                fail(f"polarity events have {size} bytes and their time at byte {offset}, rather than 8 and 4")
            events = np.frombuffer(data, "<u4", 2 * number, position + _PACKET).reshape(number, 2)
            events = events[events[:, 0] & 1 == 1]
            if len(events) and int(events[:, 1].max()) >> 31:
                fail("an event has a negative time")
            words.append(events[:, 0])
            times.append(events[:, 1].astype(np.int64) + (overflow << 31))
        position += _PACKET + capacity * size
    word = np.concatenate([np.zeros(0, np.uint32), *words])
    columns: Columns = (
        np.concatenate([np.zeros(0, np.int64), *times]),
        (word >> 17).astype(np.uint16),
        (word >> 2 & 0x7FFF).astype(np.uint16),
        (word >> 1 & 1).astype(np.uint8),
    )
    for column in columns:
        column.flags.writeable = False  # they are cached
    return columns


def _end_of_header(path: Path, data: bytes, version: str) -> int:
    """Return the offset after the lines that begin with #, whose version must be the expected one."""
    position = 0
    while data[position : position + 1] == b"#":
        end = data.find(b"\n", position, LONGEST_HEADER)
        if end < 0:
            raise ReadError(f"{path}: its header does not end within {LONGEST_HEADER >> 20} MB; fetch it again")
        line = data[position:end].strip()
        if line.startswith(b"#!AER-DAT") and line != f"#!AER-DAT{version}".encode():
            stated = line.removeprefix(b"#!AER-DAT").decode("ascii", "replace")[:20]
            advice = (
                f"set its reader to {READER_OF[stated]}"
                if stated in READER_OF
                else "only 2.0 and 3.1 are supported: convert it to an .npz file of arrays x, y, t (in microseconds) "
                "and p for the reader events"
            )
            raise ReadError(f"{path} is AEDAT {stated}, but AEDAT {version} is expected; {advice}")
        if line.startswith(b"#Format:") and line != b"#Format: RAW":
            raise ReadError(f"{path} has compressed packets ({line.decode('ascii', 'replace')[1:40]}); save it as RAW")
        position = end + 1
        if line == b"#!END-HEADER":
            break
    if not position:
        format_name = format_of_bytes(data[:HEAD_BYTES])
        if format_name is not None:
            advice = (
                conversion_advice(format_name) or "convert it to an .npz file of arrays x, y, t (in microseconds) and p"
            )
            raise ReadError(f"{path} is {format_name}, not AEDAT {version}; {advice}")
        raise ReadError(f"{path} does not begin with the line #!AER-DAT{version}; it has another format, or is damaged")
    return position
