"""Event recordings in NumPy files, and the validation of event columns that all event readers share."""

from __future__ import annotations

import io
import zipfile
from collections.abc import Iterable, Mapping
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from snn_datasets.base.reader import ReadError, Source
from snn_datasets.base.recordings import Events

LARGEST_UNPACKED = 256 * 2**20
"""Largest size in bytes of the unpacked arrays of one .npz file; far more than a recording of some seconds takes."""
SHORTEST_RUN = 16
"""A drop in time counts as a clock reset only if at least this many events lie before and after it."""
_NAMES = {
    "t": ("t", "ts", "time", "timestamp", "timestamps"),
    "x": ("x", "addr", "address", "channel"),
    "y": ("y",),
    "p": ("p", "pol", "polarity"),
}
_HEADERS = {1: np.lib.format.read_array_header_1_0, 2: np.lib.format.read_array_header_2_0}


def read_event_columns(path: Path, columns: str = "txyp", needed: Iterable[str] = "tx") -> dict[str, NDArray[Any]]:
    """Return the columns t, x, y, p [E] of a NumPy file of events, unconverted; those not needed may be missing.

    Args:
        path: a .npy or .npz file.
        columns: the columns of an unstructured array, one letter each.
        needed: the columns that must be there.

    Raises:
        ReadError: it is not such a file, or lacks a needed column.
    """
    present = _columns_of(path, _arrays(path), columns)
    for name in needed:
        if name not in present:
            raise ReadError(
                f"{path} has no {name} column, only {', '.join(present) or 'unnamed ones'}; set the reader's columns, "
                "or set height or polarities to 1"
            )
    return present


def _columns_of(path: Path, arrays: Mapping[str, NDArray[Any]], columns: str) -> dict[str, NDArray[Any]]:
    if len(arrays) == 1:
        (array,) = arrays.values()
        if array.dtype.names is not None and array.ndim == 1:
            named: dict[str, NDArray[Any]] = {name: array[name] for name in array.dtype.names}
        elif array.dtype.names is None and array.ndim == 2 and array.shape[1] == len(columns):
            named = {name: array[:, index] for index, name in enumerate(columns)}
        else:
            raise ReadError(
                f"{path} holds an array {array.shape} of {array.dtype}; save events as an array [E, {len(columns)}] "
                f"with the columns {columns!r}, or as a structured array [E]"
            )
    else:
        named = dict(arrays)
    lower = {name.lower(): column for name, column in named.items()}
    named = lower if len(lower) == len(named) else named
    selected: dict[str, NDArray[Any]] = {}
    for name, spellings in _NAMES.items():
        present = [spelling for spelling in spellings if spelling in named]
        if len(present) > 1:
            raise ReadError(f"{path} has both {present[0]!r} and {present[1]!r}; keep one of them")
        if present:
            selected[name] = named[present[0]]
    for name, column in selected.items():
        if column.ndim != 1 or column.dtype.kind not in "biuf":
            raise ReadError(
                f"{path}: column {name} has shape {column.shape} and type {column.dtype}; save it as numbers [E]"
            )
    return selected


def events_of(
    source: Source,
    *,
    t: NDArray[np.int64],
    x: NDArray[np.integer],
    y: NDArray[np.integer],
    p: NDArray[np.integer],
    size: tuple[int, int],
    polarities: int,
    duration: int | None = None,
) -> Events:
    """Return the events of a source, or those of its part (start, end) in microseconds; for readers.

    Raises:
        ReadError: an event is out of range, or the part is not such a pair.
    """
    if source.part:
        if len(source.part) != 2 or not all(isinstance(bound, int) for bound in source.part):
            raise ReadError(f"{source}: the part must be (start, end) in integer microseconds")
        first, end = (int(bound) for bound in source.part)
        if not first < end:
            raise ReadError(f"{source}: the part ends at {end} us, not after its start at {first} us")
        inside = (t >= first) & (t < end)
        t, x, y, p = t[inside] - first, x[inside], y[inside], p[inside]
        duration = end - first
    refuse_reset_clock(source, t, x, p)
    try:
        return Events.of(t=t, x=x, y=y, p=p, size=size, polarities=polarities, duration=duration)
    except ValueError as error:
        raise ReadError(
            f"{source}: {error}; if the file is intact, correct the reader's options (sensor size, columns, time_unit, "
            "start)"
        ) from error


