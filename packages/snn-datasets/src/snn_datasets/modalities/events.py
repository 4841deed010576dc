"""The reader of event recordings in NumPy files, and stages on events and event frames."""

# Some signatures of torch are untyped.
# pyright: reportUnknownMemberType=false
from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, field_validator

from snn_datasets.base.kinds import RecordingKind
from snn_datasets.base.reader import Reader, ReadError, Source
from snn_datasets.base.recordings import Events
from snn_datasets.base.stage import Draw, Stage
from snn_datasets.formats.event_arrays import events_of, read_event_columns

if TYPE_CHECKING:
    from torch import Tensor


_MICROSECONDS = {"us": 1, "ms": 1000, "s": 1_000_000}


class EventsReader(Reader):
    """Reads events from a .npy or .npz file. Pickled Python objects are refused, since reading them runs code.

    Three layouts are supported: one array [E, 4] of numbers with the columns that `columns` names; one structured
    array [E] with fields t, x, y, p (also ts, time, timestamp, pol, polarity, addr); an .npz file of such an array, or
    of one array [E] for each of t, x, y, p.

    The part of a source is (start, end) in microseconds of the file's clock: the events with start <= t < end, whose
    times then count from start.
    """

    kind: Literal["events"] = "events"
    """Events in NumPy files."""
    gives: ClassVar[RecordingKind] = "events"
    relies_on: ClassVar[tuple[str, ...]] = ("snn_datasets.formats.event_arrays",)

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
        """Read one recording; it ends just after its last event, or at the end of the part."""
        path = self.open_file(source)
        needed = ("t", "x", *("y" * (self.height > 1)), *("p" * (self.polarities == 2)))
        columns = read_event_columns(path, self.columns, needed)
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
