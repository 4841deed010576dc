"""The reader of event recordings in NumPy files, and stages on events and event frames."""

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

from snn_datasets.base.kinds import RecordingKind
from snn_datasets.base.reader import Reader, ReadError, Source
from snn_datasets.base.recordings import Events
from snn_datasets.base.stage import Draw, Stage

if TYPE_CHECKING:
    from torch import Tensor

LARGEST_UNPACKED = 256 * 2**20
"""Largest size in bytes of the unpacked arrays of one .npz file; far more than a recording of some seconds takes."""

SHORTEST_RUN = 16
"""A drop in time counts as a clock reset only if at least this many events lie before and after it."""

_MICROSECONDS = {"us": 1, "ms": 1000, "s": 1_000_000}
_NAMES = {
    "t": ("t", "ts", "time", "timestamp", "timestamps"),
    "x": ("x", "addr", "address", "channel"),
    "y": ("y",),
    "p": ("p", "pol", "polarity"),
}
_HEADERS = {1: np.lib.format.read_array_header_1_0, 2: np.lib.format.read_array_header_2_0}


class EventsReader(Reader):
    """Reads events from a .npy or .npz file. Pickled Python objects are refused, since reading them runs code.

    Three layouts are supported: one array [E, 4] of numbers with the columns that `columns` names; one structured
    array [E] with fields t, x, y, p (also ts, time, timestamp, pol, polarity, addr); an .npz file of such an array, or
    of one array [E] for each of t, x, y, p.

    The part of a source is (start, end) in microseconds of the file's clock: the events with start <= t < end, whose
    times then count from start.
    """

    kind: Literal["events"] = "events"
    """Names this reader."""
    gives: ClassVar[RecordingKind] = "events"

    height: int = Field(ge=1, le=2**16)
    """Rows of the sensor; 1 for channels without a plane."""
    width: int = Field(ge=1, le=2**16)
    """Columns of the sensor, or channels."""
    polarities: Literal[1, 2] = 2
    """1 ignores the polarities of the file; 2 expects 0 and 1, or -1 and 1, for off and on."""
    columns: str = "txyp"
    """Order of the columns of an unstructured array [E, columns], one letter each; y and p may be missing."""
    time_unit: Literal["us", "ms", "s"] = "us"
    """Unit of the times in the file."""
    start: Literal["zero", "first"] = "zero"
    """Start of the recording: time 0 of the file, or its first event."""

    @field_validator("columns")
    @classmethod
    def _check_columns(cls, columns: str) -> str:
        if len(set(columns)) < len(columns) or not {"t", "x"} <= set(columns) <= set("txyp"):
            raise ValueError(f"columns {columns!r} must be t, x and optionally y and p, each once")
        return columns

    def read(self, source: Source) -> Events:
        """Read one recording; it ends just after its last event, or at the end of the part.

        Raises:
            FileNotFoundError: the file does not exist.
            ReadError: it is not a NumPy file of events, or has events that the sensor cannot send.
        """
        path = self.open_file(source)
        columns = _columns_of(path, _arrays(path), self.columns)
        for needed in ("t", "x", *("y" * (self.height > 1)), *("p" * (self.polarities == 2))):
            if needed not in columns:
                raise ReadError(
                    f"{path} has no {needed} column, only {', '.join(columns) or 'unnamed ones'}; set the reader's "
                    "columns, or set height or polarities to 1"
                )
        t = self._times(path, columns["t"])
        x = _coordinates(path, "x", columns["x"])
        y = _coordinates(path, "y", columns["y"]) if "y" in columns else np.zeros_like(x)
        p = _polarity(path, columns["p"]) if self.polarities == 2 else np.zeros_like(x)
        if self.start == "first" and len(t):
            t = t - t.min()
        return events_of(source, t=t, x=x, y=y, p=p, size=(self.height, self.width), polarities=self.polarities)

    def _times(self, path: Path, times: NDArray[Any]) -> NDArray[np.int64]:
        factor = _MICROSECONDS[self.time_unit]
        # Beyond this, neither float64 nor the product is exact.
        if len(times) and not _largest(times) < 2**53 // factor:
            raise ReadError(
                f"{path}: a time is {_largest(times):g} {self.time_unit}, which is out of range; fetch the file again, "
                "or correct time_unit"
            )
        if times.dtype.kind != "f":
            return times.astype(np.int64) * factor
        exact = times.astype(np.float64)
        if self.time_unit == "us" and bool((exact != np.floor(exact)).any()):
            raise ReadError(
                f"{path}: times such as {exact[exact != np.floor(exact)][0]:g} are fractions, but microseconds are "
                "integers; set the reader's time_unit to s or ms"
            )
        _refuse_lost_times(path, times, factor, self.time_unit)
        return np.rint(exact * factor).astype(np.int64)


def event_columns_in(path: Path, columns: str = "txyp") -> dict[str, NDArray[Any]]:
    """Return the columns t, x, y, p [E] of a NumPy file of events, unconverted; y and p may be missing.

    Raises:
        ReadError: it is not such a file, or has no t or x.
    """
    named_columns = _columns_of(path, _arrays(path), columns)
    for needed in ("t", "x"):
        if needed not in named_columns:
            raise ReadError(f"{path} has no {needed} column, only {', '.join(named_columns) or 'unnamed ones'}")
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


