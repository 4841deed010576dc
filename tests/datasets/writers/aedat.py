"""AEDAT files in the layouts of jAER (2.0) and cAER (3.1)."""

import struct
from collections.abc import Sequence
from pathlib import Path

import numpy as np

JAER_HEADER = (
    b"#!AER-DAT2.0\r\n# This is a raw AE data file - do not edit\r\n"
    b"# Data format is int32 address, int32 timestamp (8 bytes total), repeated for each event\r\n"
    b"# Timestamps tick is 1 us\r\n# created Thu Jan 01 00:00:00 CET 2015\r\n"
)
CAER_HEADER = (
    b"#!AER-DAT3.1\r\n#Format: RAW\r\n#Source 1: DVS128\r\n"
    b"#Start-Time: 2015-01-01 00:00:00 (TZ+0100)\r\n#!END-HEADER\r\n"
)
SPECIAL, POLARITY = 0, 1


def some_events(
    rng: np.random.Generator, count: int, *, duration: int, height: int = 128, width: int = 128
) -> np.ndarray:
    """Events [count, 4] of columns t, x, y, p in order of time."""
    return np.stack(
        [
            np.sort(rng.integers(0, duration, count)),
            rng.integers(0, width, count),
            rng.integers(0, height, count),
            rng.integers(0, 2, count),
        ],
        axis=1,
    )


def later(events: np.ndarray, by: int) -> np.ndarray:
    """The events with all their times moved."""
    moved = events.copy()
    moved[:, 0] += by
    return moved


def write_aedat2(path: Path, events: np.ndarray, *, first_stamp: int = 0, header: bytes = JAER_HEADER) -> None:
    """Write events [E, 4] of columns t, x, y, p; the clock, 32 bits of microseconds, shows first_stamp at t = 0."""
    pairs = [(y << 8 | x << 1 | p, (t + first_stamp) % 2**32) for t, x, y, p in events.tolist()]
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(header + b"".join(struct.pack(">II", *pair) for pair in pairs))


def packet(kind: int, events: Sequence[tuple[int, int]], *, overflow: int = 0) -> bytes:
    """A packet of AEDAT 3.1: events of a word and a time each."""
    valid = sum(word & 1 for word, _ in events)
    header = struct.pack("<hhiiiiii", kind, 1, 8, 4, overflow, len(events), len(events), valid)
    return header + b"".join(struct.pack("<Ii", word, time) for word, time in events)


def write_aedat3(path: Path, events: np.ndarray, *, per_packet: int = 100, header: bytes = CAER_HEADER) -> None:
    """Write events [E, 4] of columns t, x, y, p, t up to 2^62; a packet of special events is between any two."""
    packets = [header]
    chunk: list[tuple[int, int]] = []
    overflow = 0

    def finish() -> None:
        if chunk:
            packets.append(packet(POLARITY, chunk, overflow=overflow))
            packets.append(packet(SPECIAL, [(1 | 2 << 1, chunk[-1][1])], overflow=overflow))
            chunk.clear()

    for t, x, y, p in events.tolist():
        if len(chunk) == per_packet or t >> 31 != overflow:
            finish()
            overflow = t >> 31
        chunk.append((x << 17 | y << 2 | p << 1 | 1, t & 0x7FFFFFFF))
    finish()
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b"".join(packets))