def _arrays(path: Path) -> dict[str, NDArray[Any]]:
    """Return the arrays of a NumPy file by name; that of a .npy file has the name ""."""
    try:
        data = path.read_bytes()
        if not data.startswith(b"PK"):
            return {"": _array(data)}
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            members = [member for member in archive.infolist() if member.filename.endswith(".npy")]
            size = sum(member.file_size for member in members)
            if size > LARGEST_UNPACKED:
                raise ReadError(
                    f"{path} unpacks to {size / 2**20:,.0f} MB, too large for a recording; save it in parts of at most "
                    f"{LARGEST_UNPACKED >> 20} MB"
                )
            # NumPy writes only these two; others could need any amount of memory to unpack.
            if not {member.compress_type for member in members} <= {zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED}:
                raise ReadError(f"{path} uses a compression that NumPy does not write; fetch it again")
            return {member.filename.removesuffix(".npy"): _array(archive.read(member)) for member in members}
    except ReadError:
        raise
    except Exception as error:  # zipfile, zlib and NumPy's header parser raise many types on a damaged file
        raise ReadError(f"{path} is not a NumPy file of numbers: {error}; fetch it again") from error


def _array(data: bytes) -> NDArray[Any]:
    """Parse the bytes of a .npy file, checking the size that its header claims against the data."""
    stream = io.BytesIO(data)
    version, _ = np.lib.format.read_magic(stream)
    if version not in _HEADERS:
        raise ValueError(f"its header has version {version}")
    shape, by_column, dtype = _HEADERS[version](stream)
    if dtype.hasobject:
        raise ValueError("it holds pickled Python objects, and reading those runs code")
    count = 1
    for n in shape:
        count *= n
    if min(shape, default=0) < 0 or count * dtype.itemsize != len(data) - stream.tell():
        raise ValueError(f"an array {shape} of {dtype} does not match its {len(data)} bytes")
    if not count or not dtype.itemsize:
        return np.zeros(shape if count == 0 else (0,), dtype)
    return np.frombuffer(data, dtype, offset=stream.tell()).reshape(shape, order="F" if by_column else "C")


def refuse_reset_clock(path: object, t: NDArray[np.int64], x: NDArray[np.integer], p: NDArray[np.integer]) -> None:
    """Refuse events whose clock was reset while recording: sorting by time would interleave unrelated events.

    A few events out of order are common and harmless. So are files sorted by polarity or position rather than time:
    there polarity or x is constant between two drops of the time.

    Raises:
        ReadError: the time drops by more than 5 % of the duration, once or a few times.
    """
    drops = np.flatnonzero(np.diff(t) < 0) + 1
    if not len(drops) or len(drops) > max(8, len(t) // 1000):
        return
    span = int(t.max()) - int(t.min())
    resets = drops[(t[drops - 1] - t[drops]) * 20 > span]
    if not len(resets):
        return
    runs = np.concatenate([[0], resets, [len(t)]])
    if np.diff(runs).min() < SHORTEST_RUN:
        return
    for column in (p, x):
        if all((column[start:end] == column[start]).all() for start, end in pairwise(runs.tolist())):
            return
    index = int(resets[0])
    raise ReadError(
        f"{path}: event {index + 1} is at {t[index] / 1e6:g} s, after one at {t[index - 1] / 1e6:g} s: the clock was "
        "reset while recording, or two recordings were joined; split the file there, or add the missing offset to the "
        "later times"
    )
