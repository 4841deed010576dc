"""Readers of artificial cochlea recordings in HDF5 files: N-TIDIGITS18 and the Spiking Heidelberg Digits.

Files are opened for each read: an open HDF5 file can neither be pickled nor shared after a fork.
"""

# h5py has no stubs.
# pyright: reportMissingTypeStubs=false
from __future__ import annotations

import struct
import zlib
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, ClassVar, Literal, NoReturn, cast

import numpy as np
from numpy.typing import NDArray

from snn_datasets.base.kinds import RecordingKind
from snn_datasets.base.reader import Reader, ReadError, Source, placeholder
from snn_datasets.base.recordings import Events

MOST_EVENTS = 4_000_000
"""Limit of events in one recording, checked before memory is allocated; spoken digits have some thousands."""
NTIDIGITS_CHANNELS = 64
"""Channels of the CochleaAMS1b."""
SHD_UNITS = 700
"""Units of the inner ear model."""

_HEAP = b"GCOL"
_REFERENCE = 16
"""Bytes of a dataset's reference to a row in a heap."""
_DEFLATE, _SHUFFLE = 1, 2
"""Numbers of chunk filters."""


class NTidigitsReader(Reader):
    """Reads one utterance of N-TIDIGITS18; the part of a source is (split, label), such as ("train", "man-ae-a-1").

    The file has `<split>_timestamps/<label>` in seconds and `<split>_addresses/<label>`, channels 0 to 63. The
    recording starts at its first event. There is no polarity and no plane: x is the channel, and y is 0. (Anumula et
    al. 2018, doi:10.3389/fnins.2018.00023.)
    """

    kind: Literal["n-tidigits"] = "n-tidigits"
    """N-TIDIGITS18 utterances."""
    gives: ClassVar[RecordingKind] = "events"

    def read(self, source: Source) -> Events:
        """Read one utterance; it ends just after its last event."""
        path = self.open_file(source)
        if len(source.part) != 2:
            raise ReadError(f"{source}: the part must be (split, label), such as ('train', 'man-ae-a-1')")
        split, label = source.part
        with _open_file(path) as file:
            seconds = _numbers(path, file, f"{split}_timestamps/{label}")
            channels = _numbers(path, file, f"{split}_addresses/{label}")
        t = _microseconds(source, seconds)
        return _on_channels(source, t - t.min() if len(t) else t, channels, NTIDIGITS_CHANNELS)


class ShdReader(Reader):
    """Reads one utterance of the Spiking Heidelberg Digits; the part of a source is (index,), from 0.

    The file has `spikes/times` in seconds as float16, whose resolution from 1 s on is about 1 ms, and `spikes/units`, 0
    to 699. There is no polarity and no plane: x is the unit, and y is 0. (Cramer et al. 2020,
    doi:10.1109/TNNLS.2020.3044364.)
    """

    kind: Literal["shd"] = "shd"
    """Spiking Heidelberg Digits utterances."""
    gives: ClassVar[RecordingKind] = "events"

    def read(self, source: Source) -> Events:
        """Read one utterance; it starts at time 0 of the file and ends just after its last event."""
        path = self.open_file(source)
        if len(source.part) != 1 or not isinstance(source.part[0], int) or source.part[0] < 0:
            raise ReadError(f"{source}: the part must be (index,), counted from 0")
        with _open_file(path) as file:
            seconds = _numbers(path, file, "spikes/times", row=source.part[0])
            units = _numbers(path, file, "spikes/units", row=source.part[0])
        return _on_channels(source, _microseconds(source, seconds), units, SHD_UNITS)


def ntidigits_labels(path: Path, split: Literal["train", "test"]) -> list[str]:
    """Return the labels of all utterances of a split: gender-speaker-take-digits, such as "man-ae-a-1".

    Raises:
        FileNotFoundError: the file does not exist.
        ReadError: it is not an N-TIDIGITS18 file.
        ImportError: h5py is not installed.
    """
    with _open_file(path) as file:
        return _texts(path, file, f"{split}_labels")


