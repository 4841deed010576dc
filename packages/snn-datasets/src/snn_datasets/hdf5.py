"""Recordings of artificial cochleae in HDF5 files: N-TIDIGITS18 and the Spiking Heidelberg Digits.

No file stays open between two reads: an open HDF5 file can neither be sent to another process nor shared after a fork.
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

from snn_datasets.kinds import RecordingKind
from snn_datasets.reader import Reader, ReadError, Source, placeholder
from snn_datasets.recordings import Events

MOST_EVENTS = 4_000_000
"""Of one recording; refused beyond, before memory is. Spoken digits have some thousands."""
NTIDIGITS_CHANNELS = 64
"""Of the cochlea CochleaAMS1b."""
SHD_UNITS = 700
"""Of the model of the inner ear."""

_HEAP = b"GCOL"
_REFERENCE = 16
"""Bytes by which a dataset refers to a row that lies in a heap."""
_DEFLATE, _SHUFFLE = 1, 2
"""Filters of chunks, by their numbers."""


class NTidigitsReader(Reader):
    """Reads one utterance of N-TIDIGITS18; a source's part is (split, label), such as ("train", "man-ae-a-1").

    The file holds `<split>_timestamps/<label>` in seconds and `<split>_addresses/<label>`, channels 0 to 63. The
    recording begins with its first event. There is no polarity and no plane: a channel is x, and y is 0. (Anumula et
    al. 2018, doi:10.3389/fnins.2018.00023.)
    """

    kind: Literal["n-tidigits"] = "n-tidigits"
    """Names this reader."""
    gives: ClassVar[RecordingKind] = "events"

    def read(self, source: Source) -> Events:
        """Read one utterance; it ends just after its last event.

        Raises:
            FileNotFoundError: there is no such file.
            ReadError: it is no HDF5 file, lacks the utterance, or holds impossible events.
            ImportError: h5py is not installed.
        """
        path = self.open_file(source)
        if len(source.part) != 2:
            raise ReadError(f"{source}: the part has to be (split, label), such as ('train', 'man-ae-a-1')")
        split, label = source.part
        with _opened(path) as file:
            seconds = _numbers(path, file, f"{split}_timestamps/{label}")
            channels = _numbers(path, file, f"{split}_addresses/{label}")
        t = _microseconds(source, seconds)
        return _on_channels(source, t - t.min() if len(t) else t, channels, NTIDIGITS_CHANNELS)


class ShdReader(Reader):
    """Reads one utterance of the Spiking Heidelberg Digits; a source's part is (number,), counted from 0.

    The file holds `spikes/times` in seconds, as numbers of 16 bits: from second 1 on they are about 1 ms apart; and
    `spikes/units`, 0 to 699. There is no polarity and no plane: a unit is x, and y is 0. (Cramer et al. 2020,
    doi:10.1109/TNNLS.2020.3044364.)
    """

    kind: Literal["shd"] = "shd"
    """Names this reader."""
    gives: ClassVar[RecordingKind] = "events"

    def read(self, source: Source) -> Events:
        """Read one utterance; it begins at time 0 of the file and ends just after its last event.

        Raises:
            FileNotFoundError: there is no such file.
            ReadError: it is no HDF5 file, lacks the utterance, or holds impossible events.
            ImportError: h5py is not installed.
        """
        path = self.open_file(source)
        if len(source.part) != 1 or not isinstance(source.part[0], int) or source.part[0] < 0:
            raise ReadError(f"{source}: the part has to be (number,), counted from 0")
        with _opened(path) as file:
            seconds = _numbers(path, file, "spikes/times", row=source.part[0])
            units = _numbers(path, file, "spikes/units", row=source.part[0])
        return _on_channels(source, _microseconds(source, seconds), units, SHD_UNITS)


def ntidigits_labels(path: Path, split: Literal["train", "test"]) -> list[str]:
    """The labels of all utterances of a split: gender-speaker-take-digits, such as "man-ae-a-1".

    Raises:
        FileNotFoundError: there is no such file.
        ReadError: it is no N-TIDIGITS18 file.
        ImportError: h5py is not installed.
    """
    with _opened(path) as file:
        return _texts(path, file, f"{split}_labels")


def shd_contents(path: Path) -> tuple[NDArray[np.int64], NDArray[np.int64], list[str]]:
    """Label and speaker of each utterance of a file, and what the labels stand for.

    Raises:
        FileNotFoundError: there is no such file.
        ReadError: it is no file of the Spiking Heidelberg Digits.
        ImportError: h5py is not installed.
    """
    with _opened(path) as file:
        labels = _numbers(path, file, "labels")
        speakers = _numbers(path, file, "extra/speaker")
        keys = _texts(path, file, "extra/keys")
    if len(labels) != len(speakers):
        raise ReadError(f"{path} has {len(labels)} labels, but {len(speakers)} speakers; fetch it again")
    if not np.isin(labels, np.arange(len(keys))).all():
        raise ReadError(f"{path} has a label that is not one of 0 to {len(keys) - 1}; fetch it again")
    return labels.astype(np.int64), speakers.astype(np.int64), keys


@contextmanager
def _opened(path: Path) -> Generator[Any]:
    """The file, open for reading; whatever goes wrong inside is a ReadError."""
    try:
        import h5py
    except ImportError as error:
        raise ImportError('reading HDF5 files takes h5py: pip install "snn-datasets[events]"') from error
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
    except Exception as error:  # HDF5 raises errors of many types on a broken file
        raise ReadError(f"{path} cannot be read as HDF5: {error}; fetch it again") from error


def _dataset(path: Path, file: Any, name: str) -> Any:
    """One dataset with one axis of at most so many entries."""
    import h5py

    found: Any = file.get(name)
    if not isinstance(cast(object, found), h5py.Dataset):
        raise ReadError(f"{path} holds no {name!r}; it is another file, or damaged")
    if found.shape is None or len(found.shape) != 1 or found.shape[0] > MOST_EVENTS or found.external:
        raise ReadError(f"{path}: {name!r} has shape {found.shape}, but is one row of entries; fetch it again")
    return found


def _numbers(path: Path, file: Any, name: str, *, row: int | None = None) -> NDArray[Any]:
    """The numbers of a dataset, or of one row of a dataset whose rows have lengths of their own."""
    import h5py

    found = _dataset(path, file, name)
    dtype: Any = found.dtype if row is None else cast(Any, h5py).check_vlen_dtype(found.dtype)
    if not isinstance(dtype, np.dtype) or dtype.kind not in "iuf":
        raise ReadError(f"{path}: {name!r} holds {found.dtype} rather than numbers; fetch it again")
    values: NDArray[Any]
    if row is None:
        values = found[()]
        return values
    if row >= found.shape[0]:
        raise ReadError(f"{path}: {name!r} has {found.shape[0]} entries, so none is number {row}")
    values = np.frombuffer(_Rows(path, file, found).read(row, int(dtype.itemsize)), cast(Any, dtype))
    return values


def _texts(path: Path, file: Any, name: str) -> list[str]:
    """The texts of a dataset."""
    import h5py

    found = _dataset(path, file, name)
    if cast(Any, h5py).check_string_dtype(found.dtype) is None:
        raise ReadError(f"{path}: {name!r} holds {found.dtype} rather than texts; fetch it again")
    if found.dtype.kind == "S":
        texts: list[bytes] = found[()].tolist()
    else:
        rows = _Rows(path, file, found)
        texts = [rows.read(row, 1) for row in range(found.shape[0])]
    return [text.rstrip(b"\0").decode() for text in texts]


class _Rows:
    """Reads the rows of a dataset whose rows have lengths of their own, without the HDF5 library.

    The library believes what a damaged file says of such rows: it reads beyond them until it crashes, or turns for ever
    in a heap with an empty gap. Everything is checked here. In the file a row is a reference: its length, and address
    and number of an object in a heap ("global heap collection" in the HDF5 file format). References lie in a row
    themselves, or in chunks. A heap has a header of 16 bytes with its size at byte 8, then objects: number, 14 bytes of
    which the last 8 are the size, and the content, filled up to 8 bytes; number 0 is the gap at the end.
    """

    def __init__(self, path: Path, file: Any, dataset: Any) -> None:
        layout = file.id.get_create_plist()
        if layout.get_sizes() != (8, 8) or layout.get_userblock():
            raise ReadError(f"{path} has addresses of another form than is read here; copy it with h5repack")
        filters = dataset.id.get_create_plist()
        self.filters = [int(filters.get_filter(number)[0]) for number in range(filters.get_nfilters())]
        if not {*self.filters} <= {_DEFLATE, _SHUFFLE}:
            raise ReadError(f"{path} is packed with filters {self.filters}; copy it with h5repack -f NONE")
        self.path, self.dataset = path, dataset

    def read(self, row: int, itemsize: int) -> bytes:
        """The content of one row."""
        reference = self._reference(row)
        if not reference:
            return b""
        length, address, wanted = struct.unpack("<IQI", reference)
        if not length:
            return b""
        header = self._bytes(address, 16)
        if not header.startswith(_HEAP):
            self._fail(f"there is no heap at byte {address}")
        heap = self._bytes(address, int.from_bytes(header[8:], "little"))
        place, number, size, content = 16, -1, 0, b""
        while number not in (0, wanted) and place + 16 <= len(heap):
            number, size = struct.unpack_from("<H6xQ", heap, place)
            content = heap[place + 16 : place + 16 + size]
            place += 16 + -(-size // 8) * 8
        if number == 0 or number != wanted:
            self._fail(f"the heap at byte {address} has no object {wanted}")
        if not length * itemsize <= size == len(content):
            self._fail(f"a row claims {length} entries, more than the {size} bytes that it has")
        return content[: length * itemsize]

    def _reference(self, row: int) -> bytes:
        """Where a row lies; nothing where none was ever written."""
        if self.dataset.chunks is None:
            start = self.dataset.id.get_offset()
            return b"" if start is None else self._bytes(start + _REFERENCE * row, _REFERENCE)
        (rows,) = self.dataset.chunks
        chunk = self.dataset.id.get_chunk_info_by_coord((row // rows * rows,))
        if chunk.byte_offset is None:
            return b""
        data = self._bytes(chunk.byte_offset, chunk.size)
        for place, kind in reversed([*enumerate(self.filters)]):
            if not chunk.filter_mask >> place & 1:
                data = self._unfiltered(kind, data, rows * _REFERENCE)
        reference = data[row % rows * _REFERENCE :][:_REFERENCE]
        if len(reference) < _REFERENCE:
            self._fail(f"a chunk has {len(data)} bytes for {rows} rows")
        return reference

    def _unfiltered(self, kind: int, data: bytes, most: int) -> bytes:
        """Undo one filter of a chunk: unpack at most so many bytes, or put the bytes of each reference together."""
        if kind == _DEFLATE:
            return zlib.decompressobj().decompress(data, most)
        return np.frombuffer(data, np.uint8)[: len(data) // _REFERENCE * _REFERENCE].reshape(_REFERENCE, -1).T.tobytes()

    def _bytes(self, start: int, size: int) -> bytes:
        with self.path.open("rb") as file:
            if not 0 <= start <= start + size <= self.path.stat().st_size:
                self._fail(f"it refers to {size} bytes from byte {start} on, which it does not have")
            file.seek(start)
            return file.read(size)

    def _fail(self, why: str) -> NoReturn:
        raise ReadError(f"{self.path} is damaged: {why}; fetch it again")


def _microseconds(source: Source, seconds: NDArray[Any]) -> NDArray[np.int64]:
    with np.errstate(all="ignore"):  # a damaged file may call anything numbers, even wider than these
        wide = seconds.astype(np.float64)
    # Asked this way round, what is no number is refused as well.
    if not bool((np.abs(wide) < 2**40).all()):
        raise ReadError(f"{source}: a time is no number of seconds; fetch the file again")
    return np.rint(wide * 1e6).astype(np.int64)


def _on_channels(source: Source, t: NDArray[np.int64], channels: NDArray[Any], count: int) -> Events:
    if not bool(((channels >= 0) & (channels < count) & (channels % 1 == 0)).all()):
        raise ReadError(f"{source}: a channel is not one of 0 to {count - 1}; fetch the file again")
    zeros = np.zeros(len(channels), np.uint8)
    try:
        return Events.of(t=t, x=channels.astype(np.uint16), y=zeros, p=zeros, size=(1, count), polarities=1)
    except ValueError as error:
        raise ReadError(f"{source}: {error}; fetch the file again") from error
