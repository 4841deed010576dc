"""Prepared recordings of one modality in one memory-mapped file.

A store is a folder of three files. `data.bin` holds the arrays of all samples in sequence, `index.npz` the offset,
shape and checksum of each, and `about.json` a description with checksums of the index and the description. A store is
written under a temporary name and renamed when complete, so a killed writer leaves only a folder ending in `.part`,
which is never read. Description and index are verified when a store is opened, each sample whenever it is read.
"""

# Some of torch's signatures are partially untyped.
# pyright: reportUnknownMemberType=false
from __future__ import annotations

import errno
import hashlib
import io
import json
import os
import shutil
import zipfile
import zlib
from collections.abc import Generator, Iterable, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any
from uuid import uuid4

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from snn_datasets.base.recordings import Events, Image, Recording, Series, Video, Waveform

Prepared = Recording | Tensor
"""Values that a store can hold."""

_CLASSES: dict[str, type[Recording]] = {cls.__name__: cls for cls in (Image, Video, Waveform, Events, Series)}


@dataclass(frozen=True, slots=True)
class Absent:
    """A recording that is missing or unreadable, and why."""

    reason: str


class DamagedStoreError(ValueError):
    """A store is truncated, changed, or of another version. The message names the folder."""


class StoreWriteError(OSError):
    """A store cannot be written. The message names the folder, the cause and what to do."""


class Store:
    """Read what `write_store` wrote. The file is opened on first use, so a store can be sent to other processes."""

    def __init__(self, folder: Path) -> None:
        """Open a store and verify its description and index.

        Raises:
            DamagedStoreError: a checksum or the length of `data.bin` differs.
            OSError: the store cannot be read.
        """
        self.folder = folder
        self._data: NDArray[np.uint8] | None = None
        try:
            about = json.loads((folder / "about.json").read_bytes())
            index = (folder / "index.npz").read_bytes()
            length = (folder / "data.bin").stat().st_size
            if about.pop("checksum") != _checksum_of(about):
                raise ValueError("the checksum of about.json differs")
            if about["index_sha256"] != hashlib.sha256(index).hexdigest():
                raise ValueError("the checksum of index.npz differs")
            if length != about["bytes"]:
                raise ValueError(f"data.bin has {length:,} bytes instead of {about['bytes']:,}")
            self.absent: dict[int, str] = {int(number): reason for number, reason in about["absent"].items()}
            self._class: str = about["class"]
            self._columns: dict[str, np.dtype[Any]] = {
                name: _plain_dtype(dtype) for name, dtype in about["columns"].items()
            }
            with np.load(io.BytesIO(index), allow_pickle=False) as arrays:
                self._offsets: NDArray[np.int64] = arrays["offsets"]
                self._checksums: NDArray[np.uint32] = arrays["crc32"]
                self._shapes: dict[str, NDArray[np.int64]] = {name: arrays[f"shape_{name}"] for name in self._columns}
        except FileNotFoundError as error:
            raise DamagedStoreError(f"the cache {folder} is damaged: {Path(error.filename).name} is missing") from error
        except (ValueError, LookupError, TypeError, AttributeError, RecursionError, zipfile.BadZipFile) as error:
            reason = f"{error} is missing" if isinstance(error, KeyError) else error
            raise DamagedStoreError(f"the cache {folder} is damaged: {reason}") from error

    def __len__(self) -> int:
        """Return the number of samples, absent ones included."""
        return len(self._offsets)

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | {"_data": None}

    def __getitem__(self, index: int) -> Prepared | Absent:
        """Return one sample; its arrays are copies that the caller may change.

        Raises:
            DamagedStoreError: the checksum of the sample differs.
        """
        if index in self.absent:
            return Absent(self.absent[index])
        data = self._mapped()
        offset, checksum = int(self._offsets[index]), 0
        arrays: dict[str, NDArray[Any]] = {}
        try:
            for name, dtype in self._columns.items():
                shape = tuple(self._shapes[name][index].tolist())
                size = int(np.prod(shape, dtype=np.int64)) * dtype.itemsize
                content = np.array(data[offset : offset + size])
                checksum = zlib.crc32(content.data, checksum)
                arrays[name] = content.view(dtype).reshape(shape)
                offset += size
            if checksum != self._checksums[index]:
                raise ValueError("its checksum differs")
            return _restore(self._class, arrays)
        except (ValueError, LookupError, TypeError) as error:
            raise DamagedStoreError(f"the cache {self.folder} is damaged: sample {index}: {error}") from error

    def verify(self) -> None:
        """Verify the checksum of every sample.

        Raises:
            DamagedStoreError: a checksum differs.
        """
        for index in range(len(self)):
            self[index]

    @property
    def bytes(self) -> int:
        """Size of all samples in bytes."""
        return len(self._mapped())

    def _mapped(self) -> NDArray[np.uint8]:
        if self._data is None:
            empty = os.path.getsize(self.folder / "data.bin") == 0  # an empty file cannot be mapped
            self._data = np.zeros(0, np.uint8) if empty else np.memmap(self.folder / "data.bin", np.uint8, mode="r")
        return self._data