def shd_contents(path: Path) -> tuple[NDArray[np.int64], NDArray[np.int64], list[str]]:
    """Return label and speaker of each utterance of a file, and the names of the labels.

    Raises:
        FileNotFoundError: the file does not exist.
        ReadError: it is not a file of the Spiking Heidelberg Digits.
        ImportError: h5py is not installed.
    """
    with _open_file(path) as file:
        labels = _numbers(path, file, "labels")
        speakers = _numbers(path, file, "extra/speaker")
        keys = _texts(path, file, "extra/keys")
    if len(labels) != len(speakers):
        raise ReadError(f"{path} has {len(labels)} labels, but {len(speakers)} speakers; fetch it again")
    if not np.isin(labels, np.arange(len(keys))).all():
        raise ReadError(f"{path} has a label outside 0 to {len(keys) - 1}; fetch it again")
    return labels.astype(np.int64), speakers.astype(np.int64), keys


@contextmanager
def _open_file(path: Path) -> Generator[Any]:
    """Open a file for reading; any error within the block becomes a `ReadError`."""
    try:
        import h5py
    except ImportError as error:
        raise ImportError('reading HDF5 files needs h5py: pip install "snn-datasets[events]"') from error
    if not path.is_file():
        raise FileNotFoundError(f"no file at {path}")
    problem = placeholder(path)
    if problem:
        raise ReadError(f"{path} {problem}")
    try:
        with h5py.File(path, "r", locking=False) as file:
            yield file
    except ReadError:
        raise
    except Exception as error:  # HDF5 raises many types on a damaged file
        raise ReadError(f"{path} cannot be read as HDF5: {error}; fetch it again") from error


def _dataset(path: Path, file: Any, name: str) -> Any:
    """Return a dataset with one axis and at most `MOST_EVENTS` entries."""
    import h5py

    dataset: Any = file.get(name)
    if not isinstance(cast(object, dataset), h5py.Dataset):
        raise ReadError(f"{path} has no {name!r}; it is another file, or damaged")
    if dataset.shape is None or len(dataset.shape) != 1 or dataset.shape[0] > MOST_EVENTS or dataset.external:
        raise ReadError(f"{path}: {name!r} has shape {dataset.shape}, but one axis is expected; fetch it again")
    return dataset


def _numbers(path: Path, file: Any, name: str, *, row: int | None = None) -> NDArray[Any]:
    """Return the numbers of a dataset, or of one row of a dataset with rows of variable length."""
    import h5py

    dataset = _dataset(path, file, name)
    dtype: Any = dataset.dtype if row is None else cast(Any, h5py).check_vlen_dtype(dataset.dtype)
    if not isinstance(dtype, np.dtype) or dtype.kind not in "iuf":
        raise ReadError(f"{path}: {name!r} holds {dataset.dtype} rather than numbers; fetch it again")
    values: NDArray[Any]
    if row is None:
        values = dataset[()]
        return values
    if row >= dataset.shape[0]:
        raise ReadError(f"{path}: {name!r} has {dataset.shape[0]} entries, but entry {row} is requested")
    values = np.frombuffer(_Rows(path, file, dataset).read(row, int(dtype.itemsize)), cast(Any, dtype))
    return values


def _texts(path: Path, file: Any, name: str) -> list[str]:
    """Return the strings of a dataset."""
    import h5py

    dataset = _dataset(path, file, name)
    if cast(Any, h5py).check_string_dtype(dataset.dtype) is None:
        raise ReadError(f"{path}: {name!r} holds {dataset.dtype} rather than texts; fetch it again")
    if dataset.dtype.kind == "S":
        texts: list[bytes] = dataset[()].tolist()
    else:
        rows = _Rows(path, file, dataset)
        texts = [rows.read(row, 1) for row in range(dataset.shape[0])]
    return [text.rstrip(b"\0").decode() for text in texts]


