"""Prepared recordings of one modality in one memory-mapped file.

A store is a folder: `data.bin` holds the arrays of all samples one after another, `index.npz` where each begins, its
shape and its checksum, `about.json` what it is and the checksums of the index and of itself. It is written under
another name and renamed when it is whole, so whatever has the name of a store is one; a writer that is killed leaves
only a folder ending in `.part`, which nobody reads. Description and index are verified when a store is opened, each
sample whenever it is read.
"""

# torch leaves some of its own signatures open.
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

from snn_datasets.recordings import Events, Image, Recording, Series, Video, Waveform

Prepared = Recording | Tensor
"""What can be stored."""

_CLASSES: dict[str, type[Recording]] = {cls.__name__: cls for cls in (Image, Video, Waveform, Events, Series)}


@dataclass(frozen=True, slots=True)
class Absent:
    """A recording that is not there or cannot be read, and why."""

    reason: str


class DamagedStoreError(ValueError):
    """A store is not what was written: cut off, changed, or of another version. Its text names the folder."""


class StoreWriteError(OSError):
    """A store cannot be written. Its text names the folder, the cause and what to do."""


class Store:
    """Read access to what `write_store` wrote. Opens its file when first used, so it can be sent to other processes."""

    def __init__(self, folder: Path) -> None:
        """Open a store and verify its description and index.

        Raises:
            DamagedStoreError: they are not what was written, or `data.bin` is not as long as it was.
            OSError: it cannot be read.
        """
        self.folder = folder
        self._data: NDArray[np.uint8] | None = None
        try:
            about = json.loads((folder / "about.json").read_bytes())
            index = (folder / "index.npz").read_bytes()
            length = (folder / "data.bin").stat().st_size
            if about.pop("checksum") != _checksum_of(about):
                raise ValueError("about.json is not what was written")
            if about["index_sha256"] != hashlib.sha256(index).hexdigest():
                raise ValueError("index.npz is not what was written")
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
            raise DamagedStoreError(f"the cache {folder} is damaged: it has no {Path(error.filename).name}") from error
        except (ValueError, LookupError, TypeError, AttributeError, RecursionError, zipfile.BadZipFile) as error:
            reason = f"it lacks {error}" if isinstance(error, KeyError) else error
            raise DamagedStoreError(f"the cache {folder} is damaged: {reason}") from error

    def __len__(self) -> int:
        """Return the number of samples, absent ones included."""
        return len(self._offsets)

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | {"_data": None}

    def __getitem__(self, index: int) -> Prepared | Absent:
        """One sample; its arrays are copies, free to be changed.

        Raises:
            DamagedStoreError: it is not what was written.
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
                copied = np.array(data[offset : offset + size])
                checksum = zlib.crc32(copied.data, checksum)
                arrays[name] = copied.view(dtype).reshape(shape)
                offset += size
            if checksum != self._checksums[index]:
                raise ValueError("its checksum is another one")
            return _restore(self._class, arrays)
        except (ValueError, LookupError, TypeError) as error:
            raise DamagedStoreError(f"the cache {self.folder} is damaged: sample {index}: {error}") from error

    def verify(self) -> None:
        """Read every sample once.

        Raises:
            DamagedStoreError: one is not what was written.
        """
        for index in range(len(self)):
            self[index]

    @property
    def bytes(self) -> int:
        """Size of all samples."""
        return len(self._mapped())

    def _mapped(self) -> NDArray[np.uint8]:
        if self._data is None:
            empty = os.path.getsize(self.folder / "data.bin") == 0  # which cannot be mapped
            self._data = np.zeros(0, np.uint8) if empty else np.memmap(self.folder / "data.bin", np.uint8, mode="r")
        return self._data


@contextmanager
def writing(folder: Path) -> Generator[None, None, None]:
    """Turn what the system says about a write into one sentence that names the folder and the way out.

    Raises:
        StoreWriteError: something could not be written.
    """
    try:
        yield
    except StoreWriteError:
        raise
    except OSError as error:
        cause = os.strerror(error.errno).lower() if error.errno else str(error)
        room = "free some (`scmrl data cache prune`), " if error.errno in (errno.ENOSPC, errno.EDQUOT) else ""
        raise StoreWriteError(
            f"the cache {folder} cannot be written: {cause}; {room}name another cache_folder, or set cache to off"
        ) from error


def write_store(folder: Path, samples: Iterable[Prepared | Absent], about: Mapping[str, Any]) -> None:
    """Write a whole store, then give it its name; if another process was first, keep the other's.

    Raises:
        ValueError: the samples are not all of one type.
        StoreWriteError: the disk is full, or the folder cannot be written.
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
    place = 0
    with writing(part.parent):
        file = (part / "data.bin").open("wb")
    try:
        for number, sample in enumerate(samples):
            offsets.append(place)
            checksums.append(0)
            if isinstance(sample, Absent):
                absent[number] = sample.reason
                shapes.append({})
                continue
            name, arrays = _take_apart(sample)
            described = {column: array.dtype.str for column, array in arrays.items()}
            if not class_name:
                class_name, columns = name, described
            elif (name, described) != (class_name, columns):
                raise ValueError(
                    f"sample {number} was prepared as {name} {described}, but those before it as {class_name} "
                    f"{columns}; a modality's samples need one type"
                )
            shapes.append({column: array.shape for column, array in arrays.items()})
            for array in arrays.values():
                content = np.ascontiguousarray(array).data
                with writing(part.parent):
                    file.write(content)
                checksums[number] = zlib.crc32(content, checksums[number])
                place += array.nbytes
        with writing(part.parent):
            file.flush()
            os.fsync(file.fileno())
    finally:
        with writing(part.parent):  # which writes what the buffer still holds
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
        "bytes": place,
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
        raise ValueError(f"it claims arrays of {name}")
    return dtype


