"""Recordings of events: NumPy files of them, and stages that move events about."""

# torch leaves some of its own signatures open.
# pyright: reportUnknownMemberType=false
from __future__ import annotations

import io
import zipfile
from collections.abc import Mapping
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, field_validator

from snn_datasets.kinds import RecordingKind
from snn_datasets.reader import Reader, ReadError, Source
from snn_datasets.recordings import Events
from snn_datasets.stage import Draw, Stage

if TYPE_CHECKING:
    from torch import Tensor

LARGEST_UNPACKED = 256 * 2**20
"""Bytes that the arrays of one .npz file may have in memory; far more than any recording of some seconds."""

SHORTEST_RUN = 16
"""Events before and after a fall of the time from which on it is taken for a clock that was set back."""

_MICROSECONDS = {"us": 1, "ms": 1000, "s": 1_000_000}
_NAMES = {
    "t": ("t", "ts", "time", "timestamp", "timestamps"),
    "x": ("x", "addr", "address", "channel"),
    "y": ("y",),
    "p": ("p", "pol", "polarity"),
}
_HEADERS = {1: np.lib.format.read_array_header_1_0, 2: np.lib.format.read_array_header_2_0}


class EventsReader(Reader):
    """Reads events from a NumPy file: .npy or .npz. Python objects in it are refused, since reading them runs code.

    Three ways to write them are understood: one array [E, 4] of numbers with the columns that `columns` names; one
    structured array [E] with fields t, x, y, p (also ts, time, timestamp, pol, polarity, addr); an .npz file of such
    an array, or of one array [E] for each of t, x, y, p.

    A source's part is (start, end) in microseconds of the file's own time: the events from start on and before end,
    with time from start on.
    """

    kind: Literal["events"] = "events"
    """Names this reader."""
    gives: ClassVar[RecordingKind] = "events"

    height: int = Field(ge=1, le=2**16)
    """Rows of the sensor; 1 where there are only channels."""
    width: int = Field(ge=1, le=2**16)
    """Columns of the sensor, or channels."""
    polarities: Literal[1, 2] = 2
    """1 ignores what the file says of polarity; 2 expects 0 and 1, or -1 and 1, for off and on."""
    columns: str = "txyp"
    """Order of the columns of an array [E, columns], a letter each; y and p may be lacking. Others are named."""
    time_unit: Literal["us", "ms", "s"] = "us"
    """Unit of the times in the file."""
    start: Literal["zero", "first"] = "zero"
    """When the recording begins: at time 0 of the file, or at its first event."""

    @field_validator("columns")
    @classmethod
    def _known_columns(cls, columns: str) -> str:
        if len(set(columns)) < len(columns) or not {"t", "x"} <= set(columns) <= set("txyp"):
            raise ValueError(f"columns {columns!r} have to be t, x and, where there are any, y and p, once each")
        return columns

    def read(self, source: Source) -> Events:
        """Read one recording; it ends just after its last event, or where the part does.

        Raises:
            FileNotFoundError: there is no such file.
            ReadError: it is no NumPy file, holds something else than events, or events that the sensor cannot send.
        """
        path = self.open_file(source)
        columns = _columns_of(path, _arrays(path), self.columns)
        for needed in ("t", "x", *("y" * (self.height > 1)), *("p" * (self.polarities == 2))):
            if needed not in columns:
                raise ReadError(
                    f"{path} holds no {needed} of its events, but {', '.join(columns) or 'nothing that has a name'}; "
                    "say in the reader which columns there are, or set height or polarities to 1"
                )
        t = self._times(path, columns["t"])
        x = _whole(path, "x", columns["x"])
        y = _whole(path, "y", columns["y"]) if "y" in columns else np.zeros_like(x)
        p = _polarity(path, columns["p"]) if self.polarities == 2 else np.zeros_like(x)
        if self.start == "first" and len(t):
            t = t - t.min()
        return events_of(source, t=t, x=x, y=y, p=p, size=(self.height, self.width), polarities=self.polarities)

    def _times(self, path: Path, times: NDArray[Any]) -> NDArray[np.int64]:
        factor = _MICROSECONDS[self.time_unit]
        # Beyond, neither floats nor products are exact.
        if len(times) and not _largest(times) < 2**53 // factor:
            raise ReadError(
                f"{path}: a time is {_largest(times):g} {self.time_unit}, which is none; fetch the file again, or "
                "correct the unit"
            )
        if times.dtype.kind != "f":
            return times.astype(np.int64) * factor
        exact = times.astype(np.float64)
        if self.time_unit == "us" and bool((exact != np.floor(exact)).any()):
            raise ReadError(
                f"{path}: times such as {exact[exact != np.floor(exact)][0]:g} are fractions, but microseconds are "
                "whole; give its reader the time_unit s or ms"
            )
        _refuse_lost_times(path, times, factor, self.time_unit)
        return np.rint(exact * factor).astype(np.int64)


