"""Prepared recordings of one modality in one memory-mapped file.

A store is a folder: `data.bin` holds the arrays of all samples one after another, `index.npz` where each begins and its
shape, `about.json` what it is. It is written under another name and renamed when it is whole, so whatever has the name
of a store is one; a writer that is killed leaves only a folder ending in `.part`, which nobody reads.
"""

# torch leaves some of its own signatures open.
# pyright: reportUnknownMemberType=false
from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterable, Mapping
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


class Store:
    """Read access to what `write_store` wrote. Opens its file when first used, so it can be sent to other processes."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        about = json.loads((folder / "about.json").read_text(encoding="utf-8"))
        self.absent: dict[int, str] = {int(index): reason for index, reason in about["absent"].items()}
        self._class: str = about["class"]
        self._columns: dict[str, str] = about["columns"]
        with np.load(folder / "index.npz") as index:
            self._offsets: NDArray[np.int64] = index["offsets"]
            self._shapes: dict[str, NDArray[np.int64]] = {name: index[f"shape_{name}"] for name in self._columns}
        self._data: NDArray[np.uint8] | None = None

    def __len__(self) -> int:
        """Return the number of samples, absent ones included."""
        return len(self._offsets)

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | {"_data": None}

    def __getitem__(self, index: int) -> Prepared | Absent:
        """One sample; its arrays are copies, free to be changed."""
        if index in self.absent:
            return Absent(self.absent[index])
        if self._data is None:
            empty = os.path.getsize(self.folder / "data.bin") == 0  # which cannot be mapped
            self._data = np.zeros(0, np.uint8) if empty else np.memmap(self.folder / "data.bin", np.uint8, mode="r")
        place = int(self._offsets[index])
        arrays: dict[str, NDArray[Any]] = {}
        for name, dtype in self._columns.items():
            shape = tuple(self._shapes[name][index].tolist())
            size = int(np.prod(shape, dtype=np.int64)) * np.dtype(dtype).itemsize
            arrays[name] = np.array(self._data[place : place + size]).view(dtype).reshape(shape)
            place += size
        return _restore(self._class, arrays)


def write_store(folder: Path, samples: Iterable[Prepared | Absent], about: Mapping[str, Any]) -> None:
    """Write a whole store, then give it its name; if another process was first, keep the other's.

    Raises:
        ValueError: the samples are not all of one type.
        OSError: the disk is full, or the folder cannot be written.
    """
    folder.parent.mkdir(parents=True, exist_ok=True)
    part = folder.with_name(f"{folder.name}.{uuid4().hex[:8]}.part")
    part.mkdir()
    try:
        _write(part, samples, about)
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
    shapes: list[dict[str, tuple[int, ...]]] = []
    absent: dict[int, str] = {}
    place = 0
    with (part / "data.bin").open("wb") as file:
        for number, sample in enumerate(samples):
            offsets.append(place)
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
                file.write(np.ascontiguousarray(array).data)
                place += array.nbytes
        file.flush()
        os.fsync(file.fileno())
    index = {"offsets": np.array(offsets, dtype=np.int64)}
    for column in columns:
        dims = max(len(shape[column]) for shape in shapes if shape)
        index[f"shape_{column}"] = np.array(
            [shape.get(column, (0,) * dims) for shape in shapes], dtype=np.int64
        ).reshape(len(shapes), dims)
    np.savez(part / "index.npz", **index)  # pyright: ignore[reportArgumentType]
    text = {**about, "class": class_name, "columns": columns, "absent": absent, "samples": len(offsets), "bytes": place}
    (part / "about.json").write_text(json.dumps(text, indent=1) + "\n", encoding="utf-8")


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