@contextmanager
def writing(folder: Path) -> Generator[None, None, None]:
    """Turn a system error during a write into a sentence that names the folder and what to do.

    Raises:
        StoreWriteError: a write failed.
    """
    try:
        yield
    except StoreWriteError:
        raise
    except OSError as error:
        cause = os.strerror(error.errno).lower() if error.errno else str(error)
        full = error.errno in (errno.ENOSPC, errno.EDQUOT)
        raise StoreWriteError(
            f"cannot write the cache {folder}: {cause}; {'free some space (`scmrl data cache prune`), ' * full}"
            "choose another cache_folder, or set cache to off"
        ) from error


def write_store(folder: Path, samples: Iterable[Prepared | Absent], about: Mapping[str, Any]) -> None:
    """Write a complete store, then rename it to `folder`; if another process was first, its store stays.

    Raises:
        ValueError: the samples differ in type.
        StoreWriteError: the disk is full, or the folder is not writable.
    """
    part = folder.with_name(f"{folder.name}.{uuid4().hex[:8]}.part")
    with writing(folder.parent):
        part.mkdir(parents=True)
    try:
        _write(part, samples, about)
        with writing(folder):
            try:
                part.rename(folder)
            except OSError:
                if not (folder / "about.json").is_file():
                    raise
    finally:
        shutil.rmtree(part, ignore_errors=True)


def _write(part: Path, samples: Iterable[Prepared | Absent], about: Mapping[str, Any]) -> None:
    class_name = ""
    columns: dict[str, str] = {}
    offsets: list[int] = []
    checksums: list[int] = []
    shapes: list[dict[str, tuple[int, ...]]] = []
    absent: dict[int, str] = {}
    offset = 0
    with writing(part.parent):
        file = (part / "data.bin").open("wb")
    try:
        for number, sample in enumerate(samples):
            offsets.append(offset)
            checksums.append(0)
            if isinstance(sample, Absent):
                absent[number] = sample.reason
                shapes.append({})
                continue
            name, arrays = _to_arrays(sample)
            dtypes = {column: array.dtype.str for column, array in arrays.items()}
            if not class_name:
                class_name, columns = name, dtypes
            elif (name, dtypes) != (class_name, columns):
                raise ValueError(
                    f"sample {number} was prepared as {name} {dtypes}, but earlier samples as {class_name} "
                    f"{columns}; all samples of a modality need the same type"
                )
            shapes.append({column: array.shape for column, array in arrays.items()})
            for array in arrays.values():
                content = np.ascontiguousarray(array).data
                with writing(part.parent):
                    file.write(content)
                checksums[number] = zlib.crc32(content, checksums[number])
                offset += array.nbytes
        with writing(part.parent):
            file.flush()
            os.fsync(file.fileno())
    finally:
        with writing(part.parent):  # closing writes the rest of the buffer
            file.close()
    index = {"offsets": np.array(offsets, dtype=np.int64), "crc32": np.array(checksums, dtype=np.uint32)}
    for column in columns:
        dims = max(len(shape[column]) for shape in shapes if shape)
        index[f"shape_{column}"] = np.array(
            [shape.get(column, (0,) * dims) for shape in shapes], dtype=np.int64
        ).reshape(len(shapes), dims)
    content = io.BytesIO()
    np.savez(content, **index)  # pyright: ignore[reportArgumentType]
    text = {
        **about,
        "class": class_name,
        "columns": columns,
        "absent": {str(number): reason for number, reason in absent.items()},
        "samples": len(offsets),
        "bytes": offset,
        "index_sha256": hashlib.sha256(content.getbuffer()).hexdigest(),
    }
    text["checksum"] = _checksum_of(text)
    with writing(part.parent):
        (part / "index.npz").write_bytes(content.getbuffer())
        (part / "about.json").write_text(json.dumps(text, indent=1) + "\n", encoding="utf-8")