def event_columns_in(path: Path, columns: str = "txyp") -> dict[str, NDArray[Any]]:
    """The columns t, x, y, p [E] of a NumPy file of events as they are stored; y and p may be lacking.

    Raises:
        ReadError: it is no such file, or holds no t or x.
    """
    named_columns = _columns_of(path, _arrays(path), columns)
    for needed in ("t", "x"):
        if needed not in named_columns:
            raise ReadError(
                f"{path} holds no {needed} of its events, but {', '.join(named_columns) or 'nothing that has a name'}"
            )
    return named_columns


def _columns_of(path: Path, arrays: Mapping[str, NDArray[Any]], columns: str) -> dict[str, NDArray[Any]]:
    if len(arrays) == 1:
        (array,) = arrays.values()
        if array.dtype.names is not None and array.ndim == 1:
            named: dict[str, NDArray[Any]] = {name: array[name] for name in array.dtype.names}
        elif array.dtype.names is None and array.ndim == 2 and array.shape[1] == len(columns):
            named = {name: array[:, index] for index, name in enumerate(columns)}
        else:
            raise ReadError(
                f"{path} holds an array {array.shape} of {array.dtype}, but events are an array [E, {len(columns)}] of "
                f"the columns {columns!r}, or one [E] with named fields; save it so"
            )
    else:
        named = dict(arrays)
    lower = {name.lower(): column for name, column in named.items()}
    named = lower if len(lower) == len(named) else named
    selected: dict[str, NDArray[Any]] = {}
    for name, spellings in _NAMES.items():
        present = [spelling for spelling in spellings if spelling in named]
        if len(present) > 1:
            raise ReadError(f"{path} holds both {present[0]!r} and {present[1]!r}; keep the one that is meant")
        if present:
            selected[name] = named[present[0]]
    for name, column in selected.items():
        if column.ndim != 1 or column.dtype.kind not in "biuf":
            raise ReadError(
                f"{path}: {name} of its events has shape {column.shape} and type {column.dtype}, but has to be [E] "
                "numbers; save it so"
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
    """The events of a source, or those of its part (start, end) in microseconds; for readers.

    Raises:
        ReadError: an event is impossible, or the part is none.
    """
    if source.part:
        if len(source.part) != 2 or not all(isinstance(bound, int) for bound in source.part):
            raise ReadError(f"{source}: the part has to be (start, end) in whole microseconds")
        first, end = (int(bound) for bound in source.part)
        if not first < end:
            raise ReadError(f"{source}: the part ends at {end} us, which is not after its start at {first} us")
        inside = (t >= first) & (t < end)
        t, x, y, p = t[inside] - first, x[inside], y[inside], p[inside]
        duration = end - first
    refuse_reset_clock(source, t, x, p)
    try:
        return Events.of(t=t, x=x, y=y, p=p, size=size, polarities=polarities, duration=duration)
    except ValueError as error:
        raise ReadError(
            f"{source}: {error}; if the file is whole, correct what the reader is told of it (sensor, columns, unit, "
            "start)"
        ) from error


def _arrays(path: Path) -> dict[str, NDArray[Any]]:
    """The arrays of a NumPy file by name; one of an .npy file has the name ""."""
    try:
        data = path.read_bytes()
        if not data.startswith(b"PK"):
            return {"": _array(data)}
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            members = [member for member in archive.infolist() if member.filename.endswith(".npy")]
            size = sum(member.file_size for member in members)
            if size > LARGEST_UNPACKED:
                raise ReadError(
                    f"{path} unpacks to {size / 2**20:,.0f} MB, far more than a recording; save it in parts of at most "
                    f"{LARGEST_UNPACKED >> 20} MB"
                )
            # NumPy writes no others, and others may claim any amount of memory to unpack.
            if not {member.compress_type for member in members} <= {zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED}:
                raise ReadError(f"{path} is packed in a way that NumPy does not know; fetch it again")
            return {member.filename.removesuffix(".npy"): _array(archive.read(member)) for member in members}
    except ReadError:
        raise
    except Exception as error:  # zipfile, zlib and NumPy's header parser raise errors of many types on a broken file
        raise ReadError(f"{path} is no NumPy file of numbers: {error}; fetch it again") from error


def _array(data: bytes) -> NDArray[Any]:
    """An array from the bytes of an .npy file, without believing the size that its header claims."""
    stream = io.BytesIO(data)
    version, _ = np.lib.format.read_magic(stream)
    if version not in _HEADERS:
        raise ValueError(f"its header is of version {version}")
    shape, by_column, dtype = _HEADERS[version](stream)
    if dtype.hasobject:
        raise ValueError("it holds Python objects, and reading those runs code")
    count = 1
    for n in shape:
        count *= n
    if min(shape, default=0) < 0 or count * dtype.itemsize != len(data) - stream.tell():
        raise ValueError(f"{shape} numbers of {dtype} do not fit its {len(data)} bytes")
    if not count or not dtype.itemsize:
        return np.zeros(shape if count == 0 else (0,), dtype)
    return np.frombuffer(data, dtype, offset=stream.tell()).reshape(shape, order="F" if by_column else "C")


def _refuse_lost_times(path: Path, times: NDArray[Any], factor: int, unit: str) -> None:
    """Refuse times of 16 or 32 bits that are so large that few of them can be told apart."""
    if times.dtype.itemsize >= 8 or len(times) < 2:
        return
    largest = np.asarray(_largest(times)).astype(times.dtype)
    step = float(np.spacing(largest)) * factor  # in microseconds
    span = (float(times.max()) - float(times.min())) * factor
    if step > 1 and span < 256 * step:
        raise ReadError(
            f"{path}: its times are {times.dtype}, which at {float(largest):g} {unit} tells apart only steps of "
            f"{step / 1000:g} ms; save them as float64 or int64, or subtract the first one before saving"
        )


def refuse_reset_clock(path: object, t: NDArray[np.int64], x: NDArray[np.integer], p: NDArray[np.integer]) -> None:
    """Refuse events whose clock was set back while recording: put in order, they would be mixed up.

    A few events out of order are usual and harmless, and so are files ordered by polarity or place rather than time:
    then polarity or x is the same between one fall of the time and the next.

    Raises:
        ReadError: the time falls back by far, once or a few times.
    """
    falls = np.flatnonzero(np.diff(t) < 0) + 1
    if not len(falls) or len(falls) > max(8, len(t) // 1000):
        return
    span = int(t.max()) - int(t.min())
    far = falls[(t[falls - 1] - t[falls]) * 20 > span]
    if not len(far):
        return
    runs = np.concatenate([[0], far, [len(t)]])
    if np.diff(runs).min() < SHORTEST_RUN:
        return
    for column in (p, x):
        if all((column[start:end] == column[start]).all() for start, end in pairwise(runs.tolist())):
            return
    index = int(far[0])
    raise ReadError(
        f"{path}: event {index + 1} is at {t[index] / 1e6:g} s, after one at {t[index - 1] / 1e6:g} s: the clock was "
        "set back while recording, or two recordings were joined; cut the file there, or add what is missing to the "
        "later times"
    )


def _largest(values: NDArray[Any]) -> float:
    """The largest magnitude; not a number if one of them is none."""
    return max(abs(float(values.min())), abs(float(values.max())))


def _whole(path: Path, name: str, values: NDArray[Any]) -> NDArray[np.int64]:
    """Places as whole numbers."""
    if len(values) and not _largest(values) < 2**31:
        raise ReadError(f"{path}: {name} of an event is {_largest(values):g}, which is no place; fetch it again")
    whole = values.astype(np.int64)
    if values.dtype.kind == "f" and bool((whole != values).any()):
        raise ReadError(
            f"{path}: {name} of an event is {float(values[whole != values][0]):g}, but a place is a whole number; "
            "check the order of the columns"
        )
    return whole


def _polarity(path: Path, values: NDArray[Any]) -> NDArray[np.uint8]:
    """1 for on, 0 for off."""
    on, off, minus = values == 1, values == 0, values == -1
    if values.dtype.kind == "u" and {int(value) for value in np.unique(values)[:3]} <= {1, np.iinfo(values.dtype).max}:
        raise ReadError(
            f"{path}: polarities are 1 and {np.iinfo(values.dtype).max}, which is -1 as {values.dtype} stores it; save "
            "them as int8, or as 0 and 1"
        )
    if not bool((on | off | minus).all()) or (bool(off.any()) and bool(minus.any())):
        raise ReadError(
            f"{path}: polarities are not 0 and 1, nor -1 and 1, but {[float(v) for v in np.unique(values)[:4]]}; "
            "check the order of the columns"
        )
    return on.astype(np.uint8)


class ScalePlane(Stage):
    """Moves events to a plane of another size. Each of them stays an event: nothing is lost, counts add up.

    Units that lie in a row are a plane of height 1: width 140 merges each five of 700 neighbors.
    """

    height: int = Field(ge=1, le=2**16)
    """Rows afterwards."""
    width: int = Field(ge=1, le=2**16)
    """Columns afterwards."""

    def __call__(self, value: Events, draw: Draw) -> Events:
        """`Events` -> `Events` of size (height, width)."""
        height, width = value.size
        y = (value.y.astype(np.int64) * self.height // height).astype(np.uint16)
        x = (value.x.astype(np.int64) * self.width // width).astype(np.uint16)
        return replace(value, x=x, y=y, size=(self.height, self.width))


class Fold(Stage):
    """Lays channels that have no plane out in one, row by row: channel c to row c // width, column c % width.

    The plane is for networks that want a picture; neighbors in it need not be neighbors in what was recorded.
    """

    height: int = Field(ge=1, le=2**15)
    """Rows; height x width has to be the number of channels."""
    width: int = Field(ge=1, le=2**15)
    """Columns."""

    def __call__(self, value: Events, draw: Draw) -> Events:
        """`Events` of size (1, height x width) -> `Events` of size (height, width).

        Raises:
            ValueError: another number of channels, or there is a plane already.
        """
        if value.size != (1, self.height * self.width):
            raise ValueError(
                f"Fold to {self.height} x {self.width} takes {self.height * self.width} channels, but the events lie "
                f"on {value.size[0]} x {value.size[1]}"
            )
        return replace(value, x=value.x % self.width, y=value.x // self.width, size=(self.height, self.width))


class FitDuration(Stage):
    """Gives every recording the same duration: what comes later is cut off, what is shorter is followed by silence.

    Steps of equal parts of the duration are then equally long in every recording.
    """

    seconds: float = Field(gt=0, le=4000)
    """Duration afterwards."""

    def __call__(self, value: Events, draw: Draw) -> Events:
        """`Events` -> `Events` of that duration."""
        duration = max(1, round(self.seconds * 1e6))
        kept = slice(int(np.searchsorted(value.t, duration)))
        return replace(value, t=value.t[kept], x=value.x[kept], y=value.y[kept], p=value.p[kept], duration=duration)


class Shift(Stage):
    """Shifts all events by the same random distance, each direction alike; those that leave the plane are dropped.

    It is what cropping frames at random after padding them with zeros does.
    """

    draws: ClassVar[bool] = True

    pixels: int = Field(ge=0, le=2**15)
    """Furthest distance, across and along."""

    def __call__(self, value: Events, draw: Draw) -> Events:
        """`Events` -> `Events` of the same size and duration."""
        import torch

        drawn = torch.randint(-self.pixels, self.pixels + 1, (2,), generator=draw.generator())
        down, right = int(drawn[0]), int(drawn[1])
        y, x = value.y.astype(np.int64) + down, value.x.astype(np.int64) + right
        inside = (y >= 0) & (y < value.size[0]) & (x >= 0) & (x < value.size[1])
        return replace(
            value,
            t=value.t[inside],
            x=x[inside].astype(np.uint16),
            y=y[inside].astype(np.uint16),
            p=value.p[inside],
        )


class FlattenFrames(Stage):
    """Takes the plane away from frames, as for channels that have none."""

    def __call__(self, value: Tensor, draw: Draw) -> Tensor:
        """Frames [T, P, H, W] -> [T, P x H x W]."""
        return value.flatten(1)


class StretchFrames(Stage):
    """Stretches frames to another size, with straight lines between the values (bilinear)."""

    height: int = Field(ge=1, le=4096)
    """Rows afterwards."""
    width: int = Field(ge=1, le=4096)
    """Columns afterwards."""

    def __call__(self, value: Tensor, draw: Draw) -> Tensor:
        """Frames [T, P, H, W] -> [T, P, height, width]."""
        from torch.nn.functional import interpolate

        return interpolate(value, (self.height, self.width), mode="bilinear", align_corners=False)