class _Rows:
    """Reads rows of variable length from a dataset without the HDF5 library.

    The library does not validate such rows: on a damaged file it reads out of bounds until it crashes, or loops forever
    in a heap with an empty gap. Here everything is checked. A row is stored as a reference: its length, and the address
    and number of an object in a heap ("global heap collection" in the HDF5 file format). References are contiguous or
    in chunks. A heap has a header of 16 bytes with its size at byte 8, then objects: number, 14 bytes of which the last
    8 are the size, and the content, padded to 8 bytes; number 0 is the gap at the end.
    """

    def __init__(self, path: Path, file: Any, dataset: Any) -> None:
        layout = file.id.get_create_plist()
        if layout.get_sizes() != (8, 8) or layout.get_userblock():
            raise ReadError(f"{path} uses an unsupported address format; copy it with h5repack")
        filters = dataset.id.get_create_plist()
        self.filters = [int(filters.get_filter(number)[0]) for number in range(filters.get_nfilters())]
        if not {*self.filters} <= {_DEFLATE, _SHUFFLE}:
            raise ReadError(f"{path} uses the unsupported filters {self.filters}; copy it with h5repack -f NONE")
        self.path, self.dataset = path, dataset

    def read(self, row: int, itemsize: int) -> bytes:
        """Return the content of one row."""
        reference = self._reference(row)
        if not reference:
            return b""
        length, address, object_number = struct.unpack("<IQI", reference)
        if not length:
            return b""
        header = self._bytes(address, 16)
        if not header.startswith(_HEAP):
            self._fail(f"there is no heap at byte {address}")
        heap = self._bytes(address, int.from_bytes(header[8:], "little"))
        position, number, size, content = 16, -1, 0, b""
        while number not in (0, object_number) and position + 16 <= len(heap):
            number, size = struct.unpack_from("<H6xQ", heap, position)
            content = heap[position + 16 : position + 16 + size]
            position += 16 + -(-size // 8) * 8
        if number == 0 or number != object_number:
            self._fail(f"the heap at byte {address} has no object {object_number}")
        if not length * itemsize <= size == len(content):
            self._fail(f"a row claims {length} entries, more than its {size} bytes hold")
        return content[: length * itemsize]

    def _reference(self, row: int) -> bytes:
        """Return the reference of a row; empty if the row was never written."""
        if self.dataset.chunks is None:
            start = self.dataset.id.get_offset()
            return b"" if start is None else self._bytes(start + _REFERENCE * row, _REFERENCE)
        (rows,) = self.dataset.chunks
        chunk = self.dataset.id.get_chunk_info_by_coord((row // rows * rows,))
        if chunk.byte_offset is None:
            return b""
        data = self._bytes(chunk.byte_offset, chunk.size)
        for index, kind in reversed([*enumerate(self.filters)]):
            if not chunk.filter_mask >> index & 1:
                data = self._undo_filter(kind, data, rows * _REFERENCE)
        reference = data[row % rows * _REFERENCE :][:_REFERENCE]
        if len(reference) < _REFERENCE:
            self._fail(f"a chunk has {len(data)} bytes for {rows} rows")
        return reference

    def _undo_filter(self, kind: int, data: bytes, limit: int) -> bytes:
        """Undo one filter of a chunk: inflate at most `limit` bytes, or unshuffle the bytes of the references."""
        if kind == _DEFLATE:
            return zlib.decompressobj().decompress(data, limit)
        return np.frombuffer(data, np.uint8)[: len(data) // _REFERENCE * _REFERENCE].reshape(_REFERENCE, -1).T.tobytes()

    def _bytes(self, start: int, size: int) -> bytes:
        with self.path.open("rb") as file:
            if not 0 <= start <= start + size <= self.path.stat().st_size:
                self._fail(f"it refers to {size} bytes from byte {start} on, beyond its end")
            file.seek(start)
            return file.read(size)

    def _fail(self, why: str) -> NoReturn:
        raise ReadError(f"{self.path} is damaged: {why}; fetch it again")


def _microseconds(source: Source, seconds: NDArray[Any]) -> NDArray[np.int64]:
    with np.errstate(all="ignore"):  # a damaged file may declare any numeric type
        times = seconds.astype(np.float64)
    # Written so that NaN also fails the check.
    if not bool((np.abs(times) < 2**40).all()):
        raise ReadError(f"{source}: a time is NaN, inf or out of range; fetch the file again")
    return np.rint(times * 1e6).astype(np.int64)


def _on_channels(source: Source, t: NDArray[np.int64], channels: NDArray[Any], count: int) -> Events:
    if not bool(((channels >= 0) & (channels < count) & (channels % 1 == 0)).all()):
        raise ReadError(f"{source}: a channel is outside 0 to {count - 1}; fetch the file again")
    zeros = np.zeros(len(channels), np.uint8)
    try:
        return Events.of(t=t, x=channels.astype(np.uint16), y=zeros, p=zeros, size=(1, count), polarities=1)
    except ValueError as error:
        raise ReadError(f"{source}: {error}; fetch the file again") from error
