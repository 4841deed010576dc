"""Recordings of touch: ST-MNIST's MATLAB files."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any, ClassVar, Literal, NoReturn

import numpy as np
from numpy.typing import NDArray

from snn_datasets.kinds import RecordingKind
from snn_datasets.listing import join_names
from snn_datasets.reader import Reader, ReadError, Source
from snn_datasets.recordings import Events

SIDE = 10
"""Taxels in a row, and rows of them."""
LARGEST_BYTES = 64 * 2**20
"""Of a file, and of what is decompressed from it; recordings of two seconds take a few MB. Refused before memory is."""
MOST_EVENTS = 2_000_000
"""Refused beyond."""

_HDF5 = b"\x89HDF\r\n\x1a\n"
_NUMBERS = {1: "i1", 2: "u1", 3: "i2", 4: "u2", 5: "i4", 6: "u4", 7: "f4", 9: "f8", 12: "i8", 13: "u8"}
"""Types of data elements that hold numbers, by their code."""
_MATRIX, _COMPRESSED = 14, 15
_DENSE = range(6, 16)
"""Classes of arrays of plain numbers, from double to uint64."""


class StMnistReader(Reader):
    """Reads one recording of ST-MNIST: a MATLAB 5 file with a matrix `spiketrain` [101, N].

    A column is a point in time: row 100 says when, in seconds; rows 0 to 99 say what each taxel sent then, 1 for
    pressure that rises, -1 for pressure that falls, 0 for nothing. Taxel a lies at x = a % 10, y = a // 10. Rising is
    polarity 1, falling 0. (See, W. et al. 2020, arXiv:2005.04319.)
    """

    kind: Literal["st-mnist"] = "st-mnist"
    """Names this reader."""
    gives: ClassVar[RecordingKind] = "events"

    def read(self, source: Source) -> Events:
        """Read one recording; it lasts until the time of its last column.

        Raises:
            FileNotFoundError: there is no such file.
            ReadError: it is no MATLAB 5 file, holds no such matrix, or one with values that cannot be.
        """
        path = self.open_file(source)
        trains = read_mat5(path, "spiketrain")
        if trains.ndim != 2 or trains.shape[0] != SIDE * SIDE + 1 or not trains.shape[1]:
            raise ReadError(
                f"{path}: spiketrain has shape {trains.shape}, but a recording has [{SIDE * SIDE + 1}, N], a row for "
                "each of 100 taxels and one for time; take the files of the digits as they were published"
            )
        taxels, seconds = trains[:-1], trains[-1]
        if not ((taxels == 0) | (taxels == 1) | (taxels == -1)).all():
            raise ReadError(f"{path}: a taxel of spiketrain holds something else than -1, 0 or 1; fetch the file again")
        if not (np.isfinite(seconds).all() and seconds.min() >= 0):
            raise ReadError(f"{path}: a time of spiketrain is negative or no number; fetch the file again")
        if seconds.max() > 3600:
            raise ReadError(
                f"{path}: spiketrain lasts until second {seconds.max():g}, but a digit is written in a few; its last "
                "row has to be in seconds"
            )
        if np.count_nonzero(taxels) > MOST_EVENTS:
            raise ReadError(f"{path} holds more than {MOST_EVENTS:,} events; 100 taxels do not send that many")
        times = np.rint(seconds * 1e6).astype(np.int64)
        column, taxel = taxels.T.nonzero()  # of the transpose, so that events come in the order of columns
        return Events.of(
            t=times[column],
            x=taxel % SIDE,
            y=taxel // SIDE,
            p=(taxels[taxel, column] > 0).astype(np.uint8),
            size=(SIDE, SIDE),
            duration=int(times.max()) + 1,
        )


def read_mat5(path: Path, name: str) -> NDArray[Any]:
    """One dense numeric array of a MATLAB 5 file (`save` with -v6 or -v7), in the type it is stored in.

    Written for files that may be damaged: no size that a file claims is believed before it is checked, and what is
    decompressed has a limit. The format is MathWorks' "MAT-File Format" (MATLAB 5 level).

    Raises:
        ReadError: it is no such file, or has no such array.
    """
    if path.stat().st_size > LARGEST_BYTES:
        raise ReadError(
            f"{path} has {path.stat().st_size / 2**20:.0f} MB, far more than a recording; it is another file"
        )
    data = path.read_bytes()
    if data[:8] == _HDF5 or data[512:520] == _HDF5:
        raise ReadError(f"{path} is a MATLAB 7.3 file (HDF5); load it in MATLAB and save it anew with -v7")
    order = {b"IM": "<", b"MI": ">"}.get(data[126:128])
    if order is None:
        raise ReadError(f"{path} is no MATLAB 5 file; fetch it again, or save it in MATLAB with -v7")
    mat = _Mat5(path, order)
    found: list[str] = []
    for kind, body in mat.elements(data[128:]):
        if kind == _COMPRESSED:
            kind, body = next(mat.elements(mat.inflated(body)), (0, b""))
        if kind == _MATRIX:
            header = list(mat.elements(body))
            if len(header) < 3:
                mat.fail("an array has no name")
            found.append(header[2][1].decode("latin-1"))
            if found[-1] == name:
                return mat.array(header)
    raise ReadError(f"{path} has no array {name!r}, but {join_names(found) or 'none at all'}; it is another file")


class _Mat5:
    """Takes the elements of a MATLAB 5 file apart."""

    def __init__(self, path: Path, order: str) -> None:
        self.path, self.order = path, order

    def fail(self, why: str) -> NoReturn:
        raise ReadError(f"{self.path} is damaged: {why}; fetch it again")

    def elements(self, data: bytes) -> Iterator[tuple[int, bytes]]:
        """Type and content of each element."""
        place = 0
        while place + 8 <= len(data):
            kind, size = struct.unpack_from(f"{self.order}II", data, place)
            if kind >> 16:  # a small one: type, size and up to four bytes of content in eight
                kind, size, start, step = kind & 0xFFFF, kind >> 16, place + 4, 8
                fits = size <= 4
            else:
                # Compressed elements are the only ones that do not fill up to eight bytes.
                start, step = place + 8, 8 + (size if kind == _COMPRESSED else -(-size // 8) * 8)
                fits = start + size <= len(data)
            if not fits:
                self.fail(f"an element claims {size} bytes, which the file does not have")
            yield kind, data[start : start + size]
            place += step

    def inflated(self, data: bytes) -> bytes:
        """Decompress one element."""
        stream = zlib.decompressobj()
        try:
            out = stream.decompress(data, LARGEST_BYTES)
        except zlib.error as error:
            self.fail(f"{error}")
        if not stream.eof:
            self.fail("a compressed array is cut off, or far larger than a recording")
        return out

    def array(self, parts: list[tuple[int, bytes]]) -> NDArray[Any]:
        """The array of a matrix element: flags, dimensions, name, numbers."""
        if len(parts) < 4 or len(parts[0][1]) < 4 or len(parts[1][1]) % 4:
            self.fail("an array lacks its flags, dimensions or numbers")
        (flags,) = struct.unpack_from(f"{self.order}I", parts[0][1])
        if flags & 0xFF not in _DENSE or flags & 0x800:
            raise ReadError(f"{self.path}: the array is sparse, complex or no numbers; save it as a full real matrix")
        kind, content = parts[3]
        if kind not in _NUMBERS:
            self.fail(f"numbers are stored as type {kind}, which there is not")
        numbers = np.dtype(f"{self.order}{_NUMBERS[kind]}")
        shape = [int(n) for n in np.frombuffer(parts[1][1], f"{self.order}i4")]
        count = 1
        for n in shape:
            count *= n
        if not shape or min(shape) < 0 or count * numbers.itemsize != len(content):
            self.fail(f"an array of shape {tuple(shape)} does not fit its {len(content)} bytes")
        return np.frombuffer(content, numbers).reshape(shape, order="F")