def _refuse_lost_times(path: Path, times: NDArray[Any], factor: int, unit: str) -> None:
    """Refuse float16 or float32 times so large that their resolution is too coarse."""
    if times.dtype.itemsize >= 8 or len(times) < 2:
        return
    largest = np.asarray(_largest(times)).astype(times.dtype)
    step = float(np.spacing(largest)) * factor  # in microseconds
    span = (float(times.max()) - float(times.min())) * factor
    if step > 1 and span < 256 * step:
        raise ReadError(
            f"{path}: its times are {times.dtype}, whose resolution at {float(largest):g} {unit} is only "
            f"{step / 1000:g} ms; save them as float64 or int64, or subtract the first one before saving"
        )


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


def _largest(values: NDArray[Any]) -> float:
    """Return the largest magnitude; NaN if a value is NaN."""
    return max(abs(float(values.min())), abs(float(values.max())))


def _coordinates(path: Path, name: str, values: NDArray[Any]) -> NDArray[np.int64]:
    """Return pixel coordinates as integers."""
    if len(values) and not _largest(values) < 2**31:
        raise ReadError(f"{path}: {name} of an event is {_largest(values):g}, out of range; fetch it again")
    integers = values.astype(np.int64)
    if values.dtype.kind == "f" and bool((integers != values).any()):
        raise ReadError(
            f"{path}: {name} of an event is {float(values[integers != values][0]):g}, but coordinates are integers; "
            "check the order of the columns"
        )
    return integers


def _polarity(path: Path, values: NDArray[Any]) -> NDArray[np.uint8]:
    """Return 1 for on, 0 for off."""
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
    """Rescales the coordinates of events to a plane of another size. No event is lost; counts of merged pixels add up.

    Channels are a plane of height 1: width 140 merges groups of five out of 700.
    """

    height: int = Field(ge=1, le=2**16)
    """Target rows."""
    width: int = Field(ge=1, le=2**16)
    """Target columns."""

    def __call__(self, value: Events, draw: Draw) -> Events:
        """`Events` -> `Events` of size (height, width)."""
        height, width = value.size
        y = (value.y.astype(np.int64) * self.height // height).astype(np.uint16)
        x = (value.x.astype(np.int64) * self.width // width).astype(np.uint16)
        return replace(value, x=x, y=y, size=(self.height, self.width))


class Fold(Stage):
    """Arranges channels in a plane, row by row: channel c goes to row c // width, column c % width.

    For networks that need an image; neighbors in the plane need not be neighboring channels.
    """

    height: int = Field(ge=1, le=2**15)
    """Rows; height x width must equal the number of channels."""
    width: int = Field(ge=1, le=2**15)
    """Columns."""

    def __call__(self, value: Events, draw: Draw) -> Events:
        """`Events` of size (1, height x width) -> `Events` of size (height, width).

        Raises:
            ValueError: the number of channels differs, or the events have a plane already.
        """
        if value.size != (1, self.height * self.width):
            raise ValueError(
                f"Fold to {self.height} x {self.width} takes {self.height * self.width} channels, but the events have "
                f"size {value.size[0]} x {value.size[1]}"
            )
        return replace(value, x=value.x % self.width, y=value.x // self.width, size=(self.height, self.width))


class FitDuration(Stage):
    """Gives every recording the same duration: later events are cut off, shorter recordings end in silence.

    Time steps are then equally long in every recording.
    """

    seconds: float = Field(gt=0, le=4000)
    """Target duration."""

    def __call__(self, value: Events, draw: Draw) -> Events:
        """`Events` -> `Events` of that duration."""
        duration = max(1, round(self.seconds * 1e6))
        inside = slice(int(np.searchsorted(value.t, duration)))
        return replace(
            value, t=value.t[inside], x=value.x[inside], y=value.y[inside], p=value.p[inside], duration=duration
        )


class Shift(Stage):
    """Shifts all events by one random offset, uniform in both axes; events that leave the plane are dropped.

    Equivalent to a random crop of frames padded with zeros.
    """

    draws: ClassVar[bool] = True

    pixels: int = Field(ge=0, le=2**15)
    """Largest offset along each axis."""

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
    """Flattens the plane of event frames, for channels that have none."""

    def __call__(self, value: Tensor, draw: Draw) -> Tensor:
        """Frames [T, P, H, W] -> [T, P x H x W]."""
        return value.flatten(1)


class StretchFrames(Stage):
    """Resizes event frames by bilinear interpolation."""

    height: int = Field(ge=1, le=4096)
    """Target rows."""
    width: int = Field(ge=1, le=4096)
    """Target columns."""

    def __call__(self, value: Tensor, draw: Draw) -> Tensor:
        """Frames [T, P, H, W] -> [T, P, height, width]."""
        from torch.nn.functional import interpolate

        return interpolate(value, (self.height, self.width), mode="bilinear", align_corners=False)