def size_of(sample: Prepared | Absent) -> int:
    """Bytes that a sample takes in a store."""
    return 0 if isinstance(sample, Absent) else sum(array.nbytes for array in _take_apart(sample)[1].values())


def _take_apart(sample: Prepared) -> tuple[str, dict[str, NDArray[Any]]]:
    if isinstance(sample, Tensor):
        return "Tensor", {"tensor": sample.contiguous().numpy()}
    if isinstance(sample, Events):
        return "Events", _packed(sample)
    return type(sample).__name__, {field.name: np.asarray(getattr(sample, field.name)) for field in fields(sample)}


def _restore(class_name: str, arrays: dict[str, NDArray[Any]]) -> Prepared:
    if class_name == "Tensor":
        return torch.from_numpy(arrays["tensor"])
    if class_name == "Events":
        return _unpacked(arrays)
    values: dict[str, Any] = {}
    for field in fields(_CLASSES[class_name]):
        array = arrays[field.name]
        values[field.name] = int(array) if field.type == "int" else array
    return _CLASSES[class_name](**values)


def _packed(events: Events) -> dict[str, NDArray[Any]]:
    """Where each event is as one number, and when as the time since the one before: 3 or 4 bytes of 13, mostly."""
    # What is impossible would be read back as something else.
    events = Events.of(**{field.name: getattr(events, field.name) for field in fields(events)})
    (height, width), first = events.size, events.t[:1]
    place = (events.p.astype(np.int64) * height + events.y) * width + events.x
    step = np.diff(events.t, prepend=first)
    return {
        # Of a type that also holds width and height, for the divisions in `_unpacked`.
        "place": _narrow(place, events.polarities * height * width),
        "step": _narrow(step, int(step.max(initial=0))),
        "rest": np.array([*events.size, events.polarities, events.duration, first.sum()], np.int64),
    }


def _unpacked(arrays: dict[str, NDArray[Any]]) -> Events:
    height, width, polarities, duration, first = arrays["rest"].tolist()
    place, step = _wide(arrays["place"]), _wide(arrays["step"])
    row = place // width
    p = row // height
    return Events(
        t=np.cumsum(step, dtype=np.int64) + first,
        x=(place - row * width).astype(np.uint16),
        y=(row - p * height).astype(np.uint16),
        p=p.astype(np.uint8),
        size=(height, width),
        polarities=polarities,
        duration=duration,
    )


def _narrow(numbers: NDArray[np.int64], largest: int) -> NDArray[np.uint8]:
    """The bytes [N, 1, 2, 4 or 8] of numbers [N] from 0 to `largest`, as few as hold that."""
    narrow = numbers.astype(np.min_scalar_type(largest))
    return narrow.view(np.uint8).reshape(len(numbers), narrow.itemsize)


def _wide(array: NDArray[np.uint8]) -> NDArray[np.unsignedinteger[Any]]:
    """The numbers [N] of bytes [N, 1, 2, 4 or 8]."""
    return array.view(f"u{array.shape[1]}")[:, 0]