def _checksum_of(about: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(about, sort_keys=True).encode()).hexdigest()


def _plain_dtype(name: str) -> np.dtype[Any]:
    dtype = np.dtype(name)
    if dtype.kind not in "biuf":
        raise ValueError(f"arrays of type {name} are not allowed")
    return dtype


def size_of(sample: Prepared | Absent) -> int:
    """Return the bytes that a sample takes in a store."""
    return 0 if isinstance(sample, Absent) else sum(array.nbytes for array in _to_arrays(sample)[1].values())


def _to_arrays(sample: Prepared) -> tuple[str, dict[str, NDArray[Any]]]:
    if isinstance(sample, Tensor):
        return "Tensor", {"tensor": sample.contiguous().numpy()}
    if isinstance(sample, Events):
        return "Events", _pack(sample)
    return type(sample).__name__, {field.name: np.asarray(getattr(sample, field.name)) for field in fields(sample)}


def _restore(class_name: str, arrays: dict[str, NDArray[Any]]) -> Prepared:
    if class_name == "Tensor":
        return torch.from_numpy(arrays["tensor"])
    if class_name == "Events":
        return _unpack(arrays)
    values: dict[str, Any] = {}
    for field in fields(_CLASSES[class_name]):
        array = arrays[field.name]
        values[field.name] = int(array) if field.type == "int" else array
    return _CLASSES[class_name](**values)


def _pack(events: Events) -> dict[str, NDArray[Any]]:
    """Store each event as one flat pixel index and the time since the previous event: usually 3 or 4 bytes of 13."""
    # Validate first: an event out of range would be read back as a different one.
    events = Events.of(**{field.name: getattr(events, field.name) for field in fields(events)})
    (height, width), first = events.size, events.t[:1]
    index = (events.p.astype(np.int64) * height + events.y) * width + events.x
    step = np.diff(events.t, prepend=first)
    return {
        # The type also holds width and height, for the divisions in `_unpack`.
        "index": _narrow(index, events.polarities * height * width),
        "step": _narrow(step, int(step.max(initial=0))),
        "rest": np.array([*events.size, events.polarities, events.duration, first.sum()], np.int64),
    }


def _unpack(arrays: dict[str, NDArray[Any]]) -> Events:
    height, width, polarities, duration, first = arrays["rest"].tolist()
    index, step = _widen(arrays["index"]), _widen(arrays["step"])
    row = index // width
    p = row // height
    return Events(
        t=np.cumsum(step, dtype=np.int64) + first,
        x=(index - row * width).astype(np.uint16),
        y=(row - p * height).astype(np.uint16),
        p=p.astype(np.uint8),
        size=(height, width),
        polarities=polarities,
        duration=duration,
    )


def _narrow(values: NDArray[np.int64], largest: int) -> NDArray[np.uint8]:
    """Return values [N] from 0 to `largest` as bytes [N, 1, 2, 4 or 8], in the smallest type that holds `largest`."""
    narrow = values.astype(np.min_scalar_type(largest))
    return narrow.view(np.uint8).reshape(len(values), narrow.itemsize)


def _widen(array: NDArray[np.uint8]) -> NDArray[np.unsignedinteger[Any]]:
    """Return the integers [N] of bytes [N, 1, 2, 4 or 8]."""
    return array.view(f"u{array.shape[1]}")[:, 0]
