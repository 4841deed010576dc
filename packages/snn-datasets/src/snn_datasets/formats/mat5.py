"""The reader of ST-MNIST's tactile recordings, which are MATLAB 5 files."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any, ClassVar, Literal, NoReturn

import numpy as np
from numpy.typing import NDArray

from snn_datasets.base.kinds import RecordingKind
from snn_datasets.base.listing import join_names
from snn_datasets.base.reader import Reader, ReadError, Source
from snn_datasets.base.recordings import Events

SIDE = 10
"""Rows and columns of taxels."""
LARGEST_BYTES = 64 * 2**20
"""Size limit of a file and of its decompressed arrays, checked before memory is allocated; recordings take a few MB."""
MOST_EVENTS = 2_000_000
"""Limit of events in a recording."""

_HDF5 = b"\x89HDF\r\n\x1a\n"
_NUMBERS = {1: "i1", 2: "u1", 3: "i2", 4: "u2", 5: "i4", 6: "u4", 7: "f4", 9: "f8", 12: "i8", 13: "u8"}
"""NumPy types of numeric data elements, by their code."""
_MATRIX, _COMPRESSED = 14, 15
_DENSE = range(6, 16)
"""Classes of dense numeric arrays, from double to uint64."""


class StMnistReader(Reader):
    """Reads one recording of ST-MNIST: a MATLAB 5 file with a matrix `spiketrain` [101, N].

    A column is a point in time: row 100 is the time in seconds; rows 0 to 99 are the events of the taxels, 1 for rising
    pressure, -1 for falling pressure, 0 for none. Taxel a is at x = a % 10, y = a // 10. Rising is polarity 1, falling
    0. (See, W. et al. 2020, arXiv:2005.04319.)
    """

    kind: Literal["st-mnist"] = "st-mnist"
    """ST-MNIST recordings."""
    gives: ClassVar[RecordingKind] = "events"

    def read(self, source: Source) -> Events:
        """Read one recording; it lasts until the time of its last column."""
        path = self.open_file(source)
        trains = read_mat5(path, "spiketrain")
        if trains.ndim != 2 or trains.shape[0] != SIDE * SIDE + 1 or not trains.shape[1]:
            raise ReadError(
                f"{path}: spiketrain has shape {trains.shape}, but a recording has [{SIDE * SIDE + 1}, N], a row for "
                "each of 100 taxels and one for time; use the published files of the digits"
            )
        taxels, seconds = trains[:-1], trains[-1]
        if not ((taxels == 0) | (taxels == 1) | (taxels == -1)).all():
            raise ReadError(f"{path}: a taxel value of spiketrain is not -1, 0 or 1; fetch the file again")
        if not (np.isfinite(seconds).all() and seconds.min() >= 0):
            raise ReadError(f"{path}: a time of spiketrain is negative, NaN or inf; fetch the file again")
        if seconds.max() > 3600:
            raise ReadError(
                f"{path}: spiketrain lasts {seconds.max():g} s, but a digit takes a few seconds; its last row must be "
                "in seconds"
            )
        if np.count_nonzero(taxels) > MOST_EVENTS:
            raise ReadError(f"{path} has more than {MOST_EVENTS:,} events; 100 taxels do not send that many")
        times = np.rint(seconds * 1e6).astype(np.int64)
        column, taxel = taxels.T.nonzero()  # transposed, so that events are ordered by column
        return Events.of(
            t=times[column],
            x=taxel % SIDE,
            y=taxel // SIDE,
            p=(taxels[taxel, column] > 0).astype(np.uint8),
            size=(SIDE, SIDE),
            duration=int(times.max()) + 1,
        )


def read_mat5(path: Path, name: str) -> NDArray[Any]:
    """Return one dense numeric array of a MATLAB 5 file (`save` with -v6 or -v7), in its stored type.

    Safe for damaged files: every size that a file claims is checked, and decompression is limited. The format is
    MathWorks' "MAT-File Format" (MATLAB 5 level).

    Raises:
        ReadError: it is not such a file, or has no such array.
    """
    if path.stat().st_size > LARGEST_BYTES:
        raise ReadError(
            f"{path} has {path.stat().st_size / 2**20:.0f} MB, too large for a recording; it is another file"
        )
    data = path.read_bytes()
    if data[:8] == _HDF5 or data[512:520] == _HDF5:
        raise ReadError(f"{path} is a MATLAB 7.3 file (HDF5); load it in MATLAB and save it again with -v7")
    order = {b"IM": "<", b"MI": ">"}.get(data[126:128])
    if order is None:
        raise ReadError(f"{path} is not a MATLAB 5 file; fetch it again, or save it in MATLAB with -v7")
    mat = _Mat5(path, order)
    names: list[str] = []
    for kind, body in mat.elements(data[128:]):
        if kind == _COMPRESSED:
            kind, body = next(mat.elements(mat.decompress(body)), (0, b""))
        if kind == _MATRIX:
            header = list(mat.elements(body))
            if len(header) < 3:
                mat.fail("an array has no name")
            names.append(header[2][1].decode("latin-1"))
            if names[-1] == name:
                return mat.array(header)
    raise ReadError(f"{path} has no array {name!r}, only {join_names(names) or 'none'}; it is another file")


class _Mat5:
    """Parses the elements of a MATLAB 5 file."""

    def __init__(self, path: Path, order: str) -> None:
        self.path, self.order = path, order

    def fail(self, why: str) -> NoReturn:
        raise ReadError(f"{self.path} is damaged: {why}; fetch it again")

    def elements(self, data: bytes) -> Iterator[tuple[int, bytes]]:
        """Yield type and content of each element."""
        offset = 0
        while offset + 8 <= len(data):
            kind, size = struct.unpack_from(f"{self.order}II", data, offset)
            if kind >> 16:  # a small element: type, size and up to four bytes of content in eight bytes
                kind, size, start, step = kind & 0xFFFF, kind >> 16, offset + 4, 8
                fits = size <= 4
            else:
                # Only compressed elements are not padded to a multiple of eight bytes.
                start, step = offset + 8, 8 + (size if kind == _COMPRESSED else -(-size // 8) * 8)
                fits = start + size <= len(data)
            if not fits:
                self.fail(f"an element claims {size} bytes, more than the file has")
            yield kind, data[start : start + size]
            offset += step

    def decompress(self, data: bytes) -> bytes:
        """Decompress one element."""
        stream = zlib.decompressobj()
        try:
            out = stream.decompress(data, LARGEST_BYTES)
        except zlib.error as error:
            self.fail(f"{error}")
        if not stream.eof:
            self.fail("a compressed array is truncated, or too large for a recording")
        return out

    def array(self, parts: list[tuple[int, bytes]]) -> NDArray[Any]:
        """Return the array of a matrix element, whose parts are flags, dimensions, name and numbers."""
        if len(parts) < 4 or len(parts[0][1]) < 4 or len(parts[1][1]) % 4:
            self.fail("an array lacks its flags, dimensions or numbers")
        (flags,) = struct.unpack_from(f"{self.order}I", parts[0][1])
        if flags & 0xFF not in _DENSE or flags & 0x800:
            raise ReadError(f"{self.path}: the array is sparse, complex or not numeric; save it as a full real matrix")
        kind, content = parts[3]
        if kind not in _NUMBERS:
            self.fail(f"numbers are stored as the unknown type {kind}")
        numbers = np.dtype(f"{self.order}{_NUMBERS[kind]}")
        shape = [int(n) for n in np.frombuffer(parts[1][1], f"{self.order}i4")]
        count = 1
        for n in shape:
            count *= n
        if not shape or min(shape) < 0 or count * numbers.itemsize != len(content):
            self.fail(f"an array of shape {tuple(shape)} does not match its {len(content)} bytes")
        return np.frombuffer(content, numbers).reshape(shape, order="F")
