"""Recordings of event cameras as jAER and cAER write them: AEDAT 2.0 and 3.1.

The formats are described in iniVation's documentation, "AEDAT file formats". Places are those that the files state,
nothing is turned: y = 0 is the lowest row in AEDAT 2.0 and the highest in AEDAT 3.1.
"""

from __future__ import annotations

import struct
from functools import lru_cache
from pathlib import Path
from typing import ClassVar, Literal, NoReturn

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from snn_datasets.events import events_of
from snn_datasets.file_signature import HEAD_BYTES, cure, describe_bytes
from snn_datasets.kinds import RecordingKind
from snn_datasets.reader import Reader, ReadError, Source
from snn_datasets.recordings import Events

LONGEST_HEADER = 2**20
"""Bytes of header lines; jAER writes its settings there, some hundred kB at most."""

READER_OF = {"2.0": "aedat2", "3.1": "aedat3"}
"""Version -> name of its reader."""

_SIDE = 128
_POLARITY, _PACKET, _EVENT = 1, 28, 8
"""AEDAT 3.1: type of polarity events, bytes of a packet's header, bytes of an event."""

Columns = tuple[NDArray[np.int64], NDArray[np.uint16], NDArray[np.uint16], NDArray[np.uint8]]


class Aedat2Reader(Reader):
    """Reads AEDAT 2.0 files of a DVS128: after lines that begin with #, big-endian pairs of address and time in us.

    Bit 0 of an address is the polarity, bits 1 to 7 are x, bits 8 to 14 y; events with bit 15 are marks from outside
    and left out. x and y are those bits: jAER shows them with x from right to left and y from below. The recording
    begins with its first event; a clock that wraps around goes on, and events out of order are put in order.

    A source's part is (start, end) in microseconds from that beginning.
    """

    kind: Literal["aedat2"] = "aedat2"
    """Names this reader."""
    gives: ClassVar[RecordingKind] = "events"

    def read(self, source: Source) -> Events:
        """Read one recording of 128 x 128 pixels; it ends just after its last event, or where the part does.

        Raises:
            FileNotFoundError: there is no such file.
            ReadError: it is no AEDAT 2.0 file of a DVS128, is cut off, or spans more than 71 minutes.
        """
        path = self.open_file(source)
        data = path.read_bytes()
        start = _end_of_header(path, data, "2.0")
        if (len(data) - start) % 8:
            raise ReadError(
                f"{path} is cut off: its last event has {(len(data) - start) % 8} of 8 bytes; fetch it again"
            )
        pairs = np.frombuffer(data, ">u4", offset=start).reshape(-1, 2)
        address, stamp = pairs[:, 0].astype(np.int64), pairs[:, 1].astype(np.int64)
        seen = address & 0x8000 == 0
        address, stamp = address[seen], stamp[seen]
        if len(address) and int(address.max()) > 0x7FFF:
            raise ReadError(
                f"{path} holds the address {int(address.max()):#x}, but those of a DVS128 have 15 bits; it is of "
                "another camera, or damaged"
            )
        # As 32-bit numbers with sign, differences stay right where the clock wraps around.
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

    A packet has a little-endian header of 28 bytes (type int16, source int16, then int32: size of an event, place of
    the time in it, time overflow, capacity, number of events, number of valid ones) and its events: a word of 32 bits
    (bit 0 valid, bit 1 polarity, bits 2 to 16 y, bits 17 to 31 x) and a time of 31 bits in microseconds, to which each
    overflow adds 2^31. Events that are not valid are left out.

    A source's part is (start, end) in microseconds of the file's own time, as annotations state it; without one the
    recording begins with its first event. The last file read is kept in memory, since files hold many recordings.
    """

    kind: Literal["aedat3"] = "aedat3"
    """Names this reader."""
    gives: ClassVar[RecordingKind] = "events"

    height: int = Field(default=128, ge=1, le=2**15)
    """Rows of the sensor."""
    width: int = Field(default=128, ge=1, le=2**15)
    """Columns of the sensor."""

    def read(self, source: Source) -> Events:
        """Read one recording; it ends just after its last event, or where the part does.

        Raises:
            FileNotFoundError: there is no such file.
            ReadError: it is no AEDAT 3.1 file, is damaged or cut off, holds events off the sensor, or spans more than
                71 minutes.
        """
        path = self.open_file(source)
        status = path.stat()
        t, x, y, p = _polarity_events(path, status.st_size, status.st_mtime_ns)
        _refuse_past_the_end(source, t)
        if not source.part and len(t):
            t = t - t.min()
        return events_of(source, t=t, x=x, y=y, p=p, size=(self.height, self.width), polarities=2)


def _refuse_past_the_end(source: Source, t: NDArray[np.int64]) -> None:
    """Refuse a part of which less than half lies before the last event: it would be read as a recording of rest.

    Raises:
        ReadError: it is such a part.
    """
    if len(source.part) != 2 or not all(isinstance(bound, int) for bound in source.part):
        return  # which is refused later, in other words
    start, end = (int(bound) for bound in source.part)
    last = int(t.max()) if len(t) else -1
    if start < end and last - start < (end - start) // 2:
        where = f"its last event is at {last} us" if len(t) else "it has no events"
        raise ReadError(
            f"{source} asks for more than the file has: {where}; fetch the file again, or correct the times that were "
            "asked for, in microseconds"
        )


@lru_cache(maxsize=1)
def _polarity_events(path: Path, _size: int, _changed: int) -> Columns:
    """All polarity events of an AEDAT 3.1 file in the file's own time; size and time of change tell whether it is new.

    Reading ten gestures of one file would otherwise decode it ten times.
    """
    data = path.read_bytes()
    place = _end_of_header(path, data, "3.1")
    words: list[NDArray[np.uint32]] = []
    times: list[NDArray[np.int64]] = []

    def fail(why: str) -> NoReturn:
        raise ReadError(f"{path}, byte {place}: {why}; fetch it again")

    while place < len(data):
        if len(data) - place < _PACKET:
            fail("the file is cut off in the header of a packet")
        kind, _source, size, offset, overflow, capacity, number, _valid = struct.unpack_from("<hhiiiiii", data, place)
        if size < 1 or not 0 <= number <= capacity or overflow < 0:
            fail(f"a packet claims {number} events in room for {capacity} of {size} bytes and overflow {overflow}")
        if capacity * size > len(data) - place - _PACKET:
            fail(f"a packet claims {capacity} events of {size} bytes, more than the file has left; it is cut off")
        if kind == _POLARITY:
            if (size, offset) != (_EVENT, 4):
                fail(f"polarity events of {size} bytes with their time at byte {offset}, rather than 8 and 4")
            events = np.frombuffer(data, "<u4", 2 * number, place + _PACKET).reshape(number, 2)
            events = events[events[:, 0] & 1 == 1]
            if len(events) and int(events[:, 1].max()) >> 31:
                fail("an event has a negative time")
            words.append(events[:, 0])
            times.append(events[:, 1].astype(np.int64) + (overflow << 31))
        place += _PACKET + capacity * size
    word = np.concatenate([np.zeros(0, np.uint32), *words])
    columns: Columns = (
        np.concatenate([np.zeros(0, np.int64), *times]),
        (word >> 17).astype(np.uint16),
        (word >> 2 & 0x7FFF).astype(np.uint16),
        (word >> 1 & 1).astype(np.uint8),
    )
    for column in columns:
        column.flags.writeable = False  # they are handed out again
    return columns


def _end_of_header(path: Path, data: bytes, version: str) -> int:
    """Where the lines that begin with # end; a version that they state has to be the one expected."""
    place = 0
    while data[place : place + 1] == b"#":
        end = data.find(b"\n", place, LONGEST_HEADER)
        if end < 0:
            raise ReadError(f"{path}: its header does not end within {LONGEST_HEADER >> 20} MB; fetch it again")
        line = data[place:end].strip()
        if line.startswith(b"#!AER-DAT") and line != f"#!AER-DAT{version}".encode():
            stated = line.removeprefix(b"#!AER-DAT").decode("ascii", "replace")[:20]
            advice = (
                f"name {READER_OF[stated]} as its reader"
                if stated in READER_OF
                else "there are readers for 2.0 and 3.1 alone: convert it to an npz file of arrays x, y, t (in "
                "microseconds) and p, which the reader named events reads"
            )
            raise ReadError(f"{path} is AEDAT {stated}, but AEDAT {version} is expected; {advice}")
        if line.startswith(b"#Format:") and line != b"#Format: RAW":
            raise ReadError(
                f"{path} holds compressed packets ({line.decode('ascii', 'replace')[1:40]}); save it as RAW"
            )
        place = end + 1
        if line == b"#!END-HEADER":
            break
    if not place:
        format_name = describe_bytes(data[:HEAD_BYTES])
        if format_name is not None:
            advice = cure(format_name) or "convert it to an .npz file of arrays x, y, t (in microseconds) and p"
            raise ReadError(f"{path} is {format_name}, not AEDAT {version}; {advice}")
        raise ReadError(f"{path} does not begin with the line #!AER-DAT{version}; it is of another format, or damaged")
    return place
